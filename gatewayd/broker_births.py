"""Births: what devices announce at brokers of the site, brought from doors to the discovery helper.

The connections and their credentials stay in this process; the payloads are read in the helper.  It
may request that a device is asked to announce itself: what is published then stands in a table, is
allowed by the configuration, and leaves seldom, whatever the helper requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from gatewayd.config import Config
from gatewayd.discovery.births.catalogue import AskedTopic, BirthPlan
from gatewayd.discovery.births.port import Birth, BirthMessage, BirthRequest, DoorLink
from gatewayd.discovery.births.settings import BirthsSettings
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors.access import ReadSecret, SiteBrokerAccess
from gatewayd.messages.doors.births import BirthReader, ReceivedBirth, WantedBirths
from gatewayd.messages.doors.door import Retry
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.rate_limiter import SlidingWindow

MOST_ASKED, ASKED_PERIOD = 60, 60.0
"""Questions that are published at one broker, in so many seconds."""
MAX_ASKED = 4096
"""Questions of which is known when they were published last."""

_Place: TypeAlias = tuple[str, str]
"""A discoverer and a door, by their names."""


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
        self._asked: dict[tuple[str, str], float] = {}
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

    def services(self) -> Iterable[Callable[[], Coroutine[Any, Any, None]]]:
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
        last = self._asked.get(place)
        if last is not None and now - last < asked.every:
            return False
        if last is None and len(self._asked) >= MAX_ASKED:
            oldest = next(iter(self._asked))
            if now - self._asked[oldest] < asked.every:
                return False
            del self._asked[oldest]
        if not self._windows[request.source, request.door].take(now):
            return False
        self._asked.pop(place, None)
        self._asked[place] = now
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
