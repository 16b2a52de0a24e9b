"""Time and chance as arguments; whether the clock was set, and whether it is in step."""

from __future__ import annotations

import asyncio
import ctypes
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_MICRO = 1_000_000

BUILT = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp()) * _MICRO
"""The day of this release, microseconds since the epoch: a clock that shows an earlier one is not
set, as after a boot without a battery and before the first answer of a time server."""

LOOK = 5.0
"""Seconds between two looks at a clock that is not set."""
RECHECK = 3600.0
"""Seconds after which the time is read again: the gateway's clock may be set meanwhile."""
SHORTEST = 1.0
"""Shortest wait in seconds for a time of day, since the two clocks are never exactly in step."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks of a process, and chance.

    now: seconds of a steady clock, as the event loop's.  wall: microseconds since the epoch.
    jitter: a number from [0, 1) at each call.
    earliest: what `wall` cannot show when it is set.
    """

    now: Callable[[], float]
    wall: Callable[[], int]
    jitter: Callable[[], float] = random.SystemRandom().random
    earliest: int = 0

    def to_wall(self, moment: float) -> int:
        """Turn a moment of the steady clock into microseconds since the epoch."""
        return self.wall() + int((moment - self.now()) * _MICRO)

    def timestamp(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.wall() / _MICRO

    def is_set(self) -> bool:
        """Whether the wall clock was set: what it shows may go where it lasts."""
        return self.wall() >= self.earliest

    def until_look(self, moment: float) -> float:
        """Return the seconds to wait until the time is to be read again, for what is due then.

        moment: seconds since the epoch; infinite where nothing is due.
        """
        if not self.is_set():
            return LOOK
        return min(max(moment - self.timestamp(), SHORTEST), RECHECK)

    def stamp(self) -> int:
        """Return the time for a record of what cannot wait: never one before `earliest`."""
        return max(self.wall(), self.earliest)

    async def wait_until_set(self) -> None:
        """Return when the wall clock is set."""
        while not self.is_set():
            await asyncio.sleep(LOOK)

    def fault(self) -> str:
        """Return why the wall clock cannot be used, and what to do; "" where it can."""
        if self.is_set():
            return ""
        shown = datetime.fromtimestamp(max(0.0, self.timestamp()), UTC)
        return (
            f"the clock is not set, as it shows {shown:%Y-%m-%d}: nothing is registered or renewed "
            "until it is; check the time service with timedatectl"
        )


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
