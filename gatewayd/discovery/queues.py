"""The queues of the inventory: by deadline, by what to evict first, and of sightings that wait."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gatewayd.discovery.discoverer import Loss, Origin, Sighting

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

_SLACK = 64


class DeadlineQueue(Generic[K]):
    """A queue of keys by deadline: one for each key, in seconds of any one clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._valid: dict[K, int] = {}
        self._counter = 0

    def __len__(self) -> int:
        return len(self._valid)

    def put(self, key: K, moment: float) -> None:
        """Set the deadline of a key, instead of its earlier one."""
        self._counter += 1
        self._valid[key] = self._counter
        heapq.heappush(self._heap, (moment, self._counter, key))
        if len(self._heap) > 2 * len(self._valid) + _SLACK:
            self._compact()

    def discard(self, key: K) -> None:
        """Remove a key, if it is here."""
        self._valid.pop(key, None)

    def next(self) -> float | None:
        """Return the earliest deadline; None if there is none."""
        while self._heap and self._is_void(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> K | None:
        """Remove and return a key whose deadline has come; None if there is none."""
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


class EvictionQueue(Generic[K]):
    """A queue of keys by rank, and within a rank by age.  Every operation takes constant time.

    Ranks are few: each has a bucket that exists while it holds a key.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, dict[K, None]] = {}
        self._rank: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._rank)

    def __contains__(self, key: K) -> bool:
        return key in self._rank

    def put(self, key: K, rank: int) -> None:
        """Add a key as the youngest of its rank; a key that is here moves."""
        self.discard(key)
        self._buckets.setdefault(rank, {})[key] = None
        self._rank[key] = rank

    def discard(self, key: K) -> None:
        """Remove a key, if it is here."""
        rank = self._rank.pop(key, None)
        if rank is None:
            return
        del self._buckets[rank][key]
        if not self._buckets[rank]:
            del self._buckets[rank]

    def lowest(self) -> K:
        """Return the oldest key of the lowest rank.  Raises LookupError if there is none."""
        if not self._buckets:
            raise LookupError("the queue is empty")
        return next(iter(self._buckets[min(self._buckets)]))


@dataclass(slots=True)
class QueuedSighting:
    """What was reported of an origin and not yet processed: a sighting, then perhaps its loss."""

    sighting: Sighting | None = None
    loss: Loss | None = None


class SightingQueue:
    """A queue of the newest report of each origin, first come, first served.

    limit: how many are kept; without room the oldest of the lowest rank is dropped.
    dropped: called with the origin of each that was.
    """

    def __init__(self, limit: int, dropped: Callable[[Origin], None] = lambda _: None) -> None:
        self._limit, self._dropped = limit, dropped
        self._items: dict[Origin, QueuedSighting] = {}
        self._eviction: EvictionQueue[Origin] = EvictionQueue()
        self.overflow = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._items

    def sight(self, sighting: Sighting, rank: int) -> None:
        """Add a sighting; it replaces what waits of its origin."""
        self._put(sighting.origin, QueuedSighting(sighting), rank)

    def lose(self, loss: Loss, rank: int) -> None:
        """Add a loss, after the sighting that waits already: the loss may be forged."""
        waiting = self._items.get(loss.origin)
        if waiting is not None:
            waiting.loss = loss
        else:
            self._put(loss.origin, QueuedSighting(None, loss), rank)

    def pop(self) -> QueuedSighting | None:
        """Remove and return the oldest item; None if there is none."""
        if not self._items:
            return None
        origin = next(iter(self._items))
        self._eviction.discard(origin)
        return self._items.pop(origin)

    def _put(self, origin: Origin, item: QueuedSighting, rank: int) -> None:
        if origin not in self._items:
            self._eviction.put(origin, rank)
        self._items[origin] = item
        if len(self._items) > self._limit:
            self._drop()

    def _drop(self) -> None:
        lowest = self._eviction.lowest()
        self._eviction.discard(lowest)
        del self._items[lowest]
        self.overflow += 1
        self._dropped(lowest)
        if self.overflow == 1:
            log.warning(
                "Dropped a sighting: %d wait to be processed."
                " Raise max_queued under [discovery] if these are devices, and no flood.",
                self._limit,
            )
