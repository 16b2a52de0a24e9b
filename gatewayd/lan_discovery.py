"""Discovery as the stages see it: the discoverers, wherever they run, and what they fill."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from gatewayd import __version__
from gatewayd.admission.controller import DisputedDevices
from gatewayd.admission.rules import RuleBook
from gatewayd.broker_births import BrokerBirths
from gatewayd.cloud.credentials import credentials_directory, read_secret
from gatewayd.config import Config
from gatewayd.discovery.diagnosis.refusals import RefusalList
from gatewayd.discovery.discoverer import Context, Listener, Sighting
from gatewayd.discovery.helper.client import DiscoveryHelper
from gatewayd.discovery.helper.connect import connect
from gatewayd.discovery.helper.specs import spec_of
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.kernel.neighbours import NeighbourTable
from gatewayd.discovery.supervisor import Scan, Supervisor, is_isolated
from gatewayd.errors import WrongState
from gatewayd.network.addresses import AddressBook
from gatewayd.runtime import journal
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

LOOK_UP = 3.0
"""Seconds that looking up the host name of a listed device may take."""

Service: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Runs until cancelled."""

ShownRefusal: TypeAlias = tuple[int, str, str, str, str, str, int]
"""A `Refusal` as D-Bus shows it, with the time in microseconds since the epoch."""


class Discovery(Protocol):
    """What watches the LAN: `LanDiscovery`, or a fake."""

    @property
    def devices(self) -> DisputedDevices: ...

    def rescan(self, seconds: int, protocols: Sequence[str]) -> None:
        """Have discoverers look again for so many seconds.  Raises InvalidArgs."""

    def faults(self) -> Sequence[str]:
        """Return what is wrong with it, a sentence each."""

    def counters(self) -> dict[str, int]:
        """Return counters by kebab-case name."""

    def refused(self) -> Sequence[ShownRefusal]:
        """Return what was refused, the newest first."""

    async def record(self, seconds: int, most: int) -> int:
        """Return a descriptor from which a recording of what comes can be read.

        most: bytes; 0 for the usual number.  The caller closes the descriptor.
        Raises Busy, InvalidArgs, WrongState, OSError.
        """

    def services(self) -> Iterable[Service]:
        """Return what has to run."""


class LanDiscovery:
    """The configured discoverers, the kernel's neighbour table and the inventory they fill.

    The discoverers run in the discovery helper, a process of its own, but for those that say that
    they read nothing from the LAN.

    rules: for what is of interest.  environ: of the process.
    """

    def __init__(
        self,
        config: Config,
        rules: RuleBook,
        listener: Listener,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> None:
        context = Context(clock.now, clock.jitter, rules.interest, locate=self._locate)
        inside = [one for one in config.discoverers if not is_isolated(one.plugin)]
        outside = [one for one in config.discoverers if is_isolated(one.plugin)]
        made = [one.plugin(one.name, one.settings) for one in inside]
        self._clock = clock
        self._inside = Supervisor(made, context)
        self._refused = RefusalList()
        self._neighbours = NeighbourTable()
        self._hosts = AddressBook()
        identify = rules.identity_claims
        self.devices = Inventory(
            config.inventory,
            context,
            self._verify,
            self._neighbours.corroborate,
            identify,
            listener,
            is_listed=rules.lists,
        )
        self._helper: DiscoveryHelper | None = None
        self._sources: list[Supervisor | DiscoveryHelper] = [self._inside]
        if outside:
            self._helper = DiscoveryHelper(
                [spec_of(one.name, one.kind, one.settings) for one in outside],
                connect(environ),
                rules.name_rules,
                self.devices.known_addresses,
                clock,
                journal.level,
            )
            self._sources.append(self._helper)
        self._births: BrokerBirths | None = None
        if self._helper is not None:
            read = partial(read_secret, credentials_directory(environ))
            self._births = BrokerBirths(config, read, socket.gethostname(), clock, self._helper)
        names = [name for source in self._sources for name in source.names]
        self._scan = Scan(names, self._rescan_by, clock.now)

    def rescan(self, seconds: int, protocols: Sequence[str]) -> None:
        """Have discoverers look again for so many seconds.  Raises InvalidArgs."""
        self._scan.begin(seconds, protocols)

    def faults(self) -> Sequence[str]:
        """Return why discoverers do not work, a sentence each."""
        faults = [fault for source in self._sources for fault in source.faults.values()]
        births = self._births.faults() if self._births else ()
        return tuple(dict.fromkeys((*faults, *births)))

    def counters(self) -> dict[str, int]:
        """Return the counters of the discoverers and of the inventory."""
        counted = self.devices.counters()
        for source in self._sources:
            counted |= source.counters()
        return {**counted, **(self._births.counters() if self._births else {})}

    def refused(self) -> Sequence[ShownRefusal]:
        """Return what was refused, the newest first."""
        for one in self._inside.refusals(self._clock.now()):
            self._refused.add(one)
        outside = self._helper.refused.newest() if self._helper else ()
        newest = sorted((*self._refused.newest(), *outside), key=lambda one: -one.at)
        return [
            (self._clock.to_wall(one.at), one.discoverer, one.interface, one.sender, one.name,
             one.cause, one.times)
            for one in newest
        ]  # fmt: skip

    async def record(self, seconds: int, most: int) -> int:
        """Return a descriptor of a recording; what the discovery helper does is recorded."""
        if self._helper is None:
            raise WrongState("Nothing can be recorded: no discoverer reads from the LAN")
        return await self._helper.record(seconds, most, __version__)

    def services(self) -> Iterable[Service]:
        """Return what has to run."""
        discover = (partial(source.run, self.devices) for source in self._sources)
        births = self._births.services() if self._births else ()
        return self.devices.run, *discover, *births, self._follow_neighbours, self._scan.run

    def _source(self, name: str) -> Supervisor | DiscoveryHelper:
        return next((one for one in self._sources if name in one.names), self._sources[0])

    async def _rescan_by(self, name: str) -> None:
        await self._source(name).rescan(name)

    async def _verify(self, sighting: Sighting) -> Sighting | None:
        return await self._source(sighting.source.partition("/")[0]).verify(sighting)

    async def _locate(self, kind: str, name: str) -> Sequence[str]:
        """Return the addresses of a host name, as the system looks it up, or of a MAC."""
        if kind == "mac":
            return self._neighbours.addresses_of(name)
        try:
            found = await self._hosts.resolve(name, 0, LOOK_UP)
        except (OSError, UnicodeError):
            return ()
        return [str(address[0]) for _, address in found]

    async def _follow_neighbours(self) -> None:
        try:
            await self._neighbours.run()
        except OSError as error:
            log.warning("Cannot read the kernel's neighbour table: %s.", error.strerror)
