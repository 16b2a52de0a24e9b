"""What a source finds: each answer once, as a sighting within bounds; silence and goodbyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import (
    Context,
    Health,
    Interest,
    Loss,
    LossReason,
    Sighting,
)
from gatewayd.discovery.probing import table as bounds
from gatewayd.discovery.probing.protocol import Found, Goodbye
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.testing.contracts.discoverer import check_sighting

HERE = "10.0.0.7"
LAMP = Found("lamp", frozenset({Claim("serial", "toy", "a-1")}), {"toy.colour": "red"}, "Lamp", 0.0)
LIFETIME = 1500.0


@dataclass
class Scene:
    """A table, its clock, and what it has reported."""

    limit: int = 4
    interface: str = "lan0"
    now: float = 1000.0
    known: frozenset[str] = frozenset()
    seen: list[Sighting] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    health: Health = field(default_factory=Health)
    confirmed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.context = Context(
            lambda: self.now, lambda: 0.5, self.interest, lambda address: address in self.known
        )
        place = FoundPlace("toy", "toys", self.interface)
        self.table = FoundTable(
            place, limit=self.limit, lifetime=LIFETIME, context=self.context, sink=self,
            health=self.health,
        )  # fmt: skip

    @staticmethod
    def interest(attributes: Mapping[str, str]) -> Interest:
        assert attributes["source"] == "toy"
        return Interest(attributes.get("toy.interest", "wanted"))

    async def room(self, name: str = "") -> None: ...

    def sight(self, sighting: Sighting) -> None:
        check_sighting(sighting)
        self.seen.append(sighting)

    def lose(self, loss: Loss) -> None:
        assert loss.key in {one.key for one in self.seen} | self.confirmed
        self.lost.append(loss)

    def add(self, key: str, interest: str = "wanted", address: str = HERE) -> None:
        attributes = {"toy.interest": interest}
        self.table.add(Found(key, frozenset(), attributes, key, 0.0), (address,))

    @property
    def losses(self) -> list[tuple[str, LossReason]]:
        return [(one.key, one.reason) for one in self.lost]


def test_what_is_found_is_sighted_where_its_answer_came_from() -> None:
    scene = Scene()
    scene.table.add(replace(LAMP, port=80), ("fe80::1%lan0",))
    assert scene.seen == [
        Sighting(
            "toys/lan0", "lamp", 1000.0, LIFETIME, "lan0", ("fe80::1%lan0",), 80, LAMP.claims,
            {"source": "toy", "interface": "lan0", "address": "fe80::1%lan0", "port": "80",
             "toy.colour": "red"}, "Lamp",
        )
    ]  # fmt: skip
    assert scene.health == Health(sighted=1, entries=1)


def test_a_source_without_interface_and_a_device_without_address() -> None:
    scene = Scene(interface="")
    scene.table.add(LAMP)
    assert [(one.source, one.interface, one.addresses) for one in scene.seen] == [("toys", "", ())]
    assert scene.seen[0].attributes == {"source": "toy", "toy.colour": "red"}


@pytest.mark.parametrize(("given", "kept"), [(0.0, LIFETIME), (1.0, 60.0), (1e9, 86_400.0)])
def test_for_how_long_it_is_believed_is_bounded(given: float, kept: float) -> None:
    scene = Scene()
    scene.table.add(replace(LAMP, valid_for=given), (HERE,))
    assert scene.seen[0].valid_for == kept


def test_that_a_device_is_behind_another_is_passed_on() -> None:
    scene = Scene()
    scene.table.add(replace(LAMP, is_behind=True), (HERE,))
    assert scene.seen[0].is_behind


def test_copies_of_an_answer_are_one_and_a_change_is_not() -> None:
    scene = Scene()
    for later in (0.0, 0.5, 5.0):
        scene.now = 1000.0 + later
        scene.table.add(LAMP, (HERE,))
    assert len(scene.seen) == 1
    scene.table.add(LAMP, ("10.0.0.8",))
    scene.table.add(replace(LAMP, attributes={"toy.colour": "blue"}), ("10.0.0.8",))
    assert len(scene.seen) == 3
    scene.now += 60
    scene.table.add(replace(LAMP, attributes={"toy.colour": "blue"}), ("10.0.0.8",))
    assert len(scene.seen) == 4
    assert scene.health.entries == len(scene.table) == 1


def test_after_a_rescan_the_same_answer_is_reported_again() -> None:
    scene = Scene()
    for _ in range(2):
        scene.table.add(LAMP, (HERE,))
        scene.table.renew()
    assert len(scene.seen) == 2


def test_silence_becomes_a_loss_and_an_answer_puts_it_off() -> None:
    scene = Scene()
    scene.table.add(LAMP, (HERE,))
    scene.now += LIFETIME - 1
    scene.table.expire()
    scene.table.add(LAMP, (HERE,))
    assert scene.table.next() == scene.now + LIFETIME
    scene.now += LIFETIME - 1
    scene.table.expire()
    assert not scene.lost
    scene.now += 1
    scene.table.expire()
    assert scene.losses == [("lamp", LossReason.EXPIRED)]
    assert scene.table.next() is None
    assert (scene.health.lost, scene.health.entries, len(scene.table)) == (1, 0, 0)


def test_a_goodbye_is_a_loss_of_what_is_known() -> None:
    scene = Scene()
    scene.table.add(LAMP, (HERE,))
    scene.table.part(Goodbye("other"))
    scene.table.part(Goodbye("lamp"))
    scene.table.part(Goodbye("lamp"))
    assert scene.losses == [("lamp", LossReason.GOODBYE)]
    scene.table.add(LAMP, (HERE,))
    assert len(scene.seen) == 2


def test_a_goodbye_from_elsewhere_is_counted_and_no_loss() -> None:
    scene = Scene()
    scene.table.add(LAMP, (HERE, "fe80::7%lan0"))
    scene.table.part(Goodbye("lamp"), "10.0.0.66")
    assert (scene.losses, scene.health.dropped) == ([], {"foreign-goodbye": 1})
    scene.table.part(Goodbye("lamp"), "fe80::7%lan0")
    assert scene.losses == [("lamp", LossReason.GOODBYE)]


def test_where_it_was_before_is_remembered_beyond_a_goodbye_and_for_so_long() -> None:
    scene = Scene()
    scene.add("lamp")
    strange = [f"10.0.1.{n}" for n in range(1, 10)]
    for address in strange:
        scene.add("lamp", address=address)
    forged = scene.seen[-1]
    assert forged.addresses == ("10.0.1.9",)
    assert scene.table.former(forged) == (HERE, *strange[: bounds.MAX_FORMER - 1])
    scene.table.part(Goodbye("lamp"), "10.0.1.9")
    assert len(scene.table) == 0
    assert HERE in scene.table.former(forged)
    scene.add("lamp", address="10.0.1.9")
    assert HERE in scene.table.former(forged)
    scene.now += LIFETIME
    assert scene.table.former(forged) == ()


def test_a_goodbye_counts_from_where_it_was_before_too() -> None:
    scene = Scene()
    scene.add("lamp")
    scene.add("lamp", address="10.0.1.1")
    scene.table.part(Goodbye("lamp"), HERE)
    assert [one.reason for one in scene.lost] == [LossReason.GOODBYE]


def test_of_those_that_have_left_no_more_are_remembered_than_may_be_kept() -> None:
    scene = Scene()
    for number in range(20):
        scene.add(f"lamp{number}")
        scene.add(f"lamp{number}", address="10.0.1.1")
        scene.table.part(Goodbye(f"lamp{number}"), "10.0.1.1")
    remembered = [bool(scene.table.former(one)) for one in scene.seen if one.addresses != (HERE,)]
    assert sum(remembered) == scene.limit


def test_a_device_that_answers_in_both_families_is_one_at_two_addresses() -> None:
    scene = Scene()
    there = ("10.0.0.7", "fe80::7%lan0")
    for address in (*there, *there, "10.0.0.8"):
        scene.table.add(LAMP, scene.table.places("lamp", address))
    assert [one.addresses for one in scene.seen] == [
        there[:1], there, ("10.0.0.8", "fe80::7%lan0"),
    ]  # fmt: skip
    for _ in range(3):
        scene.now += LIFETIME / 2
        scene.table.add(LAMP, scene.table.places("lamp", "10.0.0.8"))
    assert scene.seen[-1].addresses == ("10.0.0.8",)


def test_an_address_of_the_other_family_counts_for_some_rounds_whatever_it_said() -> None:
    scene = Scene()
    lasting = replace(LAMP, valid_for=86_400.0)
    for address in (HERE, "fe80::66%lan0"):
        scene.table.add(lasting, scene.table.places("lamp", address))
    assert scene.seen[-1].addresses == (HERE, "fe80::66%lan0")
    scene.now += LIFETIME
    assert scene.table.places("lamp", HERE) == (HERE,)


def test_what_has_no_address_has_a_share_by_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_AT_ONE_ADDRESS", 1)
    scene = Scene()
    for key, sender in (("a", "02:00:00:00:00:01"), ("b", "02:00:00:00:00:01"), ("c", "")):
        scene.table.add(replace(LAMP, key=key), sender=sender)
    scene.table.add(replace(LAMP, key="d"))
    assert [one.key for one in scene.seen] == ["a", "c", "d"]


def test_what_is_known_is_lost_at_the_end() -> None:
    scene = Scene()
    scene.add("a")
    scene.add("b")
    scene.table.stop()
    assert scene.losses == [("a", LossReason.STOPPED), ("b", LossReason.STOPPED)]
    assert scene.health.entries == 0


def test_without_room_those_that_no_rule_wants_leave_then_the_oldest() -> None:
    scene = Scene(limit=2)
    scene.add("stranger", "stranger")
    scene.add("a")
    scene.add("b")
    scene.add("another", "stranger")
    scene.add("c")
    assert scene.losses == [("stranger", LossReason.EVICTED), ("a", LossReason.EVICTED)]
    assert [one.key for one in scene.seen] == ["stranger", "a", "b", "c"]
    assert (scene.health.entries, scene.health.dropped) == (2, {"table-full": 3})


def test_devices_on_record_stay_longest() -> None:
    scene = Scene(limit=2, known=frozenset({"10.0.0.1"}))
    scene.add("recorded", "stranger", address="10.0.0.1")
    for number in range(9):
        scene.add(f"new-{number}", address="10.0.0.2")
    assert scene.table.get("recorded")


def test_an_ignored_device_is_counted_and_not_reported() -> None:
    scene = Scene()
    scene.add("a", "ignored")
    assert not scene.seen
    assert (scene.health.dropped, scene.health.entries) == ({"ignored": 1}, 0)


def test_one_address_has_a_share_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_AT_ONE_ADDRESS", 2)
    scene = Scene(limit=10)
    for key in ("a", "b", "c", "a"):
        scene.add(key)
    scene.add("c", address="10.0.0.8")
    scene.add("c", address=HERE)
    assert [one.key for one in scene.seen] == ["a", "b", "c"]
    assert scene.health.dropped == {"crowded-address": 2}
    scene.table.part(Goodbye("a"))
    scene.add("c", address=HERE)
    assert scene.seen[-1].addresses == (HERE,)


def test_at_a_full_address_who_is_wanted_takes_the_place_of_a_stranger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any host can forge as many answers from the address of a child as are kept of one."""
    monkeypatch.setattr(bounds, "MAX_AT_ONE_ADDRESS", 2)
    scene = Scene(limit=10)
    for key in ("forged-1", "forged-2", "forged-3"):
        scene.add(key, "stranger")
    for key in ("a", "b", "c"):
        scene.add(key)
    assert [one.key for one in scene.seen] == ["forged-1", "forged-2", "a", "b"]
    assert scene.losses == [(f"forged-{n}", LossReason.EVICTED) for n in (1, 2)]
    assert scene.health.dropped == {"crowded-address": 4}


@pytest.mark.parametrize("key", ["", "x" * 513, "a\x1b[2J", "a\nb"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    scene = Scene()
    scene.table.add(replace(LAMP, key=key), (HERE,))
    assert not scene.seen
    assert scene.health.dropped == {"bad-key": 1}


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.1", "::", "255.255.255.255"])
def test_an_address_that_no_device_has_is_refused(address: str) -> None:
    scene = Scene()
    scene.table.add(LAMP, (address,))
    assert not scene.seen
    assert scene.health.dropped == {"no-usable-address": 1}


def test_text_is_cleaned_or_left_out_and_never_replaces_what_gatewayd_says() -> None:
    scene = Scene()
    hostile = {
        "source": "static", "interface": "wan0", "address": "10.9.9.9", "toy.a": "\x1b[2J",
        "toy.b": "x" * 256, "a b": "x", "TOY.C": "c",
    } | {f"toy.{number}": "" for number in range(100)}  # fmt: skip
    claims = frozenset(Claim("mac", "toy", f"{number:012x}") for number in range(40))
    claims |= {Claim("serial", "toy", "a-1")}
    scene.table.add(replace(LAMP, attributes=hostile, claims=claims, label="a\x1b[2J\n"), (HERE,))
    (seen,) = scene.seen
    assert seen.attributes.items() >= {
        "source": "toy", "interface": "lan0", "address": HERE, "toy.c": "c",
    }.items()  # fmt: skip
    assert not {"toy.a", "toy.b", "a b"} & seen.attributes.keys()
    assert len(seen.attributes) == 64
    assert len(seen.claims) == 16
    assert Claim("serial", "toy", "a-1") in seen.claims


@pytest.mark.parametrize(
    "odd",
    [
        Claim("serial", "upnp.a b", "a-1"), Claim("serial", "x" * 65, "a-1"),
        Claim("serial", "toy", "a\x1b"), Claim("serial", "toy", "A-1"),
        Claim("serial", "toy", "0000"), Claim("mac", "toy", "01005e000001"),
    ],
)  # fmt: skip
def test_a_claim_that_cannot_be_compared_is_left_out_and_counted(odd: Claim) -> None:
    scene = Scene()
    scene.table.add(replace(LAMP, claims=LAMP.claims | {odd}), (HERE,))
    assert [one.claims for one in scene.seen] == [LAMP.claims]
    assert scene.health.dropped == {"bad-claim": 1}


def test_what_was_asked_for_is_returned_and_kept_but_not_reported() -> None:
    scene = Scene()
    answer = scene.table.confirm(LAMP, (HERE,))
    assert answer is not None
    assert (answer.key, answer.addresses, scene.seen) == ("lamp", (HERE,), [])
    assert scene.table.get("lamp") == answer
    ignored = replace(LAMP, attributes={"toy.interest": "ignored"})
    assert scene.table.confirm(ignored, (HERE,)) is not None  # it is there, all the same
    assert scene.table.confirm(LAMP, ("127.0.0.1",)) is None


STEP = st.tuples(
    st.sampled_from(["add", "confirm", "part", "wait", "expire"]),
    st.integers(0, 5),
    st.sampled_from([interest.value for interest in Interest]),
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
)


@given(st.lists(STEP, max_size=40))
def test_whatever_is_found_the_counts_agree_and_the_bound_holds(
    steps: list[tuple[str, int, str, str]],
) -> None:
    scene = Scene(limit=3, known=frozenset({"10.0.0.2"}))
    for what, number, interest, address in steps:
        found = Found(f"k{number}", frozenset(), {"toy.interest": interest}, "", 100.0)
        match what:
            case "add":
                scene.table.add(found, (address,))
            case "confirm":
                scene.table.confirm(found, (address,))
                scene.confirmed.add(found.key)
            case "part":
                scene.table.part(Goodbye(found.key))
            case "wait":
                scene.now += 30 * number
            case "expire":
                scene.table.expire()
        assert len(scene.table) <= 3
        assert scene.health.entries == len(scene.table)
        kept = [key for key in (f"k{n}" for n in range(6)) if scene.table.get(key)]
        assert len(kept) == len(scene.table)
    assert scene.health.sighted == len(scene.seen)
    assert scene.health.lost == len(scene.lost)
    scene.table.stop()
    assert len(scene.table) == scene.health.entries == 0
