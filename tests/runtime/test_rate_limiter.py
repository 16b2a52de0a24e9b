"""Rate limits hold in every window of their period, however late the event loop is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.runtime.rate_limiter import (
    AT_MOST,
    URGENT,
    Pacer,
    RateLimiter,
    RateRule,
    SlidingWindow,
    TooManyWaiting,
    TurnQueue,
)
from gatewayd.testing.clock import JumpingLoop, run

WAITERS = 1000
ROUNDING = 1e-6

Passing = tuple[float, int, int]
"""When, who, how many."""


def most_in_a_window(passed: Sequence[Passing], period: float) -> int:
    """Return the most that passed in any window of this length; its end belongs to the next."""
    starts = [moment for moment, _, _ in passed]
    return max(
        sum(count for moment, _, count in passed if start <= moment < start + period - ROUNDING)
        for start in starts
    )


async def passings(
    rule: RateRule, callers: Sequence[tuple[float, int]], stalls: Sequence[tuple[float, float]]
) -> list[Passing]:
    """Let callers come after a while each, with a count, on a loop that is late now and then.

    stalls: seconds after the one before, and how long the loop is blocked.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    limiter, passed = RateLimiter(rule, loop.time, WAITERS), list[Passing]()

    async def call(number: int, count: int) -> None:
        await limiter.acquire(count)
        passed.append((loop.time(), number, count))

    at = 0.0
    for after, seconds in stalls:
        at += after
        loop.call_at(at, loop.stall, seconds)
    async with asyncio.TaskGroup() as group:
        for number, (after, count) in enumerate(callers):
            await asyncio.sleep(after)
            group.create_task(call(number, count))
    return passed


GAPS = st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 2.0])
CALLERS = st.lists(st.tuples(GAPS, st.integers(1, 5)), min_size=1, max_size=60)
STALLS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), max_size=20)


@given(CALLERS, STALLS)
def test_a_pacer_holds_on_a_late_loop(
    callers: list[tuple[float, int]], stalls: list[tuple[float, float]]
) -> None:
    passed = run(passings(Pacer(10.0), callers, stalls))
    assert [number for _, number, _ in passed] == list(range(len(callers)))
    assert most_in_a_window(passed, 1.0) < 10 + 5
    for (early, _, count), (late, _, _) in pairwise(passed):
        assert late - early >= count / 10 - ROUNDING


@given(CALLERS, STALLS)
def test_a_window_holds_on_a_late_loop(
    callers: list[tuple[float, int]], stalls: list[tuple[float, float]]
) -> None:
    passed = run(passings(SlidingWindow(7, 2.0), callers, stalls))
    assert [number for _, number, _ in passed] == list(range(len(callers)))
    assert most_in_a_window(passed, 2.0) <= 7


@pytest.mark.jumping_clock
async def test_a_quiet_limiter_makes_no_caller_wait() -> None:
    loop = asyncio.get_running_loop()
    for rule in (Pacer(2.0), SlidingWindow(1, 0.5)):
        limiter = RateLimiter(rule, loop.time, 1)
        for _ in range(5):
            before = loop.time()
            await limiter.acquire()
            assert loop.time() == before
            await asyncio.sleep(0.5)


@pytest.mark.jumping_clock
async def test_a_burst_is_spread_evenly() -> None:
    passed = await passings(Pacer(150.0), [(0.0, 50)] * 10, [])
    assert [moment for moment, _, _ in passed] == pytest.approx([n / 3 for n in range(10)])


@pytest.mark.jumping_clock
async def test_one_that_is_cancelled_takes_nothing() -> None:
    loop = asyncio.get_running_loop()
    limiter, passed = RateLimiter(Pacer(1.0), loop.time, WAITERS), list[tuple[int, float]]()

    async def call(number: int) -> None:
        await limiter.acquire()
        passed.append((number, loop.time()))

    tasks = [asyncio.create_task(call(number)) for number in range(6)]
    await asyncio.sleep(0.5)
    for number in (1, 3, 4):  # the first in the queue, and two that wait behind another
        tasks[number].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert passed == [(0, 0.0), (2, 1.0), (5, 2.0)]


@pytest.mark.jumping_clock
async def test_a_full_queue_refuses() -> None:
    limiter = RateLimiter(SlidingWindow(1, 60.0), asyncio.get_running_loop().time, waiters=2)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await limiter.acquire()
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    await limiter.acquire()
    await waiting[1]


@pytest.mark.jumping_clock
async def test_a_limit_within_another_keeps_both_and_delays_no_other() -> None:
    loop = asyncio.get_running_loop()
    every = RateLimiter(Pacer(10.0), loop.time, WAITERS)
    slow = RateLimiter(Pacer(1.0), loop.time, WAITERS, every)
    fast = RateLimiter(Pacer(100.0), loop.time, WAITERS, every)
    passed = list[tuple[str, float]]()

    async def call(name: str, limiter: RateLimiter) -> None:
        await limiter.acquire()
        passed.append((name, loop.time()))

    async with asyncio.TaskGroup() as group:
        for name, limiter in [("slow", slow)] * 3 + [("fast", fast)] * 15:
            group.create_task(call(name, limiter))
    moments = [moment for _, moment in passed]
    assert all(b - a >= 0.1 - ROUNDING for a, b in pairwise(moments))
    of_slow = [moment for name, moment in passed if name == "slow"]
    assert all(b - a >= 1.0 - ROUNDING for a, b in pairwise(of_slow))
    assert max(moment for name, moment in passed if name == "fast") == pytest.approx(1.6)


@pytest.mark.jumping_clock
async def test_the_end_of_what_is_limited_ends_all_waits() -> None:
    loop = asyncio.get_running_loop()
    rule = SlidingWindow(1, 3600.0)
    limiter, ended = RateLimiter(rule, loop.time, WAITERS), loop.create_future()
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire(1, ended)) for _ in range(3)]
    loop.call_later(1.0, ended.set_result, None)
    await asyncio.gather(*waiting)
    assert loop.time() == 1.0
    assert rule.wait(loop.time()) == 3599.0  # nothing more was counted


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 5))
def test_an_allowance_is_never_overdrawn_and_comes_back(gaps: list[float], count: int) -> None:
    allowance, now, taken = SlidingWindow(count, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        if allowance.take(now):
            taken.append(now)
    assert all(late - early >= 60.0 for early, late in zip(taken, taken[count:], strict=False))
    assert allowance.take(now + 60.0)


@pytest.mark.parametrize("rule", [lambda: Pacer(1.0), lambda: SlidingWindow(2, 1.0)])
def test_a_rule_waits_for_nothing_at_first(rule: Callable[[], Any]) -> None:
    assert rule().wait(-5.0, 2) == 0.0


@pytest.mark.jumping_clock
async def test_what_is_urgent_passes_first_and_keeps_the_rule() -> None:
    loop = asyncio.get_running_loop()
    within = RateLimiter(SlidingWindow(1, 1.0), loop.time, WAITERS)
    limiter = RateLimiter(Pacer(1000.0), loop.time, WAITERS, within)
    passed = list[tuple[str, float]]()

    async def call(name: str, *, urgent: bool = False) -> None:
        await limiter.acquire(urgent=urgent)
        passed.append((name, loop.time()))

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(call(f"report {number}"))
        await asyncio.sleep(0.1)
        group.create_task(call("answer 1", urgent=True))
        group.create_task(call("answer 2", urgent=True))
    names = [name for name, _ in passed]
    assert names[2:4] == ["answer 1", "answer 2"], "one more report had its turn already"
    assert [name for name in names if name.startswith("report")] == [
        f"report {n}" for n in range(5)
    ]
    moments = [at for _, at in passed]
    assert all(later - at >= 1.0 - ROUNDING for at, later in pairwise(moments))


@pytest.mark.jumping_clock
async def test_those_that_wait_leave_room_for_what_is_urgent_which_is_bounded_too() -> None:
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(SlidingWindow(1, 60.0), loop.time, waiters=2)
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(1)
    urgent = [asyncio.create_task(limiter.acquire(urgent=True)) for _ in range(URGENT)]
    await asyncio.sleep(1)
    with pytest.raises(TooManyWaiting):
        await limiter.acquire(urgent=True)
    for task in (*tasks[1:], *urgent[1:]):
        task.cancel()
    async with asyncio.timeout(120):
        await urgent[0]
    assert loop.time() >= 60.0 - ROUNDING


async def test_what_is_urgent_leaves_a_turn_to_others_now_and_then() -> None:
    queue, passed = TurnQueue(), list[bool]()

    async def call(*, urgent: bool) -> None:
        await queue.acquire(urgent=urgent)
        passed.append(urgent)
        queue.release()

    await queue.acquire(urgent=False)
    async with asyncio.TaskGroup() as group:
        for urgent in [False] * 3 + [True] * 3 * AT_MOST:
            group.create_task(call(urgent=urgent))
        await asyncio.sleep(0)
        queue.release()
    assert passed == ([True] * AT_MOST + [False]) * 3


async def test_one_that_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    queue = TurnQueue()
    await queue.acquire(urgent=False)
    second, third = (asyncio.create_task(queue.acquire(urgent=False)) for _ in range(2))
    await asyncio.sleep(0)
    queue.release()
    second.cancel()
    async with asyncio.timeout(60):
        await third
    assert second.cancelled()
