"""When to try again: pure arithmetic on seconds."""

from __future__ import annotations

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
