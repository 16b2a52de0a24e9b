"""Time and chance as arguments; and whether the clock is in step."""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks of a process, and chance.

    now: seconds of a steady clock, as the event loop's.  wall: microseconds since the epoch.
    jitter: a number from [0, 1) at each call.
    """

    now: Callable[[], float]
    wall: Callable[[], int]
    jitter: Callable[[], float] = random.SystemRandom().random

    def to_wall(self, moment: float) -> int:
        """Turn a moment of the steady clock into microseconds since the epoch."""
        return self.wall() + int((moment - self.now()) * _MICRO)

    def timestamp(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.wall() / _MICRO


def wall_time() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


SYSTEM_CLOCK = Clock(time.monotonic, wall_time)

MARK = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd(8) touches it at each synchronisation."""

_SIZE = 512  # bytes; struct timex has 208 on 64-bit systems
_TIME_ERROR = 5


def synchronised(mark: Path = MARK) -> bool | None:
    """Return whether a time service keeps the clock in step; None where that is not known.

    The kernel is asked by adjtimex(2), which changes nothing where `modes` is 0; a service with
    ProtectClock= may not ask.  Then the mark of systemd-timesyncd says that it is; without the
    mark, another time service may still keep it.  mark: the file of systemd-timesyncd.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = int(libc.adjtimex(ctypes.create_string_buffer(_SIZE)))
    except (OSError, AttributeError):  # a libc without it
        state = -1
    if state < 0:
        return mark.exists() or None
    return state != _TIME_ERROR
