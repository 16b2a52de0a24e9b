"""The queues of the inventory: by deadline, by what to evict first, and of sightings that wait."""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable
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
    """A queue of keys by rank, and within a rank by age, where each share gives up its own.

    Without room, the key that leaves is one of the lowest rank, there of the share that has the
    most, and there the oldest: so no share pushes out what another has within an equal part.
    Ranks and shares are few; every operation takes a time that depends on their number alone.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, dict[str, dict[K, None]]] = {}
        self._places: dict[K, tuple[int, str]] = {}
        self._shares: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: K) -> bool:
        return key in self._places

    def put(self, key: K, rank: int, shares: Collection[str] = ()) -> None:
        """Add a key as the youngest of its rank and share; a key that is here moves.

        shares: those that it may be counted for; the one with the fewest keys is taken.
        """
        self.discard(key)
        bucket = self._buckets.setdefault(rank, {})
        share = min(sorted(shares), key=lambda one: len(bucket.get(one, ())), default="")
        bucket.setdefault(share, {})[key] = None
        self._places[key] = rank, share
        self._shares[share] += 1

    def discard(self, key: K) -> None:
        """Remove a key, if it is here."""
        place = self._places.pop(key, None)
        if place is None:
            return
        rank, share = place
        bucket = self._buckets[rank]
        del bucket[share][key]
        if not bucket[share]:
            del bucket[share]
        if not bucket:
            del self._buckets[rank]
        self._shares[share] -= 1
        if not self._shares[share]:
            del self._shares[share]

    def excess(self, limit: int) -> K | None:
        """Return the key that is to leave first of a share that has more than so many keys; None
        if no share has."""
        share, count = next(iter(self._shares.most_common(1)), ("", 0))
        if count <= limit:
            return None
        rank = min(rank for rank, bucket in self._buckets.items() if share in bucket)
        return next(iter(self._buckets[rank][share]))

    def lowest(self) -> K:
        """Return the key that is to leave first.  Raises LookupError if there is none."""
        if not self._buckets:
            raise LookupError("the queue is empty")
        shares = self._buckets[min(self._buckets)]
        most = max(shares, key=lambda share: len(shares[share]))
        return next(iter(shares[most]))


class UnprovenOrigins:
    """The origins of which the kernel does not know who is there, by address.

    limit: how many are kept; the oldest leave.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._addresses: dict[Origin, tuple[str, ...]] = {}
        self._there: dict[str, dict[Origin, None]] = {}
        self._due: dict[Origin, None] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def is_due(self) -> bool:
        """Whether there is one to be judged again."""
        return bool(self._due)

    def put(self, origin: Origin, addresses: Collection[str]) -> None:
        """Add an origin, in place of what is known of it.  addresses: the scope may follow."""
        self.discard(origin)
        self._addresses[origin] = tuple({one.partition("%")[0] for one in addresses})
        for one in self._addresses[origin]:
            self._there.setdefault(one, {})[origin] = None
        if len(self) > self._limit:
            self.discard(next(iter(self._addresses)))

    def discard(self, origin: Origin) -> None:
        """Remove an origin, if it is here."""
        self._due.pop(origin, None)
        for one in self._addresses.pop(origin, ()):
            del self._there[one][origin]
            if not self._there[one]:
                del self._there[one]

    def found(self, address: str) -> bool:
        """Note that the kernel has found out who is at an address; return whether that matters.

        address: without scope.
        """
        there = self._there.get(address, {})
        self._due |= there
        return bool(there)

    def pop(self) -> Origin | None:
        """Remove and return an origin that is to be judged again; None if there is none."""
        origin = next(iter(self._due), None)
        if origin is not None:
            self.discard(origin)
        return origin


def share_of(source: str) -> str:
    """Return whose share a source is part of: the discoverer's, on all interfaces."""
    return source.partition("/")[0]


@dataclass(slots=True)
class QueuedSighting:
    """What was reported of an origin and not yet processed: a sighting, then perhaps its loss."""

    sighting: Sighting | None = None
    loss: Loss | None = None


class SightingQueue:
    """A queue of the newest report of each origin: discoverers take turns, and of each one what
    came first is first.

    limit: how many are kept; without room, one of the lowest rank is dropped, of the discoverer
    that has most of these.
    dropped: called with the origin of each that was.
    """

    def __init__(self, limit: int, dropped: Callable[[Origin], None] = lambda _: None) -> None:
        self._limit, self._dropped = limit, dropped
        self._turns: dict[str, dict[Origin, QueuedSighting]] = {}
        self._eviction: EvictionQueue[Origin] = EvictionQueue()
        self.overflow = 0

    def __len__(self) -> int:
        return len(self._eviction)

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._eviction

    def waiting(self, name: str = "") -> int:
        """Return how many reports wait of one discoverer, or of all."""
        return len(self._turns.get(name, ())) if name else len(self)

    def sight(self, sighting: Sighting, rank: int) -> None:
        """Add a sighting; it replaces what waits of its origin."""
        self._put(sighting.origin, QueuedSighting(sighting), rank)

    def lose(self, loss: Loss, rank: int) -> None:
        """Add a loss, after the sighting that waits already: the loss may be forged."""
        waiting = self._turns.get(share_of(loss.source), {}).get(loss.origin)
        if waiting is not None:
            waiting.loss = loss
        else:
            self._put(loss.origin, QueuedSighting(None, loss), rank)

    def pop(self) -> QueuedSighting | None:
        """Remove and return the oldest item of whose turn it is; None if there is none."""
        if not self._turns:
            return None
        name = next(iter(self._turns))
        own = self._turns.pop(name)
        origin = next(iter(own))
        item = own.pop(origin)
        if own:
            self._turns[name] = own
        self._eviction.discard(origin)
        return item

    def _put(self, origin: Origin, item: QueuedSighting, rank: int) -> None:
        name = share_of(origin[0])
        if origin not in self._eviction:
            self._eviction.put(origin, rank, (name,))
        self._turns.setdefault(name, {})[origin] = item
        if len(self) > self._limit:
            self._drop()

    def _drop(self) -> None:
        lowest = self._eviction.lowest()
        self._eviction.discard(lowest)
        name = share_of(lowest[0])
        del self._turns[name][lowest]
        if not self._turns[name]:
            del self._turns[name]
        self.overflow += 1
        self._dropped(lowest)
        if self.overflow == 1:
            log.warning(
                "Dropped a sighting: %d wait to be processed."
                " Raise max_queued under [discovery] if these are devices, and no flood.",
                self._limit,
            )
