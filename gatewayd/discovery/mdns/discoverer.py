"""The discoverer of devices that announce themselves by multicast DNS: RFC 6762, RFC 6763.

What could grow is bounded: packets are judged before they are parsed, names before they are
resolved, and a stack that holds too much is closed and opened again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import InterfaceTable, LanInterface
from gatewayd.discovery.mdns.backend import MdnsBackend, PacketJudge
from gatewayd.discovery.mdns.interface import CHECK_EVERY, MdnsInterface
from gatewayd.discovery.mdns.records import InstanceName, parse, service
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.zeroconf_backend import RecordCounter, ZeroconfBackend
from gatewayd.discovery.sanitize import original_name
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.runtime.tasks import cancel_and_wait

NONE_YET = 2.0
"""Seconds until an interface is looked for again, where none can be used."""
NAME = 2800
"""Bytes that the records of one name may take on average: four, as most devices have."""


class Mdns:
    """The discoverer, with one `MdnsInterface` for each interface.  Raises ConfigError."""

    Settings: ClassVar[type] = MdnsSettings

    def __init__(self, name: str, settings: MdnsSettings) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings = settings
        self._services = tuple(dict.fromkeys(service(one) for one in settings.types))
        self._interfaces: dict[str, MdnsInterface] = {}
        self._is_running = False

    async def run(self, context: Context, sink: Sink) -> None:
        """Listen on every interface that has an address.  Raises DiscoveryRetry if none has."""
        known = asyncio.Event()
        links = InterfaceTable(self._settings.interfaces, partial(self._relinked, known))
        self._is_running = True
        following = asyncio.create_task(self._follow(links), name=f"{self.name}/interfaces")
        listening = asyncio.create_task(self._listen(links, known, context, sink), name=self.name)
        try:
            await asyncio.wait((following, listening), return_when=asyncio.FIRST_COMPLETED)
            for one in (following, listening):
                if one.done():
                    one.result()
        finally:
            await cancel_and_wait((following, listening))
            self._interfaces, self._is_running = {}, False

    def _relinked(self, known: asyncio.Event) -> None:
        known.set()
        for one in self._interfaces.values():
            one.relinked()

    async def _follow(self, links: InterfaceTable) -> None:
        try:
            await links.run()
        except OSError as error:
            raise DiscoveryRetry(
                f"{self.name}: the kernel does not show its interfaces: {error.strerror}; allow "
                "AF_NETLINK under RestrictAddressFamilies of the unit",
                after=CHECK_EVERY,
            ) from error

    async def _listen(
        self, links: InterfaceTable, known: asyncio.Event, context: Context, sink: Sink
    ) -> None:
        await known.wait()
        interfaces = dict.fromkeys(self._settings.interfaces)
        if not any(links.link(one).is_usable for one in interfaces):
            names = ", ".join(interfaces)
            raise DiscoveryRetry(
                f"{self.name}: none of {names} is up and has an address; bring one up, "
                "or name others under interfaces",
                after=NONE_YET,
            )
        made = {one: self._interface(one, links, context, sink) for one in interfaces}
        self._interfaces = made
        async with asyncio.TaskGroup() as group:
            for one, interface in made.items():
                group.create_task(interface.run(), name=f"{self.name}/{one}")

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask for one instance, in at most 3 s; None if it does not answer.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        interface = self._interfaces.get(sighting.interface)
        if interface is None and self._is_running:
            raise DiscoveryRetry(f"{self.name} does not listen there yet", NONE_YET)
        service_, instance = (sighting.attributes.get(key, "") for key in ("service", "instance"))
        seen = InstanceName(service_, original_name(instance))
        name = parse(seen.service, seen.full) if seen.service in self._services else None
        return await interface.verify(name, sighting) if interface and name else None

    async def rescan(self) -> None:
        """Clear the caches, and ask for all names."""
        for interface in self._interfaces.values():
            interface.rescan()

    def _interface(
        self, interface: str, links: InterfaceTable, context: Context, sink: Sink
    ) -> MdnsInterface:
        return MdnsInterface(
            interface,
            self._settings,
            link=partial(links.link, interface),
            source=f"{self.name}/{interface}",
            services=self._services,
            context=context,
            sink=sink,
            health=self.health,
            open_backend=partial(self._open, context),
        )

    def _open(
        self,
        context: Context,
        link: LanInterface,
        judge: PacketJudge,
        on_full: Callable[[], None],
    ) -> MdnsBackend:
        counter = RecordCounter(NAME * self._settings.flood_limit, on_full)
        return ZeroconfBackend(
            link,
            now=context.now,
            judge=judge,
            drop=partial(self.health.drop, interface=link.name),
            counter=counter,
            hook=context.hook,
        )
