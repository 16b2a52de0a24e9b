"""The time after which a gateway that could not renew its lease may send nothing for any child.

etcd deletes the keys of a lease LEASE seconds after it was last renewed, or later, and no other
gateway can claim a shard before.  A renewal reached etcd after it was sent, so that a fence which
counts from the sending, and ends FENCE seconds after it, ends before: with 5 s for what is under
way, and for clocks whose rates differ (by 1 in 1,000 it would be 15 ms).

The clock is the boot time of the kernel (CLOCK_BOOTTIME): a process that was stopped by SIGSTOP, or
a machine that was suspended, finds its fence over as soon as it runs on.

What was given to a socket before may still wait in the kernel for a network that is away.  So a
connection is aborted where its shard is lost by time (SO_LINGER with 0 seconds: nothing more is
sent), and one that is being made has no longer than the fence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

LEASE = 15
"""Seconds of the lease at etcd."""
RENEW_EVERY = 3.0
"""Seconds from one renewal to the next."""
FENCE = 10.0
"""Seconds from the sending of the last renewal that succeeded."""


def boot_time() -> float:
    """Return the seconds since the machine was booted, with those that it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Whether this gateway may send something for its children, by its lease.

    now: seconds of the clock, as `boot_time`.
    """

    def __init__(self, now: Callable[[], float] = boot_time) -> None:
        self._now = now
        self._until = -math.inf

    @property
    def until(self) -> float:
        """When it is over, in seconds of the clock; -inf before the first renewal."""
        return self._until

    def holds(self) -> bool:
        """Whether something may be sent now.

        To be asked immediately before: what is sent a moment later may be sent too late.
        """
        return self._now() < self._until

    def left(self) -> float:
        """Return the seconds for which it holds; 0 where it does not."""
        return max(0.0, self._until - self._now())

    def renewed(self, sent: float) -> None:
        """Note that etcd has granted or renewed the lease.

        sent: when the request for it was sent, not when it was answered: one whose answer came
        after a stop of this process does not hold.
        """
        self._until = max(self._until, sent + FENCE)

    def end(self) -> None:
        """Let it hold no longer: the lease is given back, or lost."""
        self._until = -math.inf
