"""The discoverer of LLDP neighbours: it reads what a timer has lldpcli write.

Frames of LLDP need a raw socket, and lldpd's own socket lets its users change its configuration.
The discovery helper has neither, and starts no program: a unit of its own writes the report.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.file_changes import FileChanges
from gatewayd.discovery.kernel.witness import NeighbourWitness
from gatewayd.discovery.probing.protocol import Found, Transmission, UnreadableAnswer
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.discovery.protocols.lldp.report import LldpNeighbour, neighbours
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.runtime.tasks import until_one_ends
from gatewayd.runtime.watched_file import read_regular
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

KIND = "lldp"
REPORT = Path("/run/gatewayd-lldp/neighbours.json")
"""Where the unit writes the report."""
MAX_REPORT = 1 << 20
"""Bytes of the report."""
READ_EVERY = 2.0
"""Seconds between two readings, at least."""
READ_AGAIN = 60.0
"""Seconds until its age is looked at again, though it has not changed."""
STALE = 180.0
"""Seconds after which a report says nothing any more: it is written each half minute."""
RETRY = 15.0
"""Seconds until a report is looked for again that cannot be read."""
BELIEVED = 120.0
"""Seconds for which a neighbour is believed that does not say how long (IEEE 802.1AB, 9.2.5.22)."""
EXPIRE_EVERY = 5.0
"""Seconds between two checks for what is not in the report any more."""


@dataclass(frozen=True, slots=True)
class LldpSettings:
    """[discovery.<name>] with kind = "lldp".  The bound holds for each interface."""

    interfaces: tuple[str, ...] = setting(
        REQUIRED,
        "names of the network interfaces at whose cables neighbours count",
        grammar=grammar.interface,
    )
    path: Path = setting(REPORT, "the report of lldpcli")
    max_entries: int = setting(
        64,
        "neighbours kept; those that no rule matches leave first, then the oldest",
        low=1,
        high=1000,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from grammar.at_least_one("interfaces", self.interfaces, "those of the cables")


class Lldp:
    """The discoverer.  A device is its chassis id, usually a MAC.  Raises ConfigError.

    wall: seconds since 1970, as those of the report's file.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = LldpSettings

    def __init__(
        self, name: str, settings: LldpSettings, *, wall: Callable[[], float] = time.time
    ) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name, self.health, self._settings = name, Health(), settings
        self._wall = wall
        self._tables: dict[str, FoundTable] = {}
        self._witness: NeighbourWitness | None = None
        self._again = asyncio.Event()

    async def run(self, context: Context, sink: Sink) -> None:
        """Report the neighbours whenever the report is written.

        Raises DiscoveryRetry if it cannot be read, or is old.
        """
        table = partial(
            FoundTable,
            limit=self._settings.max_entries,
            lifetime=BELIEVED,
            context=context,
            sink=sink,
            health=self.health,
        )
        self._tables = {
            one: table(FoundPlace(KIND, self.name, one)) for one in self._settings.interfaces
        }
        self._witness = NeighbourWitness(context.now, lambda _: None)
        try:
            await until_one_ends(self._witness.run(), self._follow(), self._expire())
        finally:
            for one in self._tables.values():
                one.stop()
            self._tables = {}

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Read the report again; None if the neighbour is not in it.

        It is lldpd that has received the neighbour's last frame, within the time for which this
        may be believed.  Raises DiscoveryRetry if the report cannot be read.
        """
        table = self._tables.get(sighting.interface)
        if table is None:
            return None
        for one in await self._read():
            if one.interface == sighting.interface and _key(one) == sighting.key:
                return table.confirm(found(one), self._addresses(one))
        return None

    async def rescan(self) -> None:
        """Read the report again."""
        for table in self._tables.values():
            table.renew()
        self._again.set()

    def transmissions(self) -> Sequence[Transmission]:
        """Return nothing: what is sent on the cables, lldpd sends."""
        return ()

    async def _follow(self) -> None:
        path = self._settings.path
        try:
            with FileChanges(path.parent, [path.name]) as changes:
                while True:
                    self._again.clear()
                    for one in await self._read():
                        table = self._tables.get(one.interface)
                        if table is not None:
                            table.add(found(one), self._addresses(one))
                    await asyncio.sleep(READ_EVERY)
                    if not self._again.is_set():
                        await until_one_ends(changes.wait(READ_AGAIN), self._again.wait())
        except OSError as error:
            raise self._trouble(error) from error

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY)
            for table in self._tables.values():
                table.expire()

    async def _read(self) -> Sequence[LldpNeighbour]:
        """Return the neighbours in the report; none where it cannot be understood.

        Raises DiscoveryRetry.
        """
        try:
            written, content = await asyncio.to_thread(_read, self._settings.path)
        except OSError as error:
            raise self._trouble(error) from error
        age = self._wall() - written
        if age > STALE:
            raise DiscoveryRetry(
                f"{self.name}: {self._settings.path} is {age:.0f} s old. Start lldpd, and "
                "gatewayd-lldp.timer",
                RETRY,
            )
        try:
            return tuple(neighbours(content))
        except UnreadableAnswer as error:
            self.health.drop(error.cause)
            return ()

    def _trouble(self, error: OSError) -> DiscoveryRetry:
        return DiscoveryRetry(
            f"{self.name}: {self._settings.path}: {error.strerror}. Enable gatewayd-lldp.timer, "
            "of /usr/share/doc/gatewayd/examples",
            RETRY,
        )

    def _addresses(self, one: LldpNeighbour) -> tuple[str, ...]:
        """Return where a neighbour is: of its addresses those where the kernel has seen its MAC.

        What it writes of its addresses may be of another device.
        """
        assert self._witness is not None
        seen = ((each, self._witness.find(each, one.interface)) for each in one.addresses)
        return tuple(each for each, who in seen if one.mac and who and who.mac == one.mac)


def _read(path: Path) -> tuple[float, bytes]:
    """Return when a report was written, seconds since 1970, and what it is.  Raises OSError."""
    return path.stat().st_mtime, read_regular(path, MAX_REPORT)


def _key(one: LldpNeighbour) -> str:
    return one.mac or sanitize.refused_name(f"{one.chassis_type} {one.chassis}")


def found(one: LldpNeighbour) -> Found:
    """Return the device that a neighbour is."""
    of = one.inventory
    maker = re.sub("[^a-z0-9]+", "-", of.get("manufacturer", "").lower()).strip("-")
    claims = [claim("mac", KIND, one.mac)]
    if maker and sanitize.is_clean(of.get("serial", "")):
        claims.append(claim("serial", f"{KIND}.{maker[:32]}", of.get("serial", "")))
    attributes = {
        "vendor": of.get("manufacturer", ""),
        "model": of.get("model", ""),
        "serial": of.get("serial", ""),
        "lldp.chassis": one.chassis,
        "lldp.name": one.name,
        "lldp.description": one.description,
        "lldp.port": one.port,
        "lldp.port-description": one.port_description,
        "lldp.capabilities": " ".join(one.capabilities),
        "lldp.management-address": one.addresses[0] if one.addresses else "",
        "lldp.hardware": of.get("hardware", ""),
        "lldp.firmware": of.get("firmware", ""),
        "lldp.software": of.get("software", ""),
        "lldp.asset": of.get("asset", ""),
    }
    return Found(
        key=_key(one),
        claims=frozenset(each for each in claims if each),
        attributes=sanitize.escaped_attributes(attributes),
        label=one.name or one.chassis,
        valid_for=float(one.ttl or BELIEVED),
    )
