"""What has to go first when a table is full: the lowest rank, and there the oldest."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


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
