"""mDNS on one interface: when to ask again, and when to start afresh."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.link_life import CHECK_EVERY, LinkLife
from gatewayd.discovery.mdns.backend import MdnsBackend, PacketJudge, finish
from gatewayd.discovery.mdns.records import (
    InstanceName,
    ServiceInfo,
    confirmed_info,
    matches_claims,
)
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.tracker import NameTracker
from gatewayd.discovery.mdns.traffic import PacketVerdict, Traffic
from gatewayd.runtime.rate_limiter import FloodAlarm

log = logging.getLogger(__name__)

CALM = 60.0
"""Seconds without excess after which another flood is logged."""
ASK_EVERY = 2.0
"""Seconds between two questions for all names while packets of strangers are dropped unread: a new
child answers each, and one of its answers is read."""
RENEW_EVERY = 5.0
"""Seconds from one opening of the backend until the next after it was full."""
VERIFY_TIMEOUT = 3.0
"""Seconds that verifying one name may take."""

OpenBackend = Callable[[LanInterface, PacketJudge, Callable[[], None]], MdnsBackend]
"""Makes a backend for a usable interface; it calls the last function when it holds too much."""


class MdnsInterface:
    """One interface, listened on while it is up and has an address.

    link: returns what the kernel says of it; `relinked` is to be called when that has changed.
    source: of the sightings.  services: types without domain.  health: counts what happens.
    """

    def __init__(  # noqa: PLR0913  # by keyword
        self,
        interface: str,
        settings: MdnsSettings,
        *,
        link: Callable[[], LanInterface],
        source: str,
        services: Sequence[str],
        context: Context,
        sink: Sink,
        health: Health,
        open_backend: OpenBackend,
    ) -> None:
        self._interface, self._link, self._services = interface, link, services
        self._rescan_every = settings.rescan_every
        self._context, self._health = context, health
        self._open = open_backend
        self._full = self._rescanning = False
        self._life = LinkLife(
            interface,
            "mDNS",
            source=source,
            link=link,
            bound=link().endpoint,
            context=context,
            health=health,
        )
        self._traffic = Traffic(services, context.is_known, context.now())
        self._flood, self._excess = FloodAlarm(CALM), FloodAlarm(CHECK_EVERY)
        self._tracker = NameTracker(
            settings,
            source=source,
            interface=interface,
            context=context,
            sink=sink,
            health=health,
            on_full=self._on_full,
        )

    async def run(self) -> None:
        """Listen whenever the interface is usable, until cancelled."""
        try:
            await self._life.run(self._work, self._again)
        finally:
            self._tracker.stop()

    def relinked(self) -> None:
        """Process a change of the interface: once its endpoint has changed, sockets are deaf."""
        link = self._link()
        if not self._life.has_moved(link.endpoint) and self._tracker.backend:
            self._tracker.backend.relink(link)

    def rescan(self) -> None:
        """Clear the cache, and ask for all names."""
        self._rescanning = True
        self._life.wake()

    async def verify(self, name: InstanceName, known: Sighting) -> Sighting | None:
        """Ask for one device, whatever is cached; None if it does not answer in time.

        known: its last sighting.  An answer with the same claims is believed to be the device's,
        however many other hosts answer something else.

        Raises DiscoveryRetry if it could not be asked, or its answer not be received, on this
        interface: this says nothing of the device.
        """
        link = self._life.usable_link()
        try:
            async with self._backend(link) as backend, asyncio.timeout(VERIFY_TIMEOUT):
                info = await self._asked(backend, name, known)
        except TimeoutError:
            info = None
        except OSError as error:
            raise self._life.not_asked(error) from error
        if info:
            return self._tracker.confirmed(name, info)
        self._life.check_unmoved(link)
        return None

    async def _asked(
        self, backend: MdnsBackend, name: InstanceName, known: Sighting
    ) -> ServiceInfo | None:
        matches = partial(matches_claims, name.service, known.claims)
        text = await backend.confirm(name, matches)
        if text is None:
            return None
        info = backend.cached(name)
        if matches(text):
            info = confirmed_info(known, text, info, self._context.now())
        return info or await backend.resolve(name, VERIFY_TIMEOUT)

    @asynccontextmanager
    async def _backend(self, link: LanInterface) -> AsyncIterator[MdnsBackend]:
        """Yield the open backend, or one just for this: a renewal must not make children absent."""
        if self._tracker.backend:
            yield self._tracker.backend
            return
        backend = self._open(link, self._judge, lambda: None)
        try:
            await backend.start()
            yield backend
        finally:
            await finish(backend.close())

    async def _work(self, link: LanInterface) -> None:
        self._full = self._rescanning = False
        try:
            await self._listen(link)
        finally:
            # The objects of a closed library refer to one another, so they would stay until the
            # collector of old objects runs: several caches of it at once in a flood.
            gc.collect()

    async def _listen(self, link: LanInterface) -> None:
        """Listen until the backend is full, or a rescan or another endpoint ends it."""
        self._life.bind(link.endpoint)
        if not link.is_usable:
            self._life.unusable()
            return
        backend = self._open(link, self._judge, self._on_full)
        self._life.opening()
        try:
            await backend.start()
            self._life.failures = 0
            self._tracker.backend = backend
            self.relinked()  # a change while it was opened
            while not self._ends():
                await backend.browse(self._services, self._tracker.announced, self._tracker.removed)
                await self._until_rescan(backend)
        finally:
            await finish(self._close(backend))

    async def _close(self, backend: MdnsBackend) -> None:
        await self._tracker.suspend()
        await backend.close()

    def _ends(self) -> bool:
        return self._full or self._rescanning or self._life.moved

    async def _until_rescan(self, backend: MdnsBackend) -> None:
        spread = 0.9 + 0.2 * self._context.jitter()
        end = self._context.now() + spread * self._rescan_every
        while (left := end - self._context.now()) > 0 and not self._ends():
            excess = self._excess.is_on(self._context.now())
            if excess:
                backend.ask(self._services)
            await self._life.wait(min(left, ASK_EVERY if excess else CHECK_EVERY))
            self._tracker.expire()

    def _again(self, opened_at: float, since: float) -> float | None:
        """Return when to listen again after a flood or for a rescan.  See `Again`."""
        if self._full:
            return opened_at + RENEW_EVERY
        return since if self._rescanning else None

    def _judge(self, sender: str, packet: bytes) -> PacketVerdict:
        """Judge a packet before it is parsed."""
        now = self._context.now()
        verdict = self._traffic.judge(sender, packet, now)
        if verdict.is_flood:
            self._report_flood(now)
            if verdict is PacketVerdict.LINK_FLOOD and self._excess.ring(now):
                self._life.wake()
        return verdict

    def _on_full(self) -> None:
        """Close the backend and open another, so that the memory of all it holds is freed."""
        if not self._full:
            self._full = True
            self._life.wake()
            self._health.drop("flood")
            self._report_flood(self._context.now())

    def _report_flood(self, now: float) -> None:
        if self._flood.ring(now):
            log.warning(
                "mDNS on %s is flooded; packets of strangers are dropped unread.",
                self._interface,
                extra={"message_id": "lan-flooded"},
            )
