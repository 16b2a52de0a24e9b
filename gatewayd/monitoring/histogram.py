"""Durations, counted by how long they were: what a metric of Prometheus shows."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Durations:
    """The durations that were observed until a moment.

    buckets: upper bounds in seconds, ascending, each with how many took at most as long.
    number: of all.  total: their sum in seconds.
    """

    buckets: tuple[tuple[float, int], ...]
    number: int
    total: float


class DurationHistogram:
    """A histogram of durations in seconds.

    One thread observes; any may read what was observed, a moment later.
    bounds: the upper bounds of the buckets in seconds, ascending; what is longer counts, too.
    now: seconds of a steady clock.
    """

    def __init__(
        self, bounds: Sequence[float], now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._bounds, self._now = tuple(bounds), now
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration; one below 0 counts as 0."""
        seconds = max(seconds, 0.0)
        self._counts[bisect.bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count how long the block takes, also where it fails."""
        begun = self._now()
        try:
            yield
        finally:
            self.observe(self._now() - begun)

    def observed(self) -> Durations:
        """Return what was observed until now."""
        counts, running, buckets = tuple(self._counts), 0, []
        for bound, count in zip(self._bounds, counts, strict=False):
            running += count
            buckets.append((bound, running))
        return Durations(tuple(buckets), running + counts[-1], self._total)
