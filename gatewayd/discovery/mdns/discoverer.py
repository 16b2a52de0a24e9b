"""Sees devices that announce themselves by multicast DNS: RFC 6762, RFC 6763.

What could grow is bounded: names are judged before they are resolved, and the whole stack is
closed and opened anew after a flood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.mdns.backend import MdnsBackend, ipv4
from gatewayd.discovery.mdns.interface import CHECK_EVERY, MdnsInterface
from gatewayd.discovery.mdns.records import InstanceName, parse, service
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.zeroconf_backend import RecordCounter, ZeroconfBackend
from gatewayd.errors import ConfigError, DiscoveryRetry

RECORDS = 4
"""What a device says of itself: for each name that is no flood yet, so many records are kept."""


class Mdns:
    """The discoverer: one link for each interface.  Raises ConfigError."""

    Settings: ClassVar[type] = MdnsSettings

    def __init__(self, name: str, settings: MdnsSettings) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings = settings
        self._services = tuple(dict.fromkeys(service(one) for one in settings.types))
        self._links: dict[str, MdnsInterface] = {}

    async def run(self, context: Context, sink: Sink) -> None:
        """Listen on every interface that is there.  Raises DiscoveryRetry when none is."""
        interfaces = dict.fromkeys(self._settings.interfaces)
        if not any(ipv4(one) for one in interfaces):
            names = ", ".join(interfaces)
            raise DiscoveryRetry(
                f"{self.name}: none of {names} has an IPv4 address; bring one up, "
                "or name others under interfaces",
                after=CHECK_EVERY,
            )
        self._links = {one: self._link(one, context, sink) for one in interfaces}
        try:
            async with asyncio.TaskGroup() as group:
                for one, link in self._links.items():
                    group.create_task(link.run(), name=f"{self.name}/{one}")
        finally:
            self._links = {}

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask for one instance, in at most 3 s; None if nobody answers for it."""
        link = self._links.get(sighting.interface)
        seen = InstanceName(*(sighting.attributes.get(key, "") for key in ("service", "instance")))
        name = parse(seen.service, seen.full) if seen.service in self._services else None
        return await link.verify(name, sighting) if link and name else None

    async def rescan(self) -> None:
        """Forget what was heard, and ask everybody."""
        for link in self._links.values():
            link.rescan()

    def _link(self, interface: str, context: Context, sink: Sink) -> MdnsInterface:
        def open_backend(address: str, alarm: Callable[[], None]) -> MdnsBackend:
            place, limit = (interface, address), RECORDS * self._settings.flood_limit
            return ZeroconfBackend(
                place, context.now, self.health.drop, RecordCounter(limit, alarm)
            )

        place = (f"{self.name}/{interface}", interface)
        outside = (context, sink, self.health)
        return MdnsInterface(place, self._services, self._settings, outside, open_backend)
