"""The discoverer of the kernel's neighbours: who has talked to this gateway on one of its links."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.kernel.witness import NeighbourWitness, Witnessed
from gatewayd.discovery.link.units import LinkUnits
from gatewayd.discovery.link.witnessed_link import (
    Placed,
    WitnessedLink,
    bare_addresses,
    formatted,
    in_order,
    question,
)
from gatewayd.discovery.probing.protocol import SUSPECT, Found, Transmission
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.discovery.protocols import oui
from gatewayd.discovery.sanitize import MAX_ADDRESSES
from gatewayd.errors import ConfigError
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

log = logging.getLogger(__name__)

KIND = "neighbours"
BELIEVED = 300.0
"""Seconds for which a neighbour is believed after the kernel has confirmed it."""


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """[discovery.<name>] with kind = "neighbours".  The bound holds for each interface."""

    interfaces: tuple[str, ...] = setting(
        REQUIRED,
        "names of the network interfaces whose neighbours count; an uplink only where devices are "
        "on it, too",
        grammar=grammar.interface,
    )
    max_entries: int = setting(
        2000,
        "neighbours kept; those that no rule matches leave first, then the oldest",
        low=1,
        high=100_000,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from grammar.at_least_one("interfaces", self.interfaces, "those that devices are on")


class KernelNeighbours:
    """The discoverer.  A device is its MAC, whatever addresses it has.  Raises ConfigError.

    It makes no claim: gatewayd reads the kernel's table itself, so that what is proven by it does
    not depend on the helper.  vendors: the directory of the IEEE's lists.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = NeighbourSettings

    def __init__(
        self, name: str, settings: NeighbourSettings, *, vendors: Path = oui.DIRECTORY
    ) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name, self.health, self._settings = name, Health(), settings
        self._directory = vendors
        self._vendors: oui.Vendors | None = None
        self._units: LinkUnits[WitnessedLink] = LinkUnits(name, settings.interfaces)

    async def run(self, context: Context, sink: Sink) -> None:
        """Report the neighbours on each interface.  Raises DiscoveryRetry if none is usable."""
        self._vendors = self._vendors or await load_vendors(self.name, self._directory)
        await self._units.run(partial(self._unit, context, sink))

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Have the kernel ask one neighbour, in at most 3 s; None if it does not answer.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        unit = self._units.on(sighting.interface)
        if unit is None:
            return None
        placed = Placed(self._found(sighting.key), bare_addresses(sighting.addresses))
        return await unit.verify(placed, sighting.at)

    async def rescan(self) -> None:
        """Report again all that the kernel believes."""
        for unit in self._units:
            unit.renew()

    def transmissions(self) -> Sequence[Transmission]:
        """Return what a suspect is sent: nothing is sent to others."""
        return tuple(question(one, SUSPECT) for one in self._settings.interfaces)

    def _unit(
        self, context: Context, sink: Sink, interface: str, link: Callable[[], LanInterface]
    ) -> WitnessedLink:
        table = FoundTable(
            FoundPlace(KIND, self.name, interface),
            limit=self._settings.max_entries,
            lifetime=BELIEVED,
            context=context,
            sink=sink,
            health=self.health,
        )
        return WitnessedLink(link, table, self._recognise, BELIEVED, context.now)

    def _recognise(self, one: Witnessed, witness: NeighbourWitness) -> Placed:
        newest = witness.addresses(one.interface, one.mac)[:MAX_ADDRESSES]
        return Placed(self._found(one.mac), in_order(newest))

    def _found(self, mac: str) -> Found:
        vendor = self._vendors.vendor(mac) if self._vendors else ""
        return Found(
            key=mac,
            claims=frozenset(),
            attributes={"oui.vendor": vendor} if vendor else {},
            label=f"{vendor} {formatted(mac)}".strip(),
            valid_for=0.0,
        )


async def load_vendors(name: str, directory: Path) -> oui.Vendors:
    """Return the vendors of MACs; none if the lists cannot be read, which is logged.

    name: of the discoverer.
    """
    try:
        return await asyncio.to_thread(oui.read_vendors, directory)
    except OSError as error:
        log.info(
            "Discoverer %s reports no oui.vendor: %s: %s. Install the package ieee-data.",
            name,
            directory,
            error.strerror,
        )
        return oui.Vendors()
