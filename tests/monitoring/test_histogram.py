"""Durations, counted by how long they were."""

from __future__ import annotations

import pytest

from gatewayd.monitoring.histogram import DurationHistogram


def test_a_duration_counts_in_each_bucket_that_it_fits() -> None:
    histogram = DurationHistogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 30.0, -1.0):  # a clock that goes back counts as none
        histogram.observe(seconds)
    found = histogram.observed()
    assert found.buckets == ((0.1, 3), (1.0, 4))
    assert found.number == 5
    assert found.total == pytest.approx(30.65)


def test_a_block_is_timed_also_where_it_fails() -> None:
    moments = iter((1.0, 3.0, 10.0, 10.5))
    histogram = DurationHistogram((1.0,), lambda: next(moments))
    with histogram.timed():
        pass
    with pytest.raises(OSError, match="full"), histogram.timed():
        raise OSError("full")
    found = histogram.observed()
    assert (found.buckets, found.number, found.total) == (((1.0, 1),), 2, 2.5)
