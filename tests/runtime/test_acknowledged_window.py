"""A rule that holds where things arrive, whatever the path does to them."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.runtime.rate_limiter import AcknowledgedWindow

LIMIT, PERIOD = 5, 1.0


@given(st.integers(0, 1 << 30), st.integers(1, 200))
def test_no_more_arrive_in_a_period_than_the_limit(seed: int, count: int) -> None:
    """Each arrives at some moment between its passing and its acknowledgement."""
    chance, rule = random.Random(seed), AcknowledgedWindow(LIMIT, PERIOD)
    now, under_way, arrivals = 0.0, list[tuple[float, float]](), list[float]()
    while len(arrivals) < count:
        now += chance.choice((0.0, 0.01, 0.3))
        for due, arrival in [one for one in under_way if one[0] <= now]:
            under_way.remove((due, arrival))
            rule.acknowledge(due)
        if rule.wait(now) > 0:
            continue
        rule.record(now)
        due = max([now, *(one[0] for one in under_way)]) + chance.choice((0.0, 0.05, 2.0))
        arrivals.append(chance.uniform(now, due))
        under_way.append((due, arrivals[-1]))
    arrivals.sort()
    for start in arrivals:
        assert sum(start <= one < start + PERIOD for one in arrivals) <= LIMIT


def test_how_long_to_wait() -> None:
    rule = AcknowledgedWindow(2, PERIOD)
    assert rule.wait(0.0, 2) == 0
    rule.record(0.0, 2)
    assert rule.wait(5.0) == PERIOD  # an acknowledgement at once would count till then
    rule.acknowledge(5.0)
    assert rule.wait(5.25) == 0.75
    assert rule.wait(5.25, 2) == PERIOD
    assert rule.wait(6.0) == 0
    rule.record(6.0)
    rule.acknowledge(6.0, 2)
    assert rule.wait(6.5, 2) == 0.5
    assert rule.wait(7.0, 2) == 0
