"""What waits to be taken in: the newest of each place, and no more than there is room for."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.discovery.discoverer import Loss, Sighting
from gatewayd.discovery.holders import Place
from gatewayd.discovery.ladder import Ladder


@dataclass(slots=True)
class Item:
    """What was told of a place since it was last looked at: a sighting, then perhaps its loss."""

    sighting: Sighting | None = None
    loss: Loss | None = None


class Inbox:
    """Items by place, first come, first served.  limit: how many; the lowest ranked go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[Place, Item] = {}
        self._ladder: Ladder[Place] = Ladder()
        self.overflow = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, place: Place) -> bool:
        return place in self._items

    def sight(self, sighting: Sighting, rank: int) -> None:
        """Put in a sighting; it takes the place of whatever was told before."""
        self._put((sighting.source, sighting.key), Item(sighting), rank)

    def lose(self, loss: Loss, rank: int) -> None:
        """Put in a loss, after the sighting that waits already: it may be a lie."""
        place = (loss.source, loss.key)
        waiting = self._items.get(place)
        if waiting is not None:
            waiting.loss = loss
        else:
            self._put(place, Item(None, loss), rank)

    def pop(self) -> Item | None:
        """Take out the oldest item; None where there is none."""
        if not self._items:
            return None
        place = next(iter(self._items))
        self._ladder.discard(place)
        return self._items.pop(place)

    def _put(self, place: Place, item: Item, rank: int) -> None:
        if place not in self._items:
            self._ladder.put(place, rank)
        self._items[place] = item
        if len(self._items) > self._limit:
            lowest = self._ladder.lowest()
            self._ladder.discard(lowest)
            del self._items[lowest]
            self.overflow += 1
