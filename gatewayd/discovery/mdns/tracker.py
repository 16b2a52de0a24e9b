"""What is heard on one interface: which names are resolved, in which order, and what is told.

What keeps one interface's mDNS within bounds, whoever shouts: table, lanes, flood alarm.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from gatewayd.discovery.discoverer import (
    Context,
    Health,
    Interest,
    Loss,
    LossReason,
    Sighting,
    Sink,
)
from gatewayd.discovery.mdns import records
from gatewayd.discovery.mdns.backend import MdnsBackend
from gatewayd.discovery.mdns.records import InstanceName, InvalidServiceInfo, ServiceInfo, parse
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

FIRST_PAUSE = 5.0
"""Seconds of the pause after the first flood; doubled after each that follows within minutes."""


@dataclass(frozen=True, slots=True)
class TrackedName:
    """One name that was resolved.  wanted: whether some rule could match it."""

    name: InstanceName
    wanted: bool
    sighting: Sighting


class NameTable:
    """The names that were resolved.  When it is full, strangers leave first, then the oldest.

    An old one that leaves is heard again at the next rescan; a new one would stay unseen.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._wanted: OrderedDict[str, TrackedName] = OrderedDict()
        self._strangers: OrderedDict[str, TrackedName] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wanted) + len(self._strangers)

    def __iter__(self) -> Iterator[TrackedName]:
        yield from self._wanted.values()
        yield from self._strangers.values()

    def get(self, key: str) -> TrackedName | None:
        """Return the entry of a name."""
        return self._wanted.get(key) or self._strangers.get(key)

    def pop(self, key: str) -> TrackedName | None:
        """Remove the entry of a name."""
        return self._wanted.pop(key, None) or self._strangers.pop(key, None)

    def put(self, entry: TrackedName) -> TrackedName | None:
        """Keep the newest entry of a name; return the one that had to leave, maybe itself."""
        self.pop(entry.name.key)
        (self._wanted if entry.wanted else self._strangers)[entry.name.key] = entry
        if len(self) <= self._limit:
            return None
        return (self._strangers or self._wanted).popitem(last=False)[1]


class ResolveQueue:
    """Resolves names, the newest first, some at a time; what waits too long falls out."""

    def __init__(
        self,
        resolve: Callable[[InstanceName], Awaitable[None]],
        drop: Callable[[str], None],
        in_flight: int,
        waiting: int,
    ) -> None:
        self._resolve = resolve
        self._drop = drop
        self._in_flight = in_flight
        self._limit = waiting
        self._waiting: OrderedDict[str, InstanceName] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def put(self, name: InstanceName) -> None:
        """Ask for a name to be resolved, unless it already is."""
        if name.key in self._tasks:
            return
        self._waiting[name.key] = name
        self._waiting.move_to_end(name.key)
        self._fill()
        if len(self._waiting) > self._limit:
            self._waiting.popitem(last=False)
            self._drop("queue-full")

    def forget(self, key: str) -> None:
        """Take a name that still waits out of the lane."""
        self._waiting.pop(key, None)

    async def clear(self) -> None:
        """Forget all, and wait for what was under way to end."""
        self._waiting.clear()
        await cancel_and_wait(self._tasks.values())

    def _fill(self) -> None:
        while self._waiting and len(self._tasks) < self._in_flight:
            key, name = self._waiting.popitem()
            self._tasks[key] = task = asyncio.create_task(self._run(name))
            task.add_done_callback(partial(self._done, key))

    async def _run(self, name: InstanceName) -> None:
        try:
            await self._resolve(name)
        except Exception as error:  # noqa: BLE001  # the border to zeroconf, which trips over names
            self._drop("resolve-failed")
            log.warning("A name could not be resolved: %s.", type(error).__name__)

    def _done(self, key: str, _: asyncio.Task[None]) -> None:
        del self._tasks[key]
        self._fill()


class FloodDetector:
    """Counts the distinct names of ten minutes, and says for how long to stop listening.

    limit: how many names are too many.  longest: seconds of the longest pause.
    """

    WINDOW = 600.0

    def __init__(self, limit: int, longest: float) -> None:
        self._limit = limit
        self._longest = longest
        self._names: set[int] = set()
        self._since = 0.0
        self._pause = FIRST_PAUSE

    def add(self, key: str, now: float) -> bool:
        """Count one name; return whether they have become too many."""
        if now - self._since >= self.WINDOW:
            self._pause = FIRST_PAUSE
            self._names.clear()
            self._since = now
        self._names.add(hash(key))
        return len(self._names) > self._limit

    def pause(self, now: float) -> float:
        """Return how many seconds to stop listening; begin to count anew after them."""
        seconds = min(self._pause, self._longest)
        self._pause *= 2
        self._names.clear()
        self._since = now + seconds
        return seconds


PATIENCE = 3.0
"""Seconds that resolving one name may take."""


class NameTracker:
    """Asks policy about each name before it is resolved, and tells the sink what it became.

    place: the source and the interface.  outside: whom to ask, whom to tell, where to count.
    alarm: called when names become a flood.  engine: where to resolve; None: nothing is heard.
    """

    def __init__(
        self,
        place: tuple[str, str],
        settings: MdnsSettings,
        outside: tuple[Context, Sink, Health],
        alarm: Callable[[], None],
    ) -> None:
        self._source, self._interface = place
        self._context, self._sink, self._health = outside
        self._alarm = alarm
        self.backend: MdnsBackend | None = None
        self._table = NameTable(settings.max_entries)
        self._flood = FloodDetector(settings.flood_limit, settings.flood_pause)
        lane = partial(ResolveQueue, drop=self._health.drop)
        self._wanted = lane(
            partial(self._resolve, wanted=True),
            in_flight=settings.resolve_in_flight,
            waiting=settings.resolve_queue,
        )
        self._strangers = lane(
            partial(self._resolve, wanted=False),
            in_flight=settings.strangers_in_flight,
            waiting=settings.strangers_queue,
        )

    def announced(self, service: str, full: str) -> None:
        """A name was announced, or one of its records is new."""
        name = parse(service, full)
        if name is None:
            self._health.drop("bad-name")
        elif self.backend and not self._too_many(name) and self._is_news(name, self.backend):
            self._consider(name, self.backend)

    def removed(self, service: str, full: str) -> None:
        """A name was taken back, by whomever, or its time is over."""
        name = parse(service, full)
        if name is None:
            return
        self._wanted.forget(name.key)
        self._strangers.forget(name.key)
        if entry := self._table.get(name.key):
            over = entry.sighting.at + entry.sighting.valid_for <= self._context.now()
            self._lose(entry, LossReason.EXPIRED if over else LossReason.GOODBYE)

    def expire(self) -> None:
        """Tell of the names that were not heard for as long as they were to be believed."""
        now = self._context.now()
        for entry in list(self._table):
            if entry.sighting.at + entry.sighting.valid_for > now:
                continue
            answer = self.backend.cached(entry.name) if self.backend else None
            if answer and answer.received_at > entry.sighting.at:
                self._report(entry.name, answer, wanted=entry.wanted)
            else:
                self._lose(entry, LossReason.EXPIRED)

    def confirmed(self, name: InstanceName, answer: ServiceInfo) -> Sighting | None:
        """Make a sighting of an answer that was asked for; None where it is not believed."""
        try:
            sighting = self._sighting(name, answer)
        except InvalidServiceInfo as refused:
            self._health.drop(str(refused))
            return None
        if known := self._table.get(name.key):
            self._keep(TrackedName(name, known.wanted, sighting))
        return sighting

    def pause(self) -> float:
        """Return how many seconds to stop listening after a flood."""
        return self._flood.pause(self._context.now())

    async def suspend(self) -> None:
        """Resolve nothing any more, until an engine is there again."""
        self.backend = None
        await self._wanted.clear()
        await self._strangers.clear()

    def stop(self) -> None:
        """Tell that nobody listens any more."""
        for entry in list(self._table):
            self._lose(entry, LossReason.STOPPED)

    def _too_many(self, name: InstanceName) -> bool:
        if self._table.get(name.key) or not self._flood.add(name.key, self._context.now()):
            return False
        self._alarm()
        return True

    def _is_news(self, name: InstanceName, backend: MdnsBackend) -> bool:
        """Whether something came over the wire: a new browse tells again what is cached."""
        known = self._table.get(name.key)
        return known is None or backend.newest(name) > known.sighting.at

    def _consider(self, name: InstanceName, backend: MdnsBackend) -> None:
        interest = self._context.interest(records.name_attributes(name, self._interface))
        if interest is Interest.IGNORED:
            self._health.drop("ignored")
            return
        wanted = interest is Interest.WANTED
        if answer := backend.cached(name):
            self._report(name, answer, wanted=wanted)
        else:
            (self._wanted if wanted else self._strangers).put(name)

    async def _resolve(self, name: InstanceName, *, wanted: bool) -> None:
        answer = await self.backend.resolve(name, PATIENCE) if self.backend else None
        if answer:
            self._report(name, answer, wanted=wanted)
        else:
            self._health.drop("unresolved")

    def _report(self, name: InstanceName, answer: ServiceInfo, *, wanted: bool) -> None:
        try:
            entry = TrackedName(name, wanted, self._sighting(name, answer))
        except InvalidServiceInfo as refused:
            self._health.drop(str(refused))
            return
        if self._keep(entry):
            self._health.sighted += 1
            self._sink.sight(entry.sighting)

    def _sighting(self, name: InstanceName, answer: ServiceInfo) -> Sighting:
        return records.sighting(name, answer, self._source, self._interface)

    def _keep(self, entry: TrackedName) -> bool:
        """Put an entry into the table; return whether there was room for it."""
        before = len(self._table)
        left = self._table.put(entry)
        self._health.entries += len(self._table) - before
        if left is None:
            return True
        self._health.drop("table-full")
        if left is not entry:
            self._report_loss(left, LossReason.EVICTED)
        return left is not entry

    def _lose(self, entry: TrackedName, reason: LossReason) -> None:
        self._table.pop(entry.name.key)
        self._health.entries -= 1
        self._report_loss(entry, reason)

    def _report_loss(self, entry: TrackedName, reason: LossReason) -> None:
        self._health.lost += 1
        at = self._context.now()
        self._sink.lose(Loss(self._source, entry.sighting.key, at, reason))
