"""What tells a provider the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Time:
    """now: seconds of a steady clock.  wall: seconds since the epoch."""

    now: Callable[[], float]
    wall: Callable[[], float]


REAL_TIME = Time(time.monotonic, time.time)
