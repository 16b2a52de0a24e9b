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


class RateLimiter:
    """A sliding window: at most `count` in any `period` seconds, in bursts too."""

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self._taken: deque[float] = deque(maxlen=count)

    def reserve(self, now: float) -> float:
        """Take the next free moment; return the seconds until it comes, 0 for at once."""
        moment = self._next(now)
        self._taken.append(moment)
        return moment - now

    def take(self, now: float) -> bool:
        """Take one now, if that is allowed; return whether it is."""
        if self._next(now) > now:
            return False
        self._taken.append(now)
        return True

    def _next(self, now: float) -> float:
        full = len(self._taken) == self._taken.maxlen
        return max(now, self._taken[0] + self._period) if full else now


class Pacer:
    """An even rate without bursts: what leaves together may arrive late, in one second.

    rate: how many may pass in a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, float("-inf")

    def reserve(self, now: float, count: int = 1) -> float:
        """Let so many pass together at the next free moment; return the seconds until it comes."""
        moment = max(now, self._free)
        self._free = moment + count / self._rate
        return moment - now
