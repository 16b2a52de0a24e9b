"""The laws by which script/soak site judges: each planted offence is found, and no right one is."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace

import pytest

from script.soaking.site.events import (
    OF_ETCD,
    OF_GATEWAYS,
    Claimed,
    Connected,
    Ended,
    FaultBegan,
    FaultEnded,
    FaultKind,
    JournalReader,
    LeaderFell,
    Released,
    Said,
    ShardReader,
    SiteEvent,
    StartedAgain,
)
from script.soaking.site.faults import PlannedFault, plan_faults
from script.soaking.site.laws import FinalFacts, SiteVerdict, judge
from script.soaking.site.service import (
    ServedSpell,
    ServiceGap,
    gaps_of,
    served_at,
    spells_of,
)

CHILDREN = ("one", "two", "three")
SHARDS = {"one": 1, "two": 2, "three": 3, "four": 4}
GOOD = {child: FinalFacts(online=True, refused_logins=0) for child in CHILDREN}
DEATH = 100.0

COMING_UP: Sequence[SiteEvent] = (
    Claimed(10.0, 1, 11, "a"),
    Claimed(10.0, 2, 12, "b"),
    Claimed(10.0, 3, 13, "c"),
    *(
        Connected(12.0 + n, gateway, child, n, accepted=True, registers=True)
        for n, (gateway, child) in enumerate(zip("abc", CHILDREN, strict=True))
    ),
    *(
        Connected(20.0 + n, gateway, child, 10 + n, accepted=True)
        for n, (gateway, child) in enumerate(zip("abc", CHILDREN, strict=True))
    ),
    Said(30.0, "a", "one", 10),
)
DEATH_OF_A: Sequence[SiteEvent] = (
    FaultBegan(DEATH, 1, FaultKind.KILL, "a"),
    Ended(DEATH + 0.1, 10),
    Released(DEATH + 15, 1, 11),
    Claimed(DEATH + 17, 1, 20, "b"),
    Connected(DEATH + 18, "b", "one", 20, accepted=True),
    Said(DEATH + 19, "b", "one", 20),
    FaultEnded(DEATH + 60, 1, FaultKind.KILL, "a"),
    Said(DEATH + 90, "c", "three", 12),
)
CROWDED = "b has 2 of 3 children"
"""True of so few children, whatever the placement."""
GOOD_LOG: Sequence[SiteEvent] = (*COMING_UP, *DEATH_OF_A)


def judged(*more: SiteEvent, without: Sequence[SiteEvent] = ()) -> SiteVerdict:
    log = [event for event in GOOD_LOG if event not in without]
    verdict = judge([*log, *more], SHARDS.__getitem__, GOOD)
    verdict.crowded = [one for one in verdict.crowded if one != CROWDED]
    return verdict


def test_what_a_start_in_order_takes_is_no_gap() -> None:
    """A child is on its way from one gateway to another when all are stopped, and started again."""
    spells = [ServedSpell(1.0, 99.0, "a"), ServedSpell(260.0, 300.0, "b")]
    assert [*gaps_of("one", spells, 100.0)] == [ServiceGap("one", 99.0, 100.0, "a", "b")]


def test_a_child_with_two_secrets_where_registrations_are_no_connects_is_found() -> None:
    twice = {**GOOD, "one": replace(GOOD["one"], issued=2)}
    verdict = judge(GOOD_LOG, SHARDS.__getitem__, twice)
    assert verdict.needless == ["one: 2 secrets were issued"]


def test_a_take_over_in_order_is_right_and_is_measured() -> None:
    verdict = judged()
    assert not verdict.offences
    assert (verdict.connects, verdict.said, verdict.registrations, verdict.tokens) == (7, 3, 3, 4)
    assert verdict.moved == {FaultKind.KILL: [18.0]}
    assert verdict.shares == [2 / 3]
    assert (verdict.epochs, verdict.returns) == (1, 1)


@pytest.mark.parametrize(
    ("offence", "where"),
    [
        (Connected(DEATH + 18.5, "a", "one", 30, accepted=True), "lower"),
        (Connected(DEATH + 18.5, "a", "one", 30, accepted=False), "lower"),
        (Connected(DEATH + 18.5, "a", "one", 30, accepted=True, registers=True), "lower"),
        (Said(DEATH + 18.5, "a", "one", 10), "lower"),
        (Connected(50.0, "c", "two", 30, accepted=True), "lower"),
        (Connected(50.0, "a", "four", 30, accepted=True), "without"),
        (Connected(DEATH + 30, "b", "one", 30, accepted=True, registers=True), "needless"),
        (Ended(DEATH + 19, 20), "late"),
        (Connected(DEATH + 61, "b", "one", 30, accepted=False), ""),
    ],
    ids=str,
)
def test_each_planted_event_is_found(offence: SiteEvent, where: str) -> None:
    verdict = judged(offence)
    if not where:
        assert not verdict.offences
    else:
        assert getattr(verdict, where), verdict


def test_who_acts_long_after_its_key_is_gone_is_found() -> None:
    gone = (*COMING_UP, Released(DEATH, 1, 11))
    assert not judge([*gone, Said(DEATH + 10, "a", "one", 10)], SHARDS.__getitem__, GOOD).offences
    assert judge([*gone, Said(DEATH + 13, "a", "one", 10)], SHARDS.__getitem__, GOOD).without


def test_a_pause_that_ends_is_no_excuse_for_what_was_sent_late() -> None:
    log = [
        replace(one, kind=FaultKind.PAUSE) if isinstance(one, FaultBegan | FaultEnded) else one
        for one in GOOD_LOG
        if not isinstance(one, Ended)
    ]
    assert not judge(log, SHARDS.__getitem__, GOOD).late
    late = Said(DEATH + 60.1, "a", "one", 10)
    assert judge([*log, late], SHARDS.__getitem__, GOOD).lower


def test_who_takes_over_too_late_is_found_and_a_fallen_leader_allows_more() -> None:
    soon = Connected(DEATH + 18, "b", "one", 20, accepted=True)
    late = replace(soon, at=DEATH + 55)
    assert judged(late, without=[soon]).late
    assert not judged(
        late,
        FaultBegan(DEATH + 5, 1, FaultKind.KILL_ETCD, "etcd1", leader=True),
        FaultEnded(DEATH + 20, 1, FaultKind.KILL_ETCD, "etcd1"),
        without=[soon],
    ).late
    assert not judged(late, LeaderFell(DEATH + 30, 1), without=[soon]).late
    assert judged(replace(soon, at=DEATH + 80), without=[soon]).late


def test_a_site_without_its_cloud_or_its_quorum_has_a_minute_after_it() -> None:
    soon = Connected(DEATH + 18, "b", "one", 20, accepted=True)
    more: list[SiteEvent] = []
    for victim in ("etcd1", "etcd2"):
        more.append(FaultBegan(DEATH + 1, 1, FaultKind.KILL_ETCD, victim))
        more.append(FaultEnded(DEATH + 60, 1, FaultKind.KILL_ETCD, victim))
    assert not judged(*more, replace(soon, at=DEATH + 119), without=[soon]).late
    assert judged(*more, replace(soon, at=DEATH + 121), without=[soon]).late


def test_a_move_after_a_return_is_counted_from_itself() -> None:
    back: list[SiteEvent] = [
        Claimed(DEATH + 64, 1, 30, "a"),
        Ended(DEATH + 63, 20),
        FaultBegan(DEATH + 1, 1, FaultKind.PAUSE, "b"),
        FaultEnded(DEATH + 4, 1, FaultKind.PAUSE, "b"),
    ]
    soon = Connected(DEATH + 66, "a", "one", 40, accepted=True)
    assert not judged(*back, soon).late
    assert judged(*back, replace(soon, at=DEATH + 110)).late


def test_a_second_reconnect_after_a_return_is_found() -> None:
    back = [Connected(DEATH + 70 + n, "b", "one", 40 + n, accepted=True) for n in range(2)]
    assert not judged(back[0]).restless
    assert judged(*back).restless


def test_the_last_start_in_order_is_no_offence() -> None:
    again = DEATH + 80
    log: Sequence[SiteEvent] = [
        StartedAgain(again),
        *(Ended(again + 1, link) for link in (20, 11, 12)),
        Connected(again + 60, "b", "one", 50, accepted=True),
        Connected(again + 61, "b", "one", 51, accepted=True),
        Connected(again + 60, "b", "two", 52, accepted=True),
        Connected(again + 60, "c", "three", 53, accepted=True),
    ]
    assert not judged(*log, without=[GOOD_LOG[-1]]).offences
    assert judged(*log[1:], without=[GOOD_LOG[-1]]).offences


def test_a_crowded_gateway_is_found() -> None:
    assert judge(GOOD_LOG, SHARDS.__getitem__, GOOD).crowded == [CROWDED]


@pytest.mark.parametrize("facts", [FinalFacts(False, 0), FinalFacts(True, 1)])
def test_a_lost_secret_is_found(facts: FinalFacts) -> None:
    assert judge(GOOD_LOG, SHARDS.__getitem__, {**GOOD, "two": facts}).lost


def test_a_paused_gateway_serves_no_child() -> None:
    log: Sequence[SiteEvent] = [
        Connected(1.0, "a", "one", 1, accepted=True),
        FaultBegan(10.0, 1, FaultKind.PAUSE, "a"),
        FaultEnded(14.0, 1, FaultKind.PAUSE, "a"),
        Said(20.0, "a", "one", 1),
    ]
    spells = spells_of(log)
    (gap,) = gaps_of("one", spells["one"], 20.0)
    assert (gap.begin, gap.end, gap.before, gap.after) == (10.0, 14.0, "a", "a")
    assert served_at(9.0, spells) == {"one": "a"}
    assert not served_at(12.0, spells)


def test_the_journal_is_read_in_pieces() -> None:
    reader = JournalReader({"10.0.0.1": "a"}, lambda user: user.partition("&")[0])
    common = {"at": 1.0, "peer": "10.0.0.1", "link": 4}
    connect = {"do": "connect", "user": "one&product", "client": "x|authType=register|"}
    first = json.dumps({**common, **connect, "accepted": True})
    rest = [
        json.dumps({**common, "do": "publish", "topic": "t"}),
        json.dumps({**common, "do": "close"}),
    ]
    assert list(reader.read([first])) == [
        Connected(1.0, "a", "one", 4, accepted=True, registers=True)
    ]
    assert list(reader.read(rest)) == [Said(1.0, "a", "one", 4), Ended(1.0, 4)]
    with pytest.raises(KeyError):
        list(reader.read([json.dumps({**common, "do": "close", "peer": "10.9.9.9"})]))


def _watched(*events: tuple[str, int, int, str]) -> bytes:
    """What etcdctl prints of events: key, create_revision, mod_revision and value; "" deletes."""
    rows = []
    for key, created, revision, value in events:
        kv = {"key": b64encode(key.encode()).decode(), "mod_revision": revision}
        if value:
            kv |= {"create_revision": created, "value": b64encode(value.encode()).decode()}
        rows.append({"kv": kv} if value else {"type": 1, "kv": kv})
    return json.dumps({"Header": {"revision": 9}, "Events": rows}).encode()


def test_what_several_members_say_of_shards_counts_once() -> None:
    reader = ShardReader()
    claims = _watched(
        ("/gatewayd/soak/shard/01", 5, 5, "a"), ("/gatewayd/soak/shard/07", 5, 5, "a")
    )
    for now in (1.0, 2.0):
        reader.read(claims, now)
    reader.read(_watched(("/gatewayd/soak/shard/01", 5, 6, "a")), 3.0)  # written again, not made
    for now in (4.0, 5.0):
        reader.read(_watched(("/gatewayd/soak/shard/01", 0, 7, "")), now)
    reader.read(_watched(("/gatewayd/soak/shard/01", 8, 8, "b")), 6.0)
    reader.read(b'{"Header": {"revision": 9}}', 7.0)
    first = [Claimed(1.0, 1, 5, "a"), Claimed(1.0, 7, 5, "a")]
    assert reader.seen == [*first, Released(4.0, 1, 5), Claimed(6.0, 1, 8, "b")]
    assert reader.revision == 8


def test_faults_come_from_the_seed_and_never_hit_one_victim_twice_at_once() -> None:
    gateways, members = ("a", "b", "c"), ("etcd1", "etcd2", "etcd3")

    def played(seed: int) -> list[Sequence[PlannedFault]]:
        rng = random.Random(seed)
        return [plan_faults(rng, gateways, members) for _ in range(500)]

    assert played(1) == played(1) != played(2)
    kinds = {one.kind for epoch in played(1) for one in epoch}
    assert kinds == {*OF_GATEWAYS, *OF_ETCD}
    assert {len(epoch) for epoch in played(1)} == {1, 2}
    for epoch in played(1):
        assert len({one.victim for one in epoch}) == len(epoch)
        for one in epoch:
            assert (one.victim in gateways) is (one.kind in OF_GATEWAYS)
            assert 0 < one.lasts <= 60
