"""mDNS on one interface: when to listen, when to ask again, when to pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.mdns.backend import MdnsBackend, finish, ipv4
from gatewayd.discovery.mdns.records import InstanceName, confirmed_info, matches_claims
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.tracker import NameTracker
from gatewayd.errors import DiscoveryRetry

log = logging.getLogger(__name__)

CHECK_EVERY = 15.0
"""Seconds between two checks of the interface's address, and of what has expired."""
VERIFY_TIMEOUT = 3.0
"""Seconds that verifying one name may take."""

OpenBackend = Callable[[str, Callable[[], None]], MdnsBackend]
"""Makes a backend for an IPv4 address; it calls the function when it holds too many records."""


class MdnsInterface:
    """One interface, listened on while it has an address.

    source: of the sightings.  services: types without domain.  health: counts what happens.
    """

    def __init__(  # noqa: PLR0913  # by keyword
        self,
        interface: str,
        settings: MdnsSettings,
        *,
        source: str,
        services: Sequence[str],
        context: Context,
        sink: Sink,
        health: Health,
        open_backend: OpenBackend,
    ) -> None:
        self._interface = interface
        self._services = services
        self._rescan_every = settings.rescan_every
        self._context, self._health = context, health
        self._open = open_backend
        self._flooded = self._rescanning = False
        self._wake = asyncio.Event()
        self._tracker = NameTracker(
            settings,
            source=source,
            interface=interface,
            context=context,
            sink=sink,
            health=health,
            on_flood=self._on_flood,
        )

    async def run(self) -> None:
        """Listen whenever the interface has an address, until cancelled."""
        try:
            while True:
                try:
                    await self._listen(ipv4(self._interface))
                except (OSError, DiscoveryRetry) as error:
                    self._health.drop("no-socket")
                    log.warning("Failed to listen for mDNS on %s: %s.", self._interface, error)
                await asyncio.sleep(self._delay())
        finally:
            self._tracker.stop()

    def rescan(self) -> None:
        """Clear the cache, and ask for all names."""
        self._rescanning = True
        self._wake.set()

    async def verify(self, name: InstanceName, known: Sighting) -> Sighting | None:
        """Ask for one device, whatever is cached; None if it does not answer in time.

        known: its last sighting.  An answer with the same claims is believed to be the device's,
        however many other hosts answer something else.
        """
        address = ipv4(self._interface)
        if address is None:
            return None
        matches = partial(matches_claims, name.service, known.claims)
        try:
            async with self._backend(address) as backend, asyncio.timeout(VERIFY_TIMEOUT):
                text = await backend.confirm(name, matches)
                if text is None:
                    return None
                info = backend.cached(name)
                if matches(text):
                    info = confirmed_info(known, text, info, self._context.now())
                info = info or await backend.resolve(name, VERIFY_TIMEOUT)
        except (OSError, DiscoveryRetry):  # a time-out is an OSError
            return None
        return self._tracker.confirmed(name, info) if info else None

    @asynccontextmanager
    async def _backend(self, address: str) -> AsyncIterator[MdnsBackend]:
        """Yield the open backend, or one just for this: a flood must not make children absent."""
        if self._tracker.backend:
            yield self._tracker.backend
            return
        backend = self._open(address, lambda: None)
        try:
            await backend.start()
            yield backend
        finally:
            await finish(backend.close())

    async def _listen(self, address: str | None) -> None:
        """Listen until a flood, a rescan, or another address ends it."""
        self._flooded = self._rescanning = False
        if address is None:
            self._health.drop("no-interface")
            return
        backend = self._open(address, self._on_flood)
        try:
            await backend.start()
            self._tracker.backend = backend
            while not self._ends(address):
                await backend.browse(self._services, self._tracker.announced, self._tracker.removed)
                await self._until_rescan(address)
        finally:
            await finish(self._close(backend))

    async def _close(self, backend: MdnsBackend) -> None:
        await self._tracker.suspend()
        await backend.close()

    def _ends(self, address: str) -> bool:
        return self._flooded or self._rescanning or ipv4(self._interface) != address

    async def _until_rescan(self, address: str) -> None:
        spread = 0.9 + 0.2 * self._context.jitter()
        end = self._context.now() + spread * self._rescan_every
        while (left := end - self._context.now()) > 0 and not self._ends(address):
            await self._wait(min(left, CHECK_EVERY))
            self._tracker.expire()

    async def _wait(self, seconds: float) -> None:
        """Return after some seconds, or when woken."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _delay(self) -> float:
        """Return the seconds before listening again: a flood may end, an interface may come."""
        if self._flooded:
            return self._tracker.pause()
        return 0.0 if self._rescanning else CHECK_EVERY

    def _on_flood(self) -> None:
        """Stop listening, so that the memory of all names and records is freed."""
        if not self._flooded:
            self._flooded = True
            self._wake.set()
            self._health.drop("flood")
            entry = {"message_id": "lan-flooded"}
            log.warning("mDNS on %s is flooded; listening pauses.", self._interface, extra=entry)
