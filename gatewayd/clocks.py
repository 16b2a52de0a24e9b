"""Time and chance, as an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """What tells the time.

    now: the event loop's clock, seconds.  wall: microseconds since the epoch.
    jitter: a number from [0, 1) at each call.
    """

    now: Callable[[], float]
    wall: Callable[[], int]
    jitter: Callable[[], float]

    def to_wall(self, moment: float) -> int:
        """Turn a moment of the event loop's clock into microseconds since the epoch."""
        return self.wall() + int((moment - self.now()) * _MICRO)
