"""When to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.runtime.backoff import Pacer, RateLimiter, delay


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_doubles_up_to_its_limit(failures: int, jitter: float) -> None:
    wait = delay(failures, 15.0, 600.0, jitter)
    assert 12.0 <= wait <= 720.0
    assert delay(failures + 1, 15.0, 600.0, jitter) >= wait


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 5))
def test_a_budget_is_never_overdrawn(gaps: list[float], count: int) -> None:
    budget, now, moments = RateLimiter(count, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        moments.append(now + budget.reserve(now))
    for early, late in zip(moments, moments[count:], strict=False):
        assert late - early >= 60.0 - 1e-6


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 5))
def test_an_allowance_is_never_overdrawn_and_comes_back(gaps: list[float], count: int) -> None:
    allowance, now, taken = RateLimiter(count, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        if allowance.take(now):
            taken.append(now)
    assert all(late - early >= 60.0 for early, late in zip(taken, taken[count:], strict=False))
    assert allowance.take(now + 60.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 20)), max_size=60))
def test_a_lane_spreads_evenly_what_passes(steps: list[tuple[float, int]]) -> None:
    lane, now, free = Pacer(10.0), 0.0, 0.0
    for gap, count in steps:
        now += gap
        moment = now + lane.reserve(now, count)
        assert moment >= max(now, free) - 1e-6
        free = moment + count / 10.0
