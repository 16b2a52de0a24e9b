"""The tracker of the names on one interface: which are resolved, in which order, and reported.

It stays within bounds whatever is sent to it: by a table of names, two queues of names to
resolve, and a count of all names since the stack was opened.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from gatewayd.discovery.discoverer import (
    MATCHABLE,
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
from gatewayd.discovery.sanitize import label
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

FULL = frozenset({"table-full", "queue-full"})
"""The causes of a drop that are a bound of ours, not a fault of the name."""
RESOLVE_TIMEOUT = 3.0
"""Seconds that resolving one name may take."""


@dataclass(frozen=True, slots=True)
class TrackedName:
    """One name that was resolved.  wanted: whether a rule could match it."""

    name: InstanceName
    wanted: bool
    sighting: Sighting


class NameTable:
    """The table of resolved names.  When it is full, strangers leave first, then the oldest.

    An old name that leaves is received again at the next rescan; a new one would stay unseen.
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
        """Return the entry of a name; None if it has none."""
        return self._wanted.get(key) or self._strangers.get(key)

    def pop(self, key: str) -> TrackedName | None:
        """Remove and return the entry of a name; None if it has none."""
        return self._wanted.pop(key, None) or self._strangers.pop(key, None)

    def put(self, entry: TrackedName) -> TrackedName | None:
        """Replace the entry of a name; return the entry that had to leave, maybe this one."""
        self.pop(entry.name.key)
        (self._wanted if entry.wanted else self._strangers)[entry.name.key] = entry
        if len(self) <= self._limit:
            return None
        return (self._strangers or self._wanted).popitem(last=False)[1]


class ResolveQueue:
    """A queue of names to resolve, the newest first, some at a time.

    drop: counts a name that is not resolved, with the cause.  in_flight: how many at a time.
    waiting: how many may wait; the oldest are dropped.
    """

    def __init__(
        self,
        resolve: Callable[[InstanceName], Awaitable[None]],
        drop: Callable[[str, InstanceName], None],
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
        """Have a name resolved, unless it is being resolved."""
        if name.key in self._tasks:
            return
        self._waiting[name.key] = name
        self._waiting.move_to_end(name.key)
        self._fill()
        if len(self._waiting) > self._limit:
            _, oldest = self._waiting.popitem(last=False)
            self._drop("queue-full", oldest)

    def forget(self, key: str) -> None:
        """Remove a name that still waits."""
        self._waiting.pop(key, None)

    async def clear(self) -> None:
        """Remove all names, and end what is being resolved."""
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
            self._drop("resolve-failed", name)
            kind = type(error).__name__
            log.warning(
                "Failed to resolve %s: %s.", label(name.instance), kind, extra={"once": kind}
            )

    def _done(self, key: str, _: asyncio.Task[None]) -> None:
        del self._tasks[key]
        self._fill()


class NameTracker:
    """The tracker: it asks the rules about each name, has it resolved, and reports it to the sink.

    source: of the sightings.  health: counts what happens.  on_full: called when there were too
    many names since the backend was opened.  backend: what resolves names; None while nothing is
    received.
    """

    def __init__(  # noqa: PLR0913  # by keyword
        self,
        settings: MdnsSettings,
        *,
        source: str,
        interface: str,
        context: Context,
        sink: Sink,
        health: Health,
        on_full: Callable[[], None],
    ) -> None:
        self._source, self._interface = source, interface
        self._context, self._sink, self._health = context, sink, health
        self._on_full = on_full
        self.backend: MdnsBackend | None = None
        self._settings = settings
        self._warned: set[str] = set()
        self._table = NameTable(settings.max_entries)
        self._names: set[int] = set()
        self._limit = settings.flood_limit
        self._wanted = ResolveQueue(
            partial(self._resolve, wanted=True),
            partial(self._drop, key="resolve_queue"),
            in_flight=settings.resolve_in_flight,
            waiting=settings.resolve_queue,
        )
        self._strangers = ResolveQueue(
            partial(self._resolve, wanted=False),
            self._refuse,
            in_flight=settings.strangers_in_flight,
            waiting=settings.strangers_queue,
        )

    def announced(self, service: str, full: str) -> None:
        """Process a name that was announced, or of which a record is new."""
        sender = self.backend.sender if self.backend else ""
        name = parse(service, full, sender)
        if name is None:
            self._health.drop("bad-name", interface=self._interface, sender=sender, name=full)
        elif self.backend and self._has_room(name) and self._is_news(name, self.backend):
            self._consider(name, self.backend)

    def removed(self, service: str, full: str) -> None:
        """Process a goodbye for a name, which any host may send, or its expiry."""
        name = parse(service, full)
        if name is None:
            return
        self._wanted.forget(name.key)
        self._strangers.forget(name.key)
        if entry := self._table.get(name.key):
            over = entry.sighting.at + entry.sighting.valid_for <= self._context.now()
            self._lose(entry, LossReason.EXPIRED if over else LossReason.GOODBYE)

    def expire(self) -> None:
        """Report the names whose sightings are no longer valid as lost."""
        now = self._context.now()
        for entry in list(self._table):
            if entry.sighting.at + entry.sighting.valid_for > now:
                continue
            info = self.backend.cached(entry.name) if self.backend else None
            if info and info.received_at > entry.sighting.at:
                self._report(entry.name, info, wanted=entry.wanted)
            else:
                self._lose(entry, LossReason.EXPIRED)

    def confirmed(self, name: InstanceName, info: ServiceInfo) -> Sighting | None:
        """Make a sighting of an answer to a question; None if the answer is not believed."""
        try:
            sighting = self._sighting(name, info)
        except InvalidServiceInfo as refused:
            self._refuse(str(refused), name)
            return None
        if known := self._table.get(name.key):
            self._keep(TrackedName(name, known.wanted, sighting))
        return sighting

    async def suspend(self) -> None:
        """Resolve nothing until there is a backend again."""
        self.backend = None
        self._names.clear()
        await self._wanted.clear()
        await self._strangers.clear()

    def stop(self) -> None:
        """Report all names as lost, because discovery was stopped."""
        for entry in list(self._table):
            self._lose(entry, LossReason.STOPPED)

    def _has_room(self, name: InstanceName) -> bool:
        """Whether a name is one of those that the library may keep; if not, it has kept enough."""
        if self._table.get(name.key):
            return True
        if len(self._names) > self._limit:
            return False
        self._names.add(hash(name.key))
        if len(self._names) > self._limit:
            self._on_full()
            return False
        return True

    def _is_news(self, name: InstanceName, backend: MdnsBackend) -> bool:
        """Whether a record was received: a new browse reports again what is cached."""
        known = self._table.get(name.key)
        return known is None or backend.newest(name) > known.sighting.at

    def _consider(self, name: InstanceName, backend: MdnsBackend) -> None:
        interest = self._context.interest(records.name_attributes(name, self._interface))
        if interest is Interest.IGNORED:
            self._refuse("ignored", name)
            return
        wanted = interest in MATCHABLE
        if info := backend.cached(name):
            self._report(name, info, wanted=wanted)
        else:
            (self._wanted if wanted else self._strangers).put(name)

    async def _resolve(self, name: InstanceName, *, wanted: bool) -> None:
        info = await self.backend.resolve(name, RESOLVE_TIMEOUT) if self.backend else None
        if info:
            self._report(name, info, wanted=wanted)
        else:
            self._refuse("unresolved", name)

    def _report(self, name: InstanceName, info: ServiceInfo, *, wanted: bool) -> None:
        try:
            entry = TrackedName(name, wanted, self._sighting(name, info))
        except InvalidServiceInfo as refused:
            self._refuse(str(refused), name)
            return
        if self._keep(entry):
            self._health.sighted += 1
            self._sink.sight(entry.sighting)

    def _sighting(self, name: InstanceName, info: ServiceInfo) -> Sighting:
        return records.sighting(name, info, self._source, self._interface)

    def _keep(self, entry: TrackedName) -> bool:
        """Add an entry to the table; return whether there was room for it."""
        before = len(self._table)
        left = self._table.put(entry)
        self._health.entries += len(self._table) - before
        if left is None:
            return True
        if left.wanted:
            self._drop("table-full", left.name, key="max_entries")
        else:
            self._refuse("table-full", left.name)
        if left is not entry:
            self._report_loss(left, LossReason.EVICTED)
        return left is not entry

    def _refuse(self, cause: str, name: InstanceName) -> None:
        """Count a name that is not reported."""
        self._health.drop(cause, interface=self._interface, sender=name.sender, name=name.instance)

    def _drop(self, cause: str, name: InstanceName, *, key: str) -> None:
        """Count a name of which a rule wants to know more; warn once if it is for want of room.

        key: the setting that bounds it.
        """
        self._refuse(cause, name)
        if cause in FULL and key not in self._warned:
            self._warned.add(key)
            log.warning(
                "Dropped a name on %s that a rule could match: there are more than %s = %d."
                " Raise it under [discovery.%s].",
                self._interface,
                key,
                getattr(self._settings, key),
                self._source.partition("/")[0],
            )

    def _lose(self, entry: TrackedName, reason: LossReason) -> None:
        self._table.pop(entry.name.key)
        self._health.entries -= 1
        self._report_loss(entry, reason)

    def _report_loss(self, entry: TrackedName, reason: LossReason) -> None:
        self._health.lost += 1
        at = self._context.now()
        self._sink.lose(Loss(self._source, entry.sighting.key, at, reason))
