"""What is to be done when: one moment for each key, without a timer for each.

What has to go first when a table is full: the lowest rank, and there the oldest.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64


class Agenda(Generic[K]):
    """At most one moment for each key.  Moments are seconds of any one clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._valid: dict[K, int] = {}
        self._counter = 0

    def __len__(self) -> int:
        return len(self._valid)

    def put(self, key: K, moment: float) -> None:
        """Set the moment of a key; an earlier one is void."""
        self._counter += 1
        self._valid[key] = self._counter
        heapq.heappush(self._heap, (moment, self._counter, key))
        if len(self._heap) > 2 * len(self._valid) + _SLACK:
            self._compact()

    def discard(self, key: K) -> None:
        """Forget the moment of a key, if it has one."""
        self._valid.pop(key, None)

    def next(self) -> float | None:
        """Return the earliest moment; None where nothing is to be done."""
        while self._heap and self._is_void(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> K | None:
        """Take out a key whose moment has come; None where there is none."""
        moment = self.next()
        if moment is None or moment > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._valid[key]
        return key

    def _is_void(self, entry: tuple[float, int, K]) -> bool:
        return self._valid.get(entry[2]) != entry[1]

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if not self._is_void(entry)]
        heapq.heapify(self._heap)


class Ladder(Generic[K]):
    """Keys by rank, and within a rank by age.  Every operation takes constant time.

    Ranks are few: each is a rung that exists while it holds a key.
    """

    def __init__(self) -> None:
        self._rungs: dict[int, dict[K, None]] = {}
        self._rank: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._rank)

    def __contains__(self, key: K) -> bool:
        return key in self._rank

    def put(self, key: K, rank: int) -> None:
        """Put a key on a rung as its youngest; one that was here moves."""
        self.discard(key)
        self._rungs.setdefault(rank, {})[key] = None
        self._rank[key] = rank

    def discard(self, key: K) -> None:
        """Take a key off, if it is here."""
        rank = self._rank.pop(key, None)
        if rank is None:
            return
        del self._rungs[rank][key]
        if not self._rungs[rank]:
            del self._rungs[rank]

    def lowest(self) -> K:
        """Return the oldest key of the lowest rank.  Raises LookupError where there is none."""
        if not self._rungs:
            raise LookupError("an empty ladder has no lowest key")
        return next(iter(self._rungs[min(self._rungs)]))
