"""When to try again, and how often at most: pure arithmetic on seconds."""

from __future__ import annotations

from collections import deque

SPREAD = 0.2
"""How far a delay is moved at random, so that many children do not come back together."""

_MAX_DOUBLINGS = 32


def delay(failures: int, first: float, last: float, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row (1 or more).

    first: after the first one, doubled after each more; last: the longest.
    jitter: a number from [0, 1), which moves the delay by up to 20 % either way.
    """
    doubled = first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return float(min(doubled, last) * (1 - SPREAD + 2 * SPREAD * jitter))


class Budget:
    """At most `count` in any `period` seconds."""

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self._taken: deque[float] = deque(maxlen=count)

    def reserve(self, now: float) -> float:
        """Take the next free moment; return the seconds until it comes, 0 for at once."""
        moment = now
        if len(self._taken) == self._taken.maxlen:
            moment = max(now, self._taken[0] + self._period)
        self._taken.append(moment)
        return moment - now


class Allowance:
    """At most `count` in any `period` seconds; whoever comes too early is refused."""

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self._taken: deque[float] = deque(maxlen=count)

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        if len(self._taken) == self._taken.maxlen and self._taken[0] + self._period > now:
            return False
        self._taken.append(now)
        return True


class Lane:
    """rate: how many may pass in a second, spread evenly, without bursts: what leaves together in
    time for the one second may arrive late, and count for the next one."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, float("-inf")

    def take(self, now: float, count: int = 1) -> float:
        """Let so many pass together, now or later; return in how many seconds."""
        moment = max(now, self._free)
        self._free = moment + count / self._rate
        return moment - now
