"""The discoverer of devices that announce themselves by multicast DNS: RFC 6762, RFC 6763.

What could grow is bounded: packets are judged before they are parsed, names before they are
resolved, and a stack that holds too much is closed and opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.units import LinkUnits
from gatewayd.discovery.mdns.backend import MdnsBackend, PacketJudge
from gatewayd.discovery.mdns.interface import MdnsInterface
from gatewayd.discovery.mdns.records import InstanceName, parse, service
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.sockets import GROUP4, GROUP6, PORT
from gatewayd.discovery.probing.protocol import SUSPECT, Transmission
from gatewayd.discovery.sanitize import original_name
from gatewayd.errors import ConfigError

if TYPE_CHECKING:
    from gatewayd.discovery.mdns.zeroconf_backend import RecordCounter, ZeroconfBackend

NAME = 2800
"""Bytes that the records of one name may take on average: four, as most devices have."""


class Mdns:
    """The discoverer, with one `MdnsInterface` for each interface.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = MdnsSettings

    def __init__(self, name: str, settings: MdnsSettings) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings = settings
        self._services = tuple(dict.fromkeys(service(one) for one in settings.types))
        self._units: LinkUnits[MdnsInterface] = LinkUnits(name, settings.interfaces)

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface, in each family of which it has an address."""
        from gatewayd.discovery.mdns.zeroconf_backend import browse_size  # noqa: PLC0415  # as below

        asked = f"all names of {', '.join(self._services)}"
        size, every = browse_size(self._services), self._settings.rescan_every
        sent = []
        for interface in dict.fromkeys(self._settings.interfaces):
            for group in (GROUP4, GROUP6):
                to = f"{group} port {PORT} by UDP"
                sent += [
                    Transmission(to, interface, every, size,
                                 f"{asked}; again in between, more and more rarely"),
                    Transmission(to, interface, 0.0, 0, "host, port, text and addresses of a name",
                                 "when one is announced; of those that no rule wants, of a few"),
                    Transmission(to, interface, 0.0, 0, "whether it is still there", SUSPECT),
                ]  # fmt: skip
        return sent

    async def run(self, context: Context, sink: Sink) -> None:
        """Listen on every interface that has an address.  Raises DiscoveryRetry if none has."""
        await self._units.run(partial(self._interface, context, sink), load=_backend)

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask for one instance, in at most 3 s; None if it does not answer.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        interface = self._units.on(sighting.interface)
        service_, instance = (sighting.attributes.get(key, "") for key in ("service", "instance"))
        seen = InstanceName(service_, original_name(instance))
        name = parse(seen.service, seen.full) if seen.service in self._services else None
        return await interface.verify(name, sighting) if interface and name else None

    async def rescan(self) -> None:
        """Clear the caches, and ask for all names."""
        for interface in self._units:
            interface.rescan()

    def _interface(
        self, context: Context, sink: Sink, interface: str, link: Callable[[], LanInterface]
    ) -> MdnsInterface:
        return MdnsInterface(
            interface,
            self._settings,
            link=link,
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
        make_counter, make_backend = _backend()
        counter = make_counter(NAME * self._settings.flood_limit, on_full)
        return make_backend(
            link,
            now=context.now,
            judge=judge,
            drop=partial(self.health.drop, interface=link.name),
            counter=counter,
            hook=context.hook,
        )


def _backend() -> tuple[type[RecordCounter], type[ZeroconfBackend]]:
    """Return what is behind the library, which is loaded at the first call.

    Blocks: newer releases of zeroconf have other programs look for a library of the system.
    """
    # the process that holds secrets makes a discoverer for its settings, and needs none of this
    from gatewayd.discovery.mdns.zeroconf_backend import (  # noqa: PLC0415  # as just said
        RecordCounter,
        ZeroconfBackend,
    )

    return RecordCounter, ZeroconfBackend
