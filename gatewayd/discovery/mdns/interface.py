"""mDNS on one interface: when to listen, when to ask anew, when to be silent."""

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
"""Seconds between two looks at the interface's address, and at what has expired."""
VERIFY = 3.0
"""Seconds that looking again for one name may take."""


class MdnsInterface:
    """Listens on one interface until cancelled; comes and goes with it.

    place: the source and the interface.  services: types without domain.
    open_engine: makes an engine for an IPv4 address of the interface; it is told whom to call
    when more is heard than can be kept.
    """

    def __init__(
        self,
        place: tuple[str, str],
        services: Sequence[str],
        settings: MdnsSettings,
        outside: tuple[Context, Sink, Health],
        open_backend: Callable[[str, Callable[[], None]], MdnsBackend],
    ) -> None:
        self._interface = place[1]
        self._services = services
        self._rescan_every = settings.rescan_every
        self._context, _, self._health = outside
        self._open = open_backend
        self._flooded = self._again = False
        self._wake = asyncio.Event()
        self._tracker = NameTracker(place, settings, outside, self._alarm)

    async def run(self) -> None:
        """Listen whenever the interface has an address."""
        try:
            while True:
                try:
                    await self._listen(ipv4(self._interface))
                except (OSError, DiscoveryRetry) as error:
                    self._health.drop("no-socket")
                    log.warning("mDNS cannot listen on %s: %s.", self._interface, error)
                await asyncio.sleep(self._silence())
        finally:
            self._tracker.stop()

    def rescan(self) -> None:
        """Forget what was heard, and ask for all of it."""
        self._again = True
        self._wake.set()

    async def verify(self, name: InstanceName, known: Sighting) -> Sighting | None:
        """Ask for one device, whatever is known; None if nobody answers in time.

        known: what it showed before.  Who says the same of the name is taken for it, however
        many others shout something else.
        """
        address = ipv4(self._interface)
        if address is None:
            return None
        matches = partial(matches_claims, name.service, known.claims)
        try:
            async with self._borrowed(address) as backend, asyncio.timeout(VERIFY):
                text = await backend.confirm(name, matches)
                if text is None:
                    return None
                answer = backend.cached(name)
                if matches(text):
                    answer = confirmed_info(known, text, answer, self._context.now())
                answer = answer or await backend.resolve(name, VERIFY)
        except (OSError, DiscoveryRetry):  # a time-out is an OSError
            return None
        return self._tracker.confirmed(name, answer) if answer else None

    @asynccontextmanager
    async def _borrowed(self, address: str) -> AsyncIterator[MdnsBackend]:
        """The open engine, or one for this once: a flood must not make children absent."""
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
        self._flooded = self._again = False
        if address is None:
            self._health.drop("no-interface")
            return
        backend = self._open(address, self._alarm)
        try:
            await backend.start()
            self._tracker.backend = backend
            while not self._ends(address):
                await backend.browse(self._services, self._tracker.announced, self._tracker.removed)
                await self._until_rescan(address)
        finally:
            await finish(self._end(backend))

    async def _end(self, backend: MdnsBackend) -> None:
        await self._tracker.suspend()
        await backend.close()

    def _ends(self, address: str) -> bool:
        return self._flooded or self._again or ipv4(self._interface) != address

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

    def _silence(self) -> float:
        """Seconds before listening anew: a flood may pass, an interface may come."""
        if self._flooded:
            return self._tracker.pause()
        return 0.0 if self._again else CHECK_EVERY

    def _alarm(self) -> None:
        """Names or records have become a flood: stop, so that their memory is given back."""
        if not self._flooded:
            self._flooded = True
            self._wake.set()
            self._health.drop("flood")
            entry = {"message_id": "lan-flooded"}
            log.warning("mDNS on %s is flooded; it pauses.", self._interface, extra=entry)
