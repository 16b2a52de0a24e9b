"""A rate limit, as the clouds count it: so much in any stretch of so many seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class RateWindow:
    """A sliding window of a rate limit.  Holds no more entries than the limit admits."""

    _entries: deque[tuple[float, int]] = field(default_factory=deque)
    _sum: int = 0

    def admits(self, now: float, limit: int, seconds: float, amount: int = 1) -> bool:
        """Return whether the limit allows another event, and count it if so.

        limit: how much in so many seconds; 0 for no limit.  amount: what the event counts, from 1.
        """
        if not limit:
            return True
        while self._entries and now - self._entries[0][0] >= seconds:
            self._sum -= self._entries.popleft()[1]
        if self._sum + amount > limit:
            return False
        self._entries.append((now, amount))
        self._sum += amount
        return True
