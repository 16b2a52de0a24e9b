"""The devices on the LAN: many sightings become one device, and silence becomes a loss.

What waits to be taken in: the newest of each place, and no more than there is room for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from gatewayd.device.identity import Claim, DeviceId, Evidence
from gatewayd.discovery.device_table import Roster
from gatewayd.discovery.discoverer import Context, Interest, Listener, Loss, LossReason, Sighting
from gatewayd.discovery.presence import LEFT, SILENT, Phase, Spot
from gatewayd.discovery.queues import Ladder
from gatewayd.discovery.resolver import Place
from gatewayd.discovery.settings import InventorySettings


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


log = logging.getLogger(__name__)

BATCH = 64
"""How many items are taken in before others on the event loop have their turn."""
PINNED = 100
"""The rank in the inbox of what seems to be a pinned device: above all that trust can give."""
CAUSES = {LossReason.GOODBYE: LEFT, LossReason.EXPIRED: SILENT}
"""What a loss makes us doubt.  The other losses say nothing of the device."""


class Inventory:
    """Takes what discoverers tell, and tells the listener what it means.  Implements `Sink`.

    Not to be shared between threads.

    verify: looks again for one device; None if it does not answer.  What it raises means that
    the device could not be asked.  corroborate: adds what the kernel knows to a sighting.
    """

    def __init__(
        self,
        settings: InventorySettings,
        context: Context,
        verify: Callable[[Sighting], Awaitable[Sighting | None]],
        corroborate: Callable[[Sighting], Sighting],
        listener: Listener,
    ) -> None:
        self._settings, self._context = settings, context
        self._verify, self._corroborate = verify, corroborate
        self._roster = Roster(settings, listener, context.jitter)
        self._inbox = Inbox(settings.max_keys)
        self._suspects: deque[Spot] = deque()
        self._asking = 0
        self._wake = asyncio.Event()

    # What discoverers tell.

    def sight(self, sighting: Sighting) -> None:
        """Take a sighting; it is looked at soon."""
        rank = PINNED if self._recognises(sighting) else self._worth(sighting)
        self._inbox.sight(sighting, rank)
        self._wake.set()

    def lose(self, loss: Loss) -> None:
        """Take a loss; only what may say something of the device is looked at."""
        self._roster.counters[f"loss-{loss.reason.value}"] += 1
        place = (loss.source, loss.key)
        if loss.reason in CAUSES and (place in self._inbox or self._roster.knows(place)):
            self._inbox.lose(loss, PINNED)
            self._wake.set()

    # What others may ask, and what they decide.

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device; it has no views while it is not seen."""
        return self._roster.evidence(device)

    def phase(self, device: DeviceId) -> Phase:
        """Return whether a device is there, whatever was reported."""
        return self._roster.presence(device).phase

    def is_flapping(self, device: DeviceId) -> bool:
        """Whether a device comes and goes too often, so that it is not reported at present."""
        return self._roster.presence(device).flapping

    def last_seen(self, device: DeviceId) -> float:
        """Return when it was last heard, seconds of the event loop's clock; 0 for never."""
        return self._roster.presence(device).last_seen

    def changed_at(self, device: DeviceId) -> float:
        """Return when what is known of it last changed; 0 for never."""
        return self._roster.presence(device).changed_at

    def counters(self) -> dict[str, int]:
        """Return counters by kebab-case name."""
        waiting = {"inbox": len(self._inbox), "inbox-overflow": self._inbox.overflow}
        return self._roster.tally() | waiting

    def know(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""
        self._roster.know(device, claims, self._context.now())

    def pin(self, device: DeviceId) -> None:
        """Never evict a device, nor merge it into another; what is seen of it now is approved."""
        self.know(device, self.evidence(device).claims)

    def unpin(self, device: DeviceId) -> None:
        """Treat a device as any other again."""
        self._roster.resolver.unpin(device)

    def forget(self, device: DeviceId) -> None:
        """Know a device no more; the next sighting makes it anew."""
        self._roster.forget(device)

    # What is done meanwhile.

    async def run(self) -> None:
        """Work until cancelled; then no question is left under way.  Once in a lifetime."""
        async with asyncio.TaskGroup() as questions:
            while True:
                self._wake.clear()
                self._take_in()
                self._collect()
                self._ask(questions)
                await self._pause()

    async def _pause(self) -> None:
        """Wait until something is to be done."""
        if self._inbox:
            await asyncio.sleep(0)
            return
        moment = self._roster.next()
        delay = None if moment is None else max(moment - self._context.now(), 0)
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass  # something is due

    def _take_in(self) -> None:
        for _ in range(BATCH):
            item = self._inbox.pop()
            if item is None:
                return
            self._take(item)

    def _take(self, item: Item) -> None:
        now = self._context.now()
        if item.sighting is not None:
            sighting = self._corroborate(item.sighting)
            self._roster.take(sighting, now, rank=self._worth(sighting))
        if (loss := item.loss) is not None:
            self._roster.lose((loss.source, loss.key), CAUSES[loss.reason], now)

    def _collect(self) -> None:
        now = self._context.now()
        while (spot := self._roster.due(now)) is not None:
            self._suspects.append(spot)

    def _ask(self, questions: asyncio.TaskGroup) -> None:
        while self._suspects and self._asking < self._settings.verify_at_once:
            spot = self._suspects.popleft()
            if self._roster.is_in_doubt(spot):
                self._asking += 1
                questions.create_task(self._question(spot), name="verify")

    async def _question(self, spot: Spot) -> None:
        """Ask one suspect."""
        try:
            async with asyncio.timeout(self._settings.verify_timeout):
                answer = await self._verify(spot.sighting)
        except TimeoutError:
            self._conclude(spot, None)
        except Exception:  # border: discoverers are plug-ins; their faults say nothing of a device
            level = logging.DEBUG if self._roster.counters["verify-failed"] else logging.WARNING
            log.log(level, "A device could not be asked.", exc_info=True, extra=_of(spot))
            self._roster.counters["verify-failed"] += 1
            self._roster.unclear(spot, self._context.now())
        else:
            self._conclude(spot, answer)
        finally:
            self._asking -= 1
            self._wake.set()

    def _conclude(self, spot: Spot, answer: Sighting | None) -> None:
        now = self._context.now()
        if answer is None:
            self._roster.missed(spot, now)
        else:
            sighting = self._corroborate(answer)
            self._roster.answered(spot, sighting, now, rank=self._worth(sighting))

    def _recognises(self, sighting: Sighting) -> bool:
        place = (sighting.source, sighting.key)
        return self._roster.resolver.recognises(place, sighting.claims)

    def _worth(self, sighting: Sighting) -> int:
        """How much a stranger matters when there is no room for all: proven first, then wanted."""
        wanted = self._context.interest(sighting.attributes) is Interest.WANTED
        return 2 * sighting.trust + wanted


def _of(spot: Spot) -> dict[str, str]:
    return {"device": spot.device}
