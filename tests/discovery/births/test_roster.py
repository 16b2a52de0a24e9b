"""Which devices of a door are there: what the broker keeps, what comes, and bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatewayd.device.identity import Claim
from gatewayd.discovery.births.port import (
    Alive,
    Announced,
    BirthNews,
    Departed,
    Listed,
    Status,
    Withdrawn,
    Words,
)
from gatewayd.discovery.births.roster import STATUSES, DeviceStanding, Roster
from gatewayd.discovery.discoverer import Health
from gatewayd.discovery.probing.protocol import Found
from tests.discovery.births.published import birth

LIVE, KEPT = birth("t", b"", at=5.0), birth("t", b"", retained=True, at=5.0)


def announced(key: str = "a", part: str = "p", **changed: object) -> Announced:
    found = Found(key, frozenset(), {"name": key}, key, 0.0)
    return replace(Announced(found, part), **changed)  # type: ignore[arg-type]  # of any field


def roster(limit: int = 8) -> Roster:
    return Roster(limit, lambda found: int(found.label.startswith("w")), Health())


def put(made: Roster, news: BirthNews, *, kept: bool = False) -> tuple[str, ...]:
    return tuple(made.apply("d", news, KEPT if kept else LIVE))


def standing(made: Roster, key: str = "a") -> DeviceStanding:
    entry = made.get(key)
    assert entry is not None
    return made.standing(entry)


def test_what_is_kept_is_unknown_until_something_says_that_it_is_there() -> None:
    made = roster()
    news = announced(availability={"will": Words("on", "off")})
    assert put(made, news, kept=True) == ("a",)
    assert standing(made) is DeviceStanding.UNKNOWN
    assert put(made, Status("will", "on"), kept=True) == ("a",)
    assert standing(made) is DeviceStanding.THERE
    put(made, Status("will", "off"))
    assert standing(made) is DeviceStanding.GONE
    put(made, Status("will", "something else"))
    assert standing(made) is DeviceStanding.UNKNOWN


def test_a_live_message_shows_that_a_device_is_there_and_not_for_how_long() -> None:
    made = roster()
    put(made, announced())
    assert standing(made) is DeviceStanding.SEEN
    put(made, announced(is_lasting=True))
    assert standing(made) is DeviceStanding.THERE
    made.disconnected(9.0)
    assert standing(made) is DeviceStanding.SEEN, "its end may have been missed since"
    entry = made.get("a")
    assert entry is not None
    assert entry.alive_at == 9.0
    made.disconnected(10.0)
    assert entry.alive_at == 9.0


@pytest.mark.parametrize(
    ("any_topic", "expected"), [(True, DeviceStanding.THERE), (False, DeviceStanding.GONE)]
)
def test_of_several_topics_one_is_enough_or_none_may_object(
    any_topic: bool, expected: DeviceStanding
) -> None:
    made = roster()
    topics = {"one": Words(), "two": Words(), "three": Words()}
    put(made, announced(availability=topics, any_topic=any_topic))
    put(made, Status("one", "online"))
    assert standing(made) is DeviceStanding.THERE, "nothing is known of the others"
    put(made, Status("two", "offline"))
    assert standing(made) is expected


def test_a_kept_goodbye_or_answer_says_nothing() -> None:
    made = roster()
    put(made, announced(question=("q",)))
    assert put(made, Departed("a"), kept=True) == ()
    assert put(made, Alive(("q",)), kept=True) == ()
    assert put(made, Departed("a")) == ("a",)
    assert standing(made) is DeviceStanding.GONE
    assert put(made, announced(), kept=True) == ("a",)
    assert standing(made) is DeviceStanding.GONE, "what the broker keeps is older"
    assert put(made, Alive(("q",))) == ("a",)
    assert standing(made) is DeviceStanding.SEEN


def test_a_device_of_many_messages_is_gone_with_the_last_of_them() -> None:
    made = roster()
    assert put(made, announced("a", "p1", aliases=("x", "y"))) == ("a",)
    assert put(made, announced("b", "p2", aliases=("y",))) == ("a",), "the same by an alias"
    assert put(made, Withdrawn("p1")) == ()
    assert put(made, Withdrawn("p2")) == ("a",)
    assert len(made) == 0
    assert put(made, announced("b", "p2", aliases=("y",))) == ("b",)


def test_a_later_message_adds_and_replaces() -> None:
    made = roster()
    mac, serial = Claim("mac", "k", "a0b7a5000001"), Claim("serial", "s", "1")
    first = Found("a", frozenset({mac, serial}), {"name": "old", "model": "m"}, "old", 0.0)
    second = Found("a", frozenset({serial._replace(value="2")}), {"name": "new"}, "new", 0.0)
    put(made, Announced(first, "p1"))
    put(made, Announced(second, "p1"))
    entry = made.get("a")
    assert entry is not None
    assert entry.newest.found.claims == {mac, serial._replace(value="2")}
    assert entry.newest.found.attributes == {"name": "new", "model": "m"}
    assert entry.newest.found.label == "new"


def of_mac(mac: str, part: str) -> Announced:
    claimed = frozenset({Claim("mac", "k", mac)})
    found = Found("a", claimed, {"mac": mac}, "a", 0.0)
    return Announced(found, part, availability={f"{part}/will": Words()})


def mac_of(made: Roster) -> str:
    entry = made.get("a")
    assert entry is not None
    return entry.newest.found.attributes["mac"]


def test_by_a_message_of_its_own_no_publisher_gives_a_device_another_mac() -> None:
    made = roster()
    put(made, of_mac("a0b7a5000001", "p"))
    assert put(made, of_mac("a0b7a5000066", "q")) == ()
    assert mac_of(made) == "a0b7a5000001"
    assert made._health.dropped == {"contradicts-device": 1}


def test_what_is_there_all_the_time_keeps_its_mac_and_its_successor_has_its_own() -> None:
    made = roster()
    put(made, of_mac("a0b7a5000001", "p"))
    put(made, Status("p/will", "online"))
    assert put(made, of_mac("a0b7a5000066", "p")) == ()
    assert mac_of(made) == "a0b7a5000001"
    put(made, Status("p/will", "offline"))
    put(made, Status("p/will", "online"))
    assert put(made, of_mac("a0b7a5000066", "p")) == ("a",), "the device was replaced"
    assert mac_of(made) == "a0b7a5000066"


def test_by_a_message_of_its_own_no_publisher_has_a_device_be_away() -> None:
    made = roster()
    put(made, of_mac("a0b7a5000001", "p"))
    put(made, Status("p/will", "online"))
    put(made, of_mac("a0b7a5000001", "q"))
    put(made, Status("q/will", "offline"))
    assert standing(made) is DeviceStanding.THERE
    put(made, Status("p/will", "offline"))
    assert standing(made) is DeviceStanding.GONE


def test_a_renamed_device_of_a_list_listens_to_its_new_name_alone() -> None:
    made = roster()
    put(made, Listed("l", (announced(part="l", availability={"old": Words()}),)))
    put(made, Status("old", "offline"))
    assert standing(made) is DeviceStanding.GONE
    put(made, Listed("l", (announced(part="l", availability={"new": Words()}),)))
    assert standing(made) is DeviceStanding.UNKNOWN
    cut = Listed("l", (), is_whole=False)
    assert put(made, cut) == ()
    assert put(made, Listed("l", ())) == ("a",)


def test_a_node_takes_with_it_what_is_behind_it() -> None:
    made = roster()
    put(made, announced("n", "p1", session=1, is_lasting=True))
    put(made, announced("n/d", "p2", is_lasting=True))
    put(made, announced("no", "p3", is_lasting=True))
    assert put(made, Departed("n", session=0, others=True)) == (), "of an older session"
    assert set(put(made, Departed("n", session=1, others=True))) == {"n", "n/d"}
    put(made, announced("n", "p1", session=2))
    assert put(made, Departed("n", others=True, itself=False)) == ("n/d",)
    assert standing(made, "no") is DeviceStanding.THERE


def test_without_room_those_leave_that_no_rule_wants() -> None:
    made = roster(2)
    for key in ("w1", "x", "w2", "y"):
        put(made, announced(key, f"part of {key}"))
    assert set(made.keys()) == {"w1", "w2"}
    assert made._health.dropped == {"table-full": 2}


def test_topics_that_belong_to_no_device_leave_room_for_those_that_do() -> None:
    made = roster(2)
    put(made, announced(availability={"will": Words()}))
    for number in range(100):
        put(made, Status(f"flood/{number}", "online"))
    assert len(made._statuses) == STATUSES * 2
    put(made, Status("will", "online"))
    assert standing(made) is DeviceStanding.THERE
    assert len(made._statuses) == STATUSES * 2


KEYS = st.sampled_from(["a", "b", "a/x", "a/y", "c"])
NAMES = st.sampled_from(["t1", "t2", "t3", "t4"])


class BoundedRoster(RuleBasedStateMachine):
    """Whatever is said in whatever order, nothing is kept that belongs to no device."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = roster(3)

    @rule(
        key=KEYS, part=NAMES, alias=st.lists(NAMES, max_size=2), topic=NAMES, asked=NAMES,
        kept=st.booleans(),
    )  # fmt: skip
    def announce(
        self, key: str, part: str, alias: list[str], topic: str, asked: str, *, kept: bool
    ) -> None:
        news = announced(
            key, part, aliases=tuple(alias), availability={topic: Words()}, question=(asked,)
        )
        put(self.roster, news, kept=kept)

    @rule(keys=st.lists(KEYS, unique=True, max_size=3), part=NAMES, topic=NAMES)
    def list_devices(self, keys: list[str], part: str, topic: str) -> None:
        devices = tuple(announced(key, part, availability={topic: Words()}) for key in keys)
        put(self.roster, Listed(part, devices))

    @rule(part=NAMES)
    def withdraw(self, part: str) -> None:
        put(self.roster, Withdrawn(part))

    @rule(topic=NAMES, text=st.sampled_from(["online", "offline"]))
    def say(self, topic: str, text: str) -> None:
        put(self.roster, Status(topic, text))

    @rule(key=KEYS, others=st.booleans())
    def depart(self, key: str, *, others: bool) -> None:
        put(self.roster, Departed(key, others=others))

    @rule(asked=NAMES)
    def live(self, asked: str) -> None:
        put(self.roster, Alive((asked,)))

    @invariant()
    def keeps_what_belongs_to_a_device(self) -> None:
        made, entries = self.roster, self.roster._entries
        assert len(entries) == len(made._ranks) <= 3
        for index, of in ((made._by_part, "parts"), (made._by_topic, "availability")):
            listed = {(name, key) for name, keys in index.items() for key in keys}
            assert listed == {(one, key) for key in entries for one in getattr(entries[key], of)}
        assert set(made._by_alias.values()) | set(made._by_question.values()) <= set(entries)
        assert {key for keys in made._behind.values() for key in keys} == set(entries)
        assert all(entry.parts for entry in entries.values())


TestBoundedRoster = BoundedRoster.TestCase
TestBoundedRoster.settings = settings(max_examples=60, stateful_step_count=30)
