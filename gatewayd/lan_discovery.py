"""Discovery as the stages see it: the discoverers, wherever they run, and what they fill.

What devices announce at brokers of the site is brought here from doors to the discovery helper.
The connections and their credentials stay in this process; the payloads are read in the helper.  It
may request that a device is asked to announce itself: what is published then stands in a table, is
allowed by the configuration, and leaves seldom, whatever the helper requests.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from gatewayd import __version__
from gatewayd.admission.controller import DisputedDevices
from gatewayd.admission.rules import RuleBook
from gatewayd.cloud.credentials import GivenSecret, credentials_directory, read_secret
from gatewayd.config import Config, ConfiguredPlugin
from gatewayd.device.secret import Secret
from gatewayd.discovery.births.catalogue import AskedTopic, BirthPlan
from gatewayd.discovery.births.port import Birth, BirthMessage, BirthRequest, DoorLink
from gatewayd.discovery.births.settings import BirthsSettings
from gatewayd.discovery.diagnosis.refusals import RefusalList
from gatewayd.discovery.discoverer import Context, Listener, Sighting
from gatewayd.discovery.helper.client import DiscoveryHelper, ReadSecrets
from gatewayd.discovery.helper.connect import connect
from gatewayd.discovery.helper.specs import SecretPlace, secret_place, spec_of
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.kernel.neighbours import NeighbourTable
from gatewayd.discovery.supervisor import Scan, Supervisor, is_isolated
from gatewayd.errors import WrongState
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors.access import ReadSecret, SiteBrokerAccess
from gatewayd.messages.doors.births import BirthReader, ReceivedBirth, WantedBirths
from gatewayd.messages.doors.door import Retry
from gatewayd.network.addresses import AddressBook
from gatewayd.runtime import journal
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.rate_limiter import SlidingWindow

log = logging.getLogger(__name__)

LOOK_UP = 3.0
"""Seconds that looking up the host name of a listed device may take."""

MOST_ASKED, ASKED_PERIOD = 60, 60.0
"""Questions that are published at one broker, in so many seconds."""
MAX_ASKED = 4096
"""Questions that have to wait before they are published again."""

_Place: TypeAlias = tuple[str, str]
"""A discoverer and a door, by their names."""

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

    def reread(self) -> None:
        """Have secrets of sources read again, as their files have changed."""


class BirthHelper(Protocol):
    """What reads births: the discovery helper."""

    on_request: Callable[[BirthRequest], None]

    async def pass_on(self, message: BirthMessage) -> bool:
        """Pass on a message; return whether its discoverer runs."""


class BrokerBirths:
    """The readers of births that are configured.

    read_secret: as `SiteBrokerAccess` takes it.  host: the name of this machine.
    """

    def __init__(
        self, config: Config, read_secret: ReadSecret, host: str, clock: Clock, helper: BirthHelper
    ) -> None:
        self._clock, self._helper = clock, helper
        self._plans = {
            one.name: BirthPlan(one.name, one.settings)
            for one in config.discoverers
            if isinstance(one.settings, BirthsSettings)
        }
        doors = config.messages.doors
        make = partial(self._reader, host, read_secret)
        self._readers: Mapping[_Place, BirthReader] = {
            (plan.name, door): make(plan, door, doors[door])
            for plan in self._plans.values()
            for door in plan.doors
            if door in doors
        }
        self._not_before: dict[tuple[str, str], float] = {}  # by door and topic
        self._windows = {place: SlidingWindow(MOST_ASKED, ASKED_PERIOD) for place in self._readers}
        self._counts: Counter[str] = Counter()
        helper.on_request = self.requested

    def _reader(
        self, host: str, read_secret: ReadSecret, plan: BirthPlan, door: str, settings: DoorSettings
    ) -> BirthReader:
        return BirthReader(
            door,
            plan.name,
            SiteBrokerAccess(settings, f"gatewayd-{host}-{door}", read_secret),
            [WantedBirths(one.filter, one.largest, one.names_only) for one in plan.subscriptions],
            _Passage(plan.name, self._helper),
            self._clock,
            retry=Retry(settings.retry_first, settings.retry_last),
        )

    def services(self) -> Iterable[Service]:
        """Return what has to run, until cancelled."""
        return tuple(reader.run for reader in self._readers.values())

    def faults(self) -> Sequence[str]:
        """Return why births are not read, a sentence each."""
        return tuple(filter(None, (reader.fault() for reader in self._readers.values())))

    def counters(self) -> Mapping[str, int]:
        """Return what has come from brokers, what was dropped, and what was asked."""
        counted = Counter(self._counts)
        for (name, _), reader in self._readers.items():
            for what, number in reader.counters().items():
                counted[f"{name}:{what}"] += number
        return counted

    def requested(self, request: BirthRequest) -> None:
        """Do what a discoverer requests, if that is allowed now; else count it."""
        reader = self._readers.get((request.source, request.door))
        if reader is None:
            return
        if not request.dialect:
            reader.read_again()
            return
        asked = self._plans[request.source].question(request.dialect, request.names)
        allowed = asked is not None and self._may_ask(request, asked)
        sent = asked is not None and allowed and reader.ask(asked.topic, asked.payload)
        self._counts[f"{request.source}:{'asked' if sent else 'not-asked'}"] += 1

    def _may_ask(self, request: BirthRequest, asked: AskedTopic) -> bool:
        """Whether a question may leave now; then it is noted."""
        now, place = self._clock.now(), (request.door, asked.topic)
        if now < self._not_before.get(place, now):
            return False
        if len(self._not_before) >= MAX_ASKED:
            kept = {one: until for one, until in self._not_before.items() if now < until}
            self._not_before = kept
        has_room = len(self._not_before) < MAX_ASKED
        if not (has_room and self._windows[request.source, request.door].take(now)):
            return False
        self._not_before[place] = now + asked.every
        return True


class _Passage:
    """The way of births to one discoverer.  Implements BirthHandler."""

    def __init__(self, name: str, helper: BirthHelper) -> None:
        self._name, self._helper = name, helper

    async def connected(self, door: str, *, is_open: bool) -> None:
        await self._helper.pass_on(DoorLink(self._name, door, is_open))

    async def pass_on(self, door: str, birth: ReceivedBirth) -> bool:
        return await self._helper.pass_on(
            Birth(self._name, door, birth.topic, birth.payload, birth.retained, birth.at)
        )


async def read_all(read: ReadSecret, places: Mapping[str, SecretPlace]) -> Mapping[str, Secret]:
    """Return the secrets in some places, by the names of their sources.  Raises ConfigError."""
    return {name: await GivenSecret(read, *place).read() for name, place in places.items()}


class LanDiscovery:
    """The configured discoverers, the kernel's neighbour table and the inventory they fill.

    The discoverers run in the discovery helper, a process of its own, but for those that say that
    they read nothing from the LAN.  Those that ask with a secret share another one: a fault in what
    reads the packets of strangers gives nothing of it away.

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
        self._neighbours = NeighbourTable(found=self._neighbour_found)
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
        read = partial(read_secret, credentials_directory(environ))
        places = {one.name: at for one in outside if (at := secret_place(one.settings))}
        self._helper = self._started(
            [one for one in outside if one.name not in places], rules, environ
        )
        self._with_secrets = self._started(
            [one for one in outside if one.name in places], rules, environ,
            partial(read_all, read, places),
        )  # fmt: skip
        helpers = tuple(filter(None, (self._helper, self._with_secrets)))
        self._sources: Sequence[Supervisor | DiscoveryHelper] = (self._inside, *helpers)
        self._births: BrokerBirths | None = None
        if self._helper is not None:
            self._births = BrokerBirths(config, read, socket.gethostname(), clock, self._helper)
        names = [name for source in self._sources for name in source.names]
        self._scan = Scan(names, self._rescan_by, clock.now)

    def _started(
        self,
        discoverers: Sequence[ConfiguredPlugin],
        rules: RuleBook,
        environ: Mapping[str, str],
        secrets: ReadSecrets | None = None,
    ) -> DiscoveryHelper | None:
        """Return a helper for some discoverers; None for none."""
        if not discoverers:
            return None
        return DiscoveryHelper(
            [spec_of(one.name, one.kind, one.settings) for one in discoverers],
            connect(environ),
            rules.name_rules,
            self.devices.known_addresses,
            self._clock,
            journal.level,
            secrets=secrets,
        )

    def reread(self) -> None:
        """Have secrets of sources read again, as their files have changed."""
        if self._with_secrets is not None:
            self._with_secrets.reread()

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
        counted = Counter(self.devices.counters())
        for source in (*self._sources, *filter(None, [self._births])):
            counted.update(source.counters())
        return dict(counted)

    def refused(self) -> Sequence[ShownRefusal]:
        """Return what was refused, the newest first."""
        for one in self._inside.refusals(self._clock.now()):
            self._refused.add(one)
        lists = (self._refused, *(one.refused for one in (self._helper, self._with_secrets) if one))
        newest = sorted((one for each in lists for one in each.newest()), key=lambda one: -one.at)
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

    def _neighbour_found(self, address: str) -> None:
        self.devices.neighbour_found(address)

    async def _follow_neighbours(self) -> None:
        try:
            await self._neighbours.run()
        except OSError as error:
            log.warning("Cannot read the kernel's neighbour table: %s.", error.strerror)
