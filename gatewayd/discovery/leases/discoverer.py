"""The discoverer of a DHCP server's clients: by its lease files, and the kernel's neighbours.

A lease says that a device was here.  So it is reported when it has just been given or renewed, or
once the kernel has found its device; and it is believed no longer than the kernel's word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import LONGEST, Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.file_changes import FileChanges
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.kernel.neighbour_source import load_vendors
from gatewayd.discovery.leases.book import LeaseBook, LeaseNews
from gatewayd.discovery.leases.lease import Lease
from gatewayd.discovery.leases.lease_link import BELIEVED, LeaseLink
from gatewayd.discovery.leases.servers import SERVERS, LeaseServer, read_leases
from gatewayd.discovery.link.units import LinkUnits
from gatewayd.discovery.link.witnessed_link import formatted, question
from gatewayd.discovery.probing.protocol import SUSPECT, Found, Transmission
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.discovery.protocols import oui
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.runtime.tasks import until_one_ends
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

KIND = "dhcp-leases"
READ_EVERY = 2.0
"""Seconds between two readings of the files, at least, however often they change."""
READ_AGAIN = 60.0
"""Seconds until they are read again though no change was seen, as where a directory is shown at
another place."""
UNSEEN = "at the start and at a rescan, when it has a lease"
"""When a device is asked that the kernel has not seen lately."""
RETRY = 15.0
"""Seconds until files are looked for again that cannot be read."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """[discovery.<name>] with kind = "dhcp-leases".  The bound holds for each interface."""

    server: LeaseServer = setting(REQUIRED, "the DHCP server of this gateway")
    interfaces: tuple[str, ...] = setting(
        REQUIRED,
        "names of the network interfaces that the server serves",
        grammar=grammar.interface,
    )
    path: Path | None = setting(
        None,
        "its lease file, of systemd-networkd the directory of them (default: where Debian has it)",
    )
    max_entries: int = setting(
        2000,
        "devices kept; those that no rule matches leave first, then the oldest",
        low=1,
        high=100_000,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from grammar.at_least_one(
            "interfaces", self.interfaces, "those that the server serves"
        )


class Leases:
    """The discoverer.  A device is its MAC, whatever addresses it is given.  Raises ConfigError.

    vendors: the directory of the IEEE's lists.  wall: seconds since 1970, as in the files.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = LeaseSettings

    def __init__(
        self,
        name: str,
        settings: LeaseSettings,
        *,
        vendors: Path = oui.DIRECTORY,
        wall: Callable[[], float] = time.time,
    ) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name, self.health, self._settings = name, Health(), settings
        self._files = SERVERS[settings.server]
        self._path = settings.path or self._files.path
        self._directory, self._wall = vendors, wall
        self._vendors: oui.Vendors | None = None
        self._book, self._unreadable = LeaseBook(), 0
        self._units: LinkUnits[LeaseLink] = LinkUnits(name, settings.interfaces)

    async def run(self, context: Context, sink: Sink) -> None:
        """Report the clients on each interface.

        Raises DiscoveryRetry if no interface is usable, or the files cannot be read.
        """
        self._book, self._unreadable = LeaseBook(), 0
        self._vendors = self._vendors or await load_vendors(self.name, self._directory)
        await until_one_ends(self._follow(), self._units.run(partial(self._unit, context, sink)))

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Have the kernel ask one device, in at most 3 s; None if it does not answer.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        unit = self._units.on(sighting.interface)
        return await unit.verify(sighting) if unit else None

    async def rescan(self) -> None:
        """Have the kernel ask all devices that have a lease."""
        for unit in self._units:
            unit.renew()

    def transmissions(self) -> Sequence[Transmission]:
        """Return what devices that have a lease are sent."""
        return tuple(
            question(one, occasion)
            for one in self._settings.interfaces
            for occasion in (UNSEEN, SUSPECT)
        )

    async def _follow(self) -> None:
        """Read the files whenever they have changed.  Raises DiscoveryRetry if they cannot be."""
        directory, names = self._files.place(self._path, self._settings.interfaces)
        paths = [directory / one for one in names]
        read = partial(read_leases, self._files, paths)
        try:
            with FileChanges(directory, names) as changes:
                while True:
                    found = await asyncio.to_thread(read, self._wall())
                    self._learn(self._book.update(found.leases, self._wall()), found.unreadable)
                    await asyncio.sleep(READ_EVERY)
                    if not self._book.is_doubtful:
                        await changes.wait(READ_AGAIN - READ_EVERY)
        except OSError as error:
            raise self._trouble(error) from error

    def _learn(self, news: LeaseNews, unreadable: int) -> None:
        for _ in range(unreadable - self._unreadable):
            self.health.drop("unreadable")
        self._unreadable = unreadable
        for unit in self._units:
            unit.learn(news)

    def _trouble(self, error: OSError) -> DiscoveryRetry:
        where = f"{self.name}: {error.filename or self._path}"
        if isinstance(error, PermissionError):
            return DiscoveryRetry(f"{where}: no permission to read it. {self._files.remedy}", RETRY)
        if isinstance(error, FileNotFoundError):
            return DiscoveryRetry(
                f"{where}: there is no such directory. Start {self._settings.server}, or set path",
                RETRY,
            )
        return DiscoveryRetry(f"{where}: {error.strerror}", RETRY)

    def _unit(
        self, context: Context, sink: Sink, interface: str, link: Callable[[], LanInterface]
    ) -> LeaseLink:
        table = FoundTable(
            FoundPlace(KIND, self.name, interface),
            limit=self._settings.max_entries,
            lifetime=BELIEVED,
            context=context,
            sink=sink,
            health=self.health,
        )
        return LeaseLink(link, table, self._book, self._found, self.health, context.now)

    def _found(self, lease: Lease) -> Found:
        """Return the device of a lease, with what its others say, of IPv4 and of IPv6."""
        claimed = claim("mac", KIND, lease.mac)
        vendor = self._vendors.vendor(lease.mac) if self._vendors else ""
        known = (lease, *self._book.of(lease.mac))
        hostname = next((one.hostname for one in known if one.hostname), "")
        attributes = {
            "dhcp.hostname": hostname,
            "dhcp.client-id": next((one.client_id for one in known if one.client_id), ""),
            "dhcp.duid": next((one.duid for one in known if one.duid), ""),
            "dhcp.vendor-class": next((one.vendor_class for one in known if one.vendor_class), ""),
            "dhcp.mac": lease.mac,
            "oui.vendor": vendor,
        }
        return Found(
            key=lease.mac,
            claims=frozenset([claimed]) if claimed else frozenset(),
            attributes=sanitize.escaped_attributes(attributes),
            label=hostname or f"{vendor} {formatted(lease.mac)}".strip(),
            valid_for=min(lease.ends - self._wall(), LONGEST),
        )
