"""The bounds: how fast, how large, how much and how long; every drop is counted by its reason."""

from __future__ import annotations

import asyncio
import math
import shutil
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import Acceptance, OnFull
from gatewayd.messages import backlog, relay
from gatewayd.messages.backlog import Backlog
from gatewayd.messages.bounds import (
    BURST,
    CATCHING_UP,
    DAY,
    HEADERS,
    MOST_AWAY,
    ChildRates,
    DailySpending,
)
from gatewayd.messages.lanes import OVERHEAD, size_of
from gatewayd.messages.outbox.file import Spent, StoredMessage
from gatewayd.messages.settings import KIB, MIB, ChildMessageSettings, CloudBudget, MessageSettings
from gatewayd.testing.waiting import until
from tests.support.relays import ALICE, BOB, FakeCloud, running_relay

REFUSING = ChildMessageSettings(share=64 * KIB, on_full=OnFull.REFUSE)
DROPPING = ChildMessageSettings(share=64 * KIB)


@given(
    rate=st.floats(0.01, 1000),
    pauses=st.lists(st.one_of(st.just(0.0), st.floats(0, 100)), max_size=200),
)
def test_no_child_sends_more_than_its_rate_and_a_burst(rate: float, pauses: list[float]) -> None:
    rates, now, passed = ChildRates(), 0.0, []
    for pause in pauses:
        now += pause
        if rates.take(ALICE, "site", rate, now):
            passed.append(now)
    for n, begin in enumerate(passed):
        for m in range(n, len(passed)):
            most = max(1.0, rate * BURST) + rate * (passed[m] - begin)
            assert m - n + 1 <= most + 1e-6


def test_a_child_that_is_idle_is_forgotten_by_the_rates_and_no_other() -> None:
    rates = ChildRates()
    for _ in range(5):
        assert rates.take(ALICE, "site", 1.0, 0.0)
    assert rates.take(BOB, "site", 1.0, 4.0)
    rates.forget_idle(4.9)
    assert passed(rates, ALICE, 4.9) == 9, "its tokens are still counted"
    assert passed(rates, BOB, 4.9) == 9


def passed(rates: ChildRates, child: DeviceId, now: float, *, door: str = "site") -> int:
    """Return how many messages a child may send at once, at one a second."""
    taken = (rates.take(child, door, 1.0, now) for _ in range(100_000))
    return sum(takewhile(bool, taken))


def test_what_a_child_has_sent_while_its_door_was_away_is_not_too_fast() -> None:
    rates = ChildRates()
    assert passed(rates, ALICE, 0.0) == BURST
    rates.was_away("site", 300.0, 300.0)
    assert passed(rates, ALICE, 300.0) == BURST + 300
    assert passed(rates, ALICE, 300.0) == 0, "the same absence counts once"
    assert passed(rates, BOB, 300.0) == BURST + 300
    assert passed(rates, BOB, 300.0, door="another") == 0, "that door was there"


def test_absences_that_follow_another_add_up_and_what_was_used_counts() -> None:
    rates, now, all_passed = ChildRates(), 0.0, 0
    for _ in range(50):
        all_passed += passed(rates, ALICE, now)
        rates.forget_idle(now)
        rates.was_away("site", 8.0, now + 10.0)
        now += 10.0
    all_passed += passed(rates, ALICE, now)
    assert all_passed <= BURST + 10 * 50 + 8 * 50


def test_what_was_kept_is_to_arrive_soon_after_an_absence() -> None:
    rates = ChildRates()
    rates.was_away("site", 300.0, 1000.0)
    assert passed(rates, ALICE, 1000.0 + CATCHING_UP) == BURST
    rates.was_away("site", 5.0, 2000.0)
    assert passed(rates, ALICE, 2000.0) == BURST + 5, "what was not used has lapsed"


def test_an_absence_of_unknown_length_is_that_of_a_day_and_each_counts() -> None:
    rates = ChildRates()
    rates.was_away("site", math.inf, 0.0)
    assert passed(rates, ALICE, 0.0) == BURST + MOST_AWAY
    rates.was_away("site", 20.0, 5000.0)
    assert passed(rates, ALICE, 5000.0) == BURST + 20


@given(
    sizes=st.lists(st.tuples(st.integers(0, 5000), st.floats(0, DAY / 4)), max_size=100),
    bytes_per_day=st.integers(0, 20_000),
    messages_per_day=st.integers(0, 20),
)
def test_a_day_costs_no_more_than_its_budget(
    sizes: list[tuple[int, float]], bytes_per_day: int, messages_per_day: int
) -> None:
    spending = DailySpending({"c": CloudBudget(bytes_per_day, messages_per_day)}, {})
    now, days = 1e9, dict[int, list[int]]()
    for size, pause in sizes:
        now += pause
        if spending.take("c", size, now):
            days.setdefault(int(now // DAY), []).append(size + HEADERS)
    for costs in days.values():
        # one message that is larger than the budget of a day has a day of its own
        assert not bytes_per_day or len(costs) == 1 or sum(costs) <= bytes_per_day
        assert not messages_per_day or len(costs) <= messages_per_day


def test_a_clock_that_is_set_back_keeps_nothing_back_for_years() -> None:
    spending = DailySpending({"c": CloudBudget(messages_per_day=1)}, {"c": Spent(30_000, 1, 1)})
    assert spending.take("c", 1, 30_000 * DAY) is None
    assert spending.take("c", 1, 20_000 * DAY)
    assert spending.take("c", 1, 20_000 * DAY + 1) is None


def test_what_is_given_back_may_be_spent_again_on_its_day_alone() -> None:
    spending = DailySpending({"c": CloudBudget(bytes_per_day=1000)}, {})
    first = spending.take("c", 300, 7 * DAY)
    assert first
    assert spending.take("c", 500, 7 * DAY)
    assert spending.take("c", 1, 7 * DAY) is None
    assert spending.is_closed("c", 7 * DAY)
    assert spending.give_back("c", 300, first, 7 * DAY) == Spent(7, 500 + HEADERS, 1)
    assert not spending.is_closed("c", 7 * DAY)
    assert spending.take("c", 300, 7 * DAY) == Spent(7, 800 + 2 * HEADERS, 2)
    assert not spending.give_back("c", 300, first, 8 * DAY).day, "of a day that is over"
    assert spending.today("c", 8 * DAY) == Spent(8)
    free = spending.take("free", 1, 7 * DAY)
    assert free is not None
    assert not spending.give_back("free", 1, free, 7 * DAY).day


async def test_more_than_its_rate_is_dropped_before_it_is_stored(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, child=ChildMessageSettings(rate=0.5))
    async with running_relay(tmp_path, settings) as running:
        for number in range(20):
            running.say(str(number))
        running.say("other", BOB)
        await running.all_settled()
        assert running.dropped == {"rate": 15}
        assert running.relay.statistics().children[BOB].received == 1
        assert [p for p, _ in running.settled] == [*(b"%d" % n for n in range(20)), b"other"]


@pytest.mark.parametrize("child", [REFUSING, DROPPING])
async def test_the_share_of_a_child_is_kept(tmp_path: Path, child: ChildMessageSettings) -> None:
    async with running_relay(tmp_path, MessageSettings(commit_delay=0, child=child)) as running:
        for number in range(200):
            running.say(b"%03d" % number + bytes(1000))
            if number % 50 == 0:
                await running.all_settled()
            assert running.relay.statistics().children[ALICE].bytes <= child.share
        await running.all_settled()
        fit = child.share // (1003 + OVERHEAD + len("properties"))
        shown = running.relay.statistics()
        assert shown.total.waiting == fit
        assert shown.total.dropped == {"share": 200 - fit}
        running.connect()
        await running.accepted(fit)
        left = [int(p[:3]) for p in running.cloud.accepted[ALICE]]
        oldest = 200 - fit if child is DROPPING else 0
        assert left == list(range(oldest, oldest + fit))
    async with running_relay(tmp_path) as running:
        assert running.relay.statistics().total.waiting == 0


async def test_what_is_larger_than_the_share_drops_nothing_else(tmp_path: Path) -> None:
    async with running_relay(tmp_path, MessageSettings(commit_delay=0, child=DROPPING)) as running:
        running.say("small")
        running.say(bytes(65 * KIB))
        await running.all_settled()
        assert running.dropped == {"share": 1}
        assert running.relay.statistics().total.waiting == 1


async def test_the_largest_child_makes_room_for_all(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, keep=MIB, child=ChildMessageSettings(share=MIB))
    async with running_relay(tmp_path, settings) as running:
        for _ in range(95):
            running.say(bytes(10_000))
        await running.all_settled()
        for number in range(200):
            running.say(b"%03d" % number + bytes(1000), BOB)
        await running.all_settled()
        shown = running.relay.statistics()
        assert shown.total.bytes <= MIB
        assert shown.children[BOB].waiting == 200, "it was never the largest"
        assert set(shown.children[ALICE].dropped) == {"total"}
        assert shown.capacity == MIB


async def test_what_is_under_way_does_not_make_room(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, child=DROPPING)
    async with running_relay(tmp_path, settings) as running:
        running.cloud.open.clear()
        running.connect()
        for number in range(4):
            running.say(b"%d" % number + bytes(15_000))
        await running.all_settled()
        await until(lambda: running.cloud.under_way == 4)
        running.say(bytes(15_000))
        await running.all_settled()
        assert running.dropped == {"share": 1}
        assert running.settled[-1][1] == "share", "it was refused, as the oldest cannot leave"
        running.cloud.open.set()
        await running.accepted(4)


async def test_what_has_waited_too_long_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SWEEP", 0.01)
    monkeypatch.setattr(relay, "AGE_SWEEP", 0.02)
    now = [1_700_000_000_000_000]
    settings = MessageSettings(commit_delay=0, keep_age=3600)
    async with running_relay(tmp_path, settings, wall=lambda: now[0]) as running:
        for number in range(150):
            running.say(str(number))
        await running.all_settled()
        now[0] += 3000 * 1_000_000
        running.say("new")
        await running.all_settled()
        now[0] += 1000 * 1_000_000
        await until(lambda: running.dropped == {"age": 150})
        shown = running.relay.statistics().children[ALICE]
        assert shown.waiting == 1
        await until(
            lambda: (
                running.relay.statistics().children[ALICE].oldest
                == 1_700_000_000_000_000 + 3000 * 1_000_000
            )
        )


async def test_a_clock_that_is_set_a_month_ahead_and_back_makes_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SWEEP", 0.01)
    monkeypatch.setattr(relay, "AGE_SWEEP", 0.02)
    now, month = [1_700_000_000_000_000], 30 * 86_400 * 1_000_000
    async with running_relay(tmp_path, wall=lambda: now[0], uptime=lambda: 5000.0) as running:
        running.say("before")
        await running.all_settled()
        now[0] += month
        running.say("ahead")
        await running.all_settled()
        await asyncio.sleep(0.1)
        now[0] -= 2 * month
        running.say("behind")
        await running.all_settled()
        await asyncio.sleep(0.1)
        running.connect()
        await running.accepted(3)
        assert running.cloud.accepted[ALICE] == [b"before", b"ahead", b"behind"]
        assert not running.dropped


async def test_what_is_aged_when_its_child_comes_online_is_not_sent(tmp_path: Path) -> None:
    now = [1_700_000_000_000_000]
    settings = MessageSettings(commit_delay=0, keep_age=3600)
    async with running_relay(tmp_path, settings, wall=lambda: now[0]) as running:
        running.say("old")
        await running.all_settled()
        now[0] += 4000 * 1_000_000
        running.say("new")
        running.connect()
        await running.accepted(1)
        await running.empty()
        assert running.cloud.accepted[ALICE] == [b"new"]
        assert running.dropped == {"age": 1}


async def test_an_unknown_child_costs_nothing_but_a_count(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        for number in range(1000):
            running.say("x", DeviceId(f"child-{number:012x}"))
        await running.all_settled()
        shown = running.relay.statistics()
        assert shown.total.dropped == {"unknown-child": 1000} == shown.doors["site"].dropped
        assert not shown.children


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("x" * (relay.MAX_TOPIC + 1), b"", "too-large"),
        ("x", bytes(relay.MAX_PAYLOAD + 1), "too-large"),
        ("\udcff", b"", "refused"),
    ],
)
async def test_what_no_cloud_could_take_is_not_stored(
    tmp_path: Path, topic: str, payload: bytes, reason: str
) -> None:
    async with running_relay(tmp_path) as running:
        running.say(payload, topic=topic)
        await running.all_settled()
        assert running.dropped == {reason: 1}


async def test_a_child_that_is_gone_takes_its_messages_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SWEEP", 0.01)
    cloud = FakeCloud()
    async with running_relay(tmp_path, cloud=cloud) as running:
        cloud.open.clear()
        running.connect()
        for number in range(30):
            running.say(str(number))
        running.say("other", BOB)
        await running.all_settled()
        await until(lambda: cloud.under_way)
        cloud.admitted.discard(ALICE)
        running.disconnect()
        await until(lambda: running.relay.statistics().total.waiting == 1)
        running.say("again")
        await running.all_settled()
        assert running.dropped == {"forgotten": 30, "unknown-child": 1}
        await until(lambda: ALICE not in running.relay.statistics().children)
        assert ALICE not in running.relay.entrances
        await asyncio.sleep(0)
    async with running_relay(tmp_path) as running:
        assert list(running.relay.statistics().children) == [BOB]


def test_one_message_costs_the_same_beside_a_hundred_children_as_beside_one() -> None:
    """The largest child is looked for now and then, not for each message."""
    backlog = Backlog(lambda _: ChildMessageSettings(share=MIB), 2 * MIB)
    for number in range(3000):
        own = backlog.of(DeviceId(f"child-{number % 100}"))
        size = size_of("properties", bytes(1000))
        backlog.make_room_for(own, size)
        backlog.arrive(own, size)
        backlog.stored(own, StoredMessage(number + 1, 1, 1, 0, 1, "properties", bytes(1000)))
        assert backlog.size <= backlog.capacity
    assert backlog.total.waiting + sum(backlog.total.dropped.values()) == 3000
    sizes = sorted(own.lanes.size for own in backlog.children.values())
    assert sizes[-1] - sizes[0] <= 70 * 1100, "no child gives up far more than another"


async def test_no_more_is_kept_than_half_of_what_is_free(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, keep=100_000_000_000_000)
    free = shutil.disk_usage(tmp_path).free
    async with running_relay(tmp_path, settings) as running:
        capacity = running.relay.statistics().capacity
        assert 0 < capacity < settings.keep
        assert capacity == pytest.approx(free / 2, rel=0.2), "other tests write, too"


def test_where_a_bound_is_lower_than_before_each_message_makes_a_part_of_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "DROPPED_AT_ONCE", 100)
    waits = Backlog(lambda _: DROPPING, MIB)
    for number in range(1000):
        waits.restored(ALICE, (number, 1, 1, 0, 952))
    for _ in range(9):
        dropped, bound = waits.make_room_for(waits.of(ALICE), 1000)
        assert (len(dropped), bound) == (100, None)
    assert waits.of(ALICE).size == 100_000
    dropped, bound = waits.make_room_for(waits.of(ALICE), 1000)
    assert bound is None
    assert waits.of(ALICE).size + 1000 <= 64 * KIB


async def test_each_child_is_treated_as_its_rule_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alice's old messages stay, Bob's make room; and a rule that changes is heeded."""
    monkeypatch.setattr(relay, "SWEEP", 0.01)
    cloud, treated = FakeCloud(), {ALICE: REFUSING}
    settings = MessageSettings(commit_delay=0, keep=MIB, child=DROPPING)
    async with running_relay(tmp_path, settings, cloud, treatment=treated.get) as running:
        for number in range(20):
            running.say(b"%d" % number + bytes(10_000), ALICE)
            running.say(b"%d" % number + bytes(10_000), BOB)
            await running.all_settled()
        running.connect(ALICE)
        running.connect(BOB)
        await running.empty()
        assert [int(one.strip(b"\0")) for one in cloud.accepted[ALICE]] == [0, 1, 2, 3, 4, 5]
        assert [int(one.strip(b"\0")) for one in cloud.accepted[BOB]] == [14, 15, 16, 17, 18, 19]
        treated[ALICE] = ChildMessageSettings(accepted=Acceptance.REPLY, rate=0.1)

        async def confirmed() -> bool:
            running.say("0", ALICE)
            await running.all_settled()
            await running.empty()
            return cloud.received[ALICE][-1].confirmed

        while not await confirmed():
            await asyncio.sleep(0.01)
        for _ in range(20):
            running.say("1", ALICE)
        await running.all_settled()
        assert running.relay.statistics().children[ALICE].dropped["rate"]
        assert not running.relay.statistics().children[BOB].dropped.get("rate")


async def test_those_who_refuse_give_up_nothing_for_others(tmp_path: Path) -> None:
    """What the largest may keep of its own is not dropped where all of it is full."""
    treated = {ALICE: ChildMessageSettings(share=MIB, on_full=OnFull.REFUSE)}
    settings = MessageSettings(commit_delay=0, keep=MIB, child=ChildMessageSettings(share=MIB))
    async with running_relay(tmp_path, settings, treatment=treated.get) as running:
        for _ in range(15):
            running.say(bytes(60_000), ALICE)
            await running.all_settled()
        for number in range(10):
            running.say(b"%d" % number + bytes(60_000), BOB)
            await running.all_settled()
        shown = running.relay.statistics().children
        assert shown[ALICE].waiting == 15
        assert not shown[ALICE].dropped
        assert shown[BOB].dropped == {"total": 8}
        assert shown[BOB].waiting == 2
