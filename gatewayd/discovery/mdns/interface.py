"""mDNS on one interface: when to listen, when to ask again, when to start afresh."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import LanInterface
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
from gatewayd.errors import DiscoveryRetry
from gatewayd.runtime.rate_limiter import FloodAlarm

log = logging.getLogger(__name__)

CHECK_EVERY = 15.0
"""Seconds between two checks of what has expired, and until sockets that could not be opened are
opened again, at most."""
FIRST_RETRY = 1.0
"""Seconds until they are opened again, at first."""
REOPEN_EVERY = 0.5
"""Seconds from one opening of the backend until the next, at least, whatever the interface does."""
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
        self._interface, self._source = interface, source
        self._link = link
        self._services = services
        self._rescan_every = settings.rescan_every
        self._context, self._health = context, health
        self._open = open_backend
        self._full = self._rescanning = self._moved = False
        self._opened_on = link().endpoint
        self._opened_at = float("-inf")
        self._failures = 0
        self._traffic = Traffic(services, context.is_known, context.now())
        self._flood, self._excess = FloodAlarm(CALM), FloodAlarm(CHECK_EVERY)
        self._wake = asyncio.Event()
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
        self._context.hook.states[self._source] = self._record_link
        try:
            while True:
                self._full = self._rescanning = self._moved = False
                try:
                    await self._listen(self._link())
                except (OSError, DiscoveryRetry) as error:
                    self._failures += 1
                    self._health.drop("no-socket")
                    log.warning(
                        "Failed to listen for mDNS on %s: %s.",
                        self._interface,
                        error,
                        extra={"once": f"{self._interface} {error}"},
                    )
                # The objects of a closed library refer to one another, so they would stay until
                # the collector of old objects runs: several caches of it at once in a flood.
                gc.collect()
                await self._pause()
        finally:
            self._context.hook.states.pop(self._source, None)
            self._tracker.stop()

    def relinked(self) -> None:
        """Process a change of the interface: once its endpoint has changed, sockets are deaf."""
        self._record_link()
        link = self._link()
        if link.endpoint != self._opened_on:
            self._moved = True
            self._wake.set()
        elif self._tracker.backend:
            self._tracker.backend.relink(link)

    def _record_link(self) -> None:
        if (observe := self._context.hook.observe) is not None:
            observe("interface", self._context.now(), self._link().facts)

    def rescan(self) -> None:
        """Clear the cache, and ask for all names."""
        self._rescanning = True
        self._wake.set()

    async def verify(self, name: InstanceName, known: Sighting) -> Sighting | None:
        """Ask for one device, whatever is cached; None if it does not answer in time.

        known: its last sighting.  An answer with the same claims is believed to be the device's,
        however many other hosts answer something else.

        Raises DiscoveryRetry if it could not be asked, or its answer not be received, on this
        interface: this says nothing of the device.
        """
        link = self._link()
        if not link.is_usable:
            raise DiscoveryRetry(f"{self._interface} is down, or has no address", CHECK_EVERY)
        try:
            async with self._backend(link) as backend, asyncio.timeout(VERIFY_TIMEOUT):
                info = await self._asked(backend, name, known)
        except TimeoutError:
            info = None
        except OSError as error:
            why = f"{self._interface} cannot be asked: {error.strerror}"
            raise DiscoveryRetry(why, CHECK_EVERY) from error
        if info:
            return self._tracker.confirmed(name, info)
        if self._link().endpoint != link.endpoint:
            raise DiscoveryRetry(f"{self._interface} has changed meanwhile", CHECK_EVERY)
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

    async def _listen(self, link: LanInterface) -> None:
        """Listen until the backend is full, or a rescan or another endpoint ends it."""
        self._opened_on = link.endpoint
        if not link.is_usable:
            self._failures = 0
            self._health.drop("no-interface")
            return
        backend = self._open(link, self._judge, self._on_full)
        self._opened_at = self._context.now()
        try:
            await backend.start()
            self._failures = 0
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
        return self._full or self._rescanning or self._moved

    async def _until_rescan(self, backend: MdnsBackend) -> None:
        spread = 0.9 + 0.2 * self._context.jitter()
        end = self._context.now() + spread * self._rescan_every
        while (left := end - self._context.now()) > 0 and not self._ends():
            excess = self._excess.is_on(self._context.now())
            if excess:
                backend.ask(self._services)
            await self._wait(min(left, ASK_EVERY if excess else CHECK_EVERY))
            self._tracker.expire()

    async def _wait(self, seconds: float) -> None:
        """Return after some seconds, or when woken."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _pause(self) -> None:
        """Wait until it is to be listened again, or the interface has changed."""
        since = self._context.now()
        while (left := self._due(since) - self._context.now()) > 0:
            await self._wait(left)

    def _due(self, since: float) -> float:
        """Return when to listen again.  since: when it ended."""
        if self._moved:
            return self._opened_at + REOPEN_EVERY
        if self._full:
            return self._opened_at + RENEW_EVERY
        if self._rescanning:
            return since
        if self._failures:
            return since + min(FIRST_RETRY * (1 << min(self._failures - 1, 8)), CHECK_EVERY)
        return since + CHECK_EVERY

    def _judge(self, sender: str, packet: bytes) -> PacketVerdict:
        """Judge a packet before it is parsed."""
        now = self._context.now()
        verdict = self._traffic.judge(sender, packet, now)
        if verdict.is_flood:
            self._report_flood(now)
            if verdict is PacketVerdict.LINK_FLOOD and self._excess.ring(now):
                self._wake.set()
        return verdict

    def _on_full(self) -> None:
        """Close the backend and open another, so that the memory of all it holds is freed."""
        if not self._full:
            self._full = True
            self._wake.set()
            self._health.drop("flood")
            self._report_flood(self._context.now())

    def _report_flood(self, now: float) -> None:
        if self._flood.ring(now):
            log.warning(
                "mDNS on %s is flooded; packets of strangers are dropped unread.",
                self._interface,
                extra={"message_id": "lan-flooded"},
            )
