"""The devices on the LAN: many sightings become one device, and silence becomes a loss."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace

from gatewayd.device.identity import Claim, DeviceId, Evidence, kernel_macs
from gatewayd.discovery.device_table import DeviceTable, with_facts
from gatewayd.discovery.discoverer import (
    MATCHABLE,
    Context,
    Interest,
    Listener,
    Loss,
    LossReason,
    Sighting,
)
from gatewayd.discovery.presence import LEFT, SILENT, Observation, PresenceState
from gatewayd.discovery.queues import QueuedSighting, SightingQueue, UnprovenOrigins
from gatewayd.discovery.settings import InventorySettings

log = logging.getLogger(__name__)

BATCH = 64
"""How many reports are processed before other tasks on the event loop run."""
MAX_KNOWN_ADDRESSES = 10_000
KNOWN_FOR = 2.0
"""Seconds until they are gathered again."""
MAX_UNPROVEN = 4096
"""Origins that are judged again once the kernel finds out who is there."""
SAME_TENANT = 60.0
"""Seconds after a sighting in which its address has not yet passed to another device."""
PINNED = 100
"""The rank in the queue of what seems to be a pinned device: above all that trust can give."""
LISTED = 20
"""What is added to the rank of a listed identity: more than any trust gives."""
CAUSES = {LossReason.GOODBYE: LEFT, LossReason.EXPIRED: SILENT}
"""The losses that make a device suspect, and why.  The others say nothing of the device."""


class Inventory:
    """The inventory of devices: a `Sink` of discoverers, which notifies a listener of changes.

    Not to be shared between threads.

    verify: asks one device for a fresh sighting; None if it does not answer.  If it raises, the
    device could not be asked.  corroborate: adds what the kernel knows to a sighting.
    identify: returns what the rules take for the identity of a device with these attributes.
    is_listed: whether a rule lists a value of an identity.
    """

    def __init__(  # noqa: PLR0913  # the last by keyword
        self,
        settings: InventorySettings,
        context: Context,
        verify: Callable[[Sighting], Awaitable[Sighting | None]],
        corroborate: Callable[[Sighting], Sighting],
        identify: Callable[[Mapping[str, str]], frozenset[Claim]],
        listener: Listener,
        *,
        is_listed: Callable[[Claim], bool] = lambda _: False,
    ) -> None:
        self._settings, self._context = settings, context
        self._verify, self._corroborate, self._identify = verify, corroborate, identify
        self._table = DeviceTable(settings, listener, context.jitter, is_listed)
        self._queue = SightingQueue(settings.max_queued)
        self._few = min(BATCH, settings.max_queued // 2)
        self._unproven = UnprovenOrigins(MAX_UNPROVEN)
        self._processed = asyncio.Event()
        self._suspects: deque[Observation] = deque()
        self._probing = 0
        self._known: frozenset[str] = frozenset()
        self._known_until = float("-inf")
        self._wake = asyncio.Event()

    # What discoverers report.

    async def room(self, name: str = "") -> None:
        """Return when no more than a batch of reports waits: the LAN needs the queue, too."""
        while self._queue.waiting(name) >= self._few:
            self._processed.clear()
            await self._processed.wait()

    def sight(self, sighting: Sighting) -> None:
        """Queue a sighting."""
        recognised = self._table.resolver.recognises(sighting.origin, sighting.claims)
        self._queue.sight(sighting, PINNED if recognised else self._rank(sighting))
        self._wake.set()

    def lose(self, loss: Loss) -> None:
        """Queue a loss, if it may say something of a device."""
        self._table.counts[f"loss-{loss.reason.value}"] += 1
        known = loss.origin in self._queue or self._table.is_observed(loss.origin)
        if loss.reason in CAUSES and known:
            self._queue.lose(loss, PINNED)
            self._wake.set()

    def neighbour_found(self, address: str) -> None:
        """Judge again what was seen at an address, as the kernel knows its MAC from now on.

        address: without scope.
        """
        if self._unproven.found(address):
            self._wake.set()

    # What others read, and what they decide.

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device; it has no views while it is not seen."""
        return self._table.evidence(device)

    def state(self, device: DeviceId) -> PresenceState:
        """Return whether a device is there, whatever was reported."""
        return self._table.presence(device).state

    def is_flapping(self, device: DeviceId) -> bool:
        """Whether a device comes and goes too often, so that its presence is not reported."""
        return self._table.presence(device).flapping

    def last_seen(self, device: DeviceId) -> float:
        """Return when a device was last seen, seconds of the event loop's clock; 0 for never."""
        return self._table.last_seen(device)

    def changed_at(self, device: DeviceId) -> float:
        """Return when what is known of a device last changed; 0 for never."""
        return self._table.presence(device).changed_at

    def known_addresses(self) -> frozenset[str]:
        """Return the IP addresses of devices on record, as of the last 2 s; at most 10,000."""
        now = self._context.now()
        if now >= self._known_until:
            self._known = self._table.known_addresses(MAX_KNOWN_ADDRESSES)
            self._known_until = now + KNOWN_FOR
        return self._known

    def counters(self) -> dict[str, int]:
        """Return counters by kebab-case name."""
        queue = {
            "sighting-queue": len(self._queue),
            "sighting-queue-overflow": self._queue.overflow,
        }
        return self._table.counters() | queue

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""
        self._table.add_known(device, claims, self._context.now())

    def pin(self, device: DeviceId) -> None:
        """Never evict a device, nor merge it into another; its present claims are approved."""
        self.add_known(device, self.evidence(device).claims)

    def unpin(self, device: DeviceId) -> None:
        """Let a device be evicted and merged again."""
        self._table.resolver.unpin(device)

    def forget(self, device: DeviceId) -> None:
        """Remove a device; the next sighting creates it again."""
        self._table.forget(device)

    def answer(self, answers: Mapping[Claim, DeviceId | None]) -> None:
        """Obey an operator who says whose claims are, as `Resolver.answer` does."""
        self._table.answer(answers, self._context.now(), self._rank)

    def disputed(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        """Return what two devices both show, by what it is looked up by.

        other: None for what one device shows at two places.
        """
        return self._table.disputed(device, other)

    def identity(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        """Return what a device would have that is one with another, by what it is looked up by.

        other: None for the MACs behind which the device is in question, and for what it shows that
        identifies none.
        """
        return self._table.identity(device, other)

    def distinctive(self, device: DeviceId, without: Collection[Claim] = ()) -> frozenset[Claim]:
        """Return what identifies a device and no other, except some, by their keys."""
        return self._table.resolver.distinctive(device, without=without)

    # What is done meanwhile.

    async def run(self) -> None:
        """Work until cancelled; then no probe is left under way.  To be called once."""
        async with asyncio.TaskGroup() as probes:
            while True:
                self._wake.clear()
                self._process_queue()
                self._judge_again()
                self._collect_suspects()
                self._start_probes(probes)
                await self._pause()

    async def _pause(self) -> None:
        """Wait until something is to be done."""
        if self._queue or self._unproven.is_due:
            await asyncio.sleep(0)
            return
        moment = self._table.next()
        delay = None if moment is None else max(moment - self._context.now(), 0)
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass  # something is due

    def _process_queue(self) -> None:
        for _ in range(BATCH):
            item = self._queue.pop()
            if item is None:
                break
            self._process(item)
        self._processed.set()

    def _process(self, item: QueuedSighting) -> None:
        now = self._context.now()
        if item.sighting is not None:
            sighting = self._complete(item.sighting)
            self._table.add_sighting(sighting, now, rank=self._rank(sighting))
        if (loss := item.loss) is not None:
            self._table.suspect(loss.origin, CAUSES[loss.reason], now)

    def _judge_again(self) -> None:
        """Complete what was seen before the kernel knew who is there.

        That is no sighting: what is suspect stays so, and is completed by its answer.  After a
        while the kernel may have found the next tenant of an address there: then it counts only
        for a device that claims this MAC itself.
        """
        now = self._context.now()
        for _ in range(BATCH):
            if (origin := self._unproven.pop()) is None:
                return
            if (before := self._table.newest(origin)) is None:
                continue
            seen = self._complete(before)
            own = {one.value for one in before.claims if one.kind == "mac"}
            found = {one.value for one in kernel_macs(seen.claims)}
            if now - before.at < SAME_TENANT or not found.isdisjoint(own):
                self._table.add_sighting(seen, now, rank=self._rank(seen))

    def _collect_suspects(self) -> None:
        now = self._context.now()
        while (observation := self._table.due(now)) is not None:
            self._suspects.append(observation)

    def _start_probes(self, probes: asyncio.TaskGroup) -> None:
        while self._suspects and self._probing < self._settings.probe_at_once:
            observation = self._suspects.popleft()
            if self._table.is_suspect(observation):
                self._probing += 1
                probes.create_task(self._probe(observation), name="verify")

    async def _probe(self, observation: Observation) -> None:
        """Ask one suspect."""
        try:
            async with asyncio.timeout(self._settings.probe_timeout):
                answer = await self._verify(observation.sighting)
        except TimeoutError:
            self._conclude(observation, None)
        except Exception:  # border: discoverers are plug-ins; their faults say nothing of a device
            level = logging.DEBUG if self._table.counts["probes-failed"] else logging.WARNING
            about = {"device": observation.device}
            log.log(
                level, "Failed to probe device %s.", observation.device, exc_info=True, extra=about
            )
            self._table.probe_failed(observation, self._context.now())
        else:
            self._conclude(observation, answer)
        finally:
            self._probing -= 1
            self._wake.set()

    def _conclude(self, observation: Observation, answer: Sighting | None) -> None:
        now = self._context.now()
        if answer is None:
            self._table.probe_unanswered(observation, now)
        else:
            sighting = self._complete(answer)
            rank = self._rank(sighting)
            self._table.probe_answered(observation, sighting, now, rank=rank)

    def _complete(self, sighting: Sighting) -> Sighting:
        """Add what the kernel and the rules know to a sighting."""
        seen = self._corroborate(sighting)
        if kernel_macs(seen.claims) or seen.is_behind or not seen.addresses:
            self._unproven.discard(seen.origin)
        else:
            self._unproven.put(seen.origin, seen.addresses)
        attributes = with_facts(seen.attributes, seen.addresses)
        claims = seen.claims | self._identify(attributes)
        return replace(seen, attributes=attributes, claims=claims)

    def _rank(self, sighting: Sighting) -> int:
        """Return how much a device matters if there is no room for all.

        Those that an operator listed come first, then by trust, then those that rules want.
        """
        interest = self._context.interest(sighting.attributes)
        listed = interest is Interest.LISTED
        return LISTED * listed + 2 * sighting.trust + (interest in MATCHABLE)
