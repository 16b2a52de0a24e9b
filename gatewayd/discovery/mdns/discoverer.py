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
from gatewayd.discovery.mdns.backend import MdnsBackend, PacketJudge, ipv4
from gatewayd.discovery.mdns.interface import CHECK_EVERY, MdnsInterface
from gatewayd.discovery.mdns.records import InstanceName, parse, service
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.zeroconf_backend import RecordCounter, ZeroconfBackend
from gatewayd.discovery.sanitize import original_name
from gatewayd.errors import ConfigError, DiscoveryRetry

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

    async def run(self, context: Context, sink: Sink) -> None:
        """Listen on every interface that has an address.  Raises DiscoveryRetry if none has."""
        interfaces = dict.fromkeys(self._settings.interfaces)
        if not any(ipv4(one) for one in interfaces):
            names = ", ".join(interfaces)
            raise DiscoveryRetry(
                f"{self.name}: none of {names} has an IPv4 address; bring one up, "
                "or name others under interfaces",
                after=CHECK_EVERY,
            )
        self._interfaces = {one: self._interface(one, context, sink) for one in interfaces}
        try:
            async with asyncio.TaskGroup() as group:
                for one, interface in self._interfaces.items():
                    group.create_task(interface.run(), name=f"{self.name}/{one}")
        finally:
            self._interfaces = {}

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask for one instance, in at most 3 s; None if it does not answer."""
        interface = self._interfaces.get(sighting.interface)
        service_, instance = (sighting.attributes.get(key, "") for key in ("service", "instance"))
        seen = InstanceName(service_, original_name(instance))
        name = parse(seen.service, seen.full) if seen.service in self._services else None
        return await interface.verify(name, sighting) if interface and name else None

    async def rescan(self) -> None:
        """Clear the caches, and ask for all names."""
        for interface in self._interfaces.values():
            interface.rescan()

    def _interface(self, interface: str, context: Context, sink: Sink) -> MdnsInterface:
        return MdnsInterface(
            interface,
            self._settings,
            source=f"{self.name}/{interface}",
            services=self._services,
            context=context,
            sink=sink,
            health=self.health,
            open_backend=partial(self._open, interface, context),
        )

    def _open(
        self,
        interface: str,
        context: Context,
        address: str,
        judge: PacketJudge,
        on_full: Callable[[], None],
    ) -> MdnsBackend:
        counter = RecordCounter(NAME * self._settings.flood_limit, on_full)
        return ZeroconfBackend(
            interface,
            address,
            now=context.now,
            judge=judge,
            drop=partial(self.health.drop, interface=interface),
            counter=counter,
            hook=context.hook,
        )
