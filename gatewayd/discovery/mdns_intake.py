"""What is heard on one interface: which names are resolved, in which order, and what is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from gatewayd.discovery import mdns_answer
from gatewayd.discovery.discoverer import (
    Context,
    Health,
    Interest,
    Loss,
    LossReason,
    Sighting,
    Sink,
)
from gatewayd.discovery.mdns_answer import Answer, Refused
from gatewayd.discovery.mdns_bounds import Entry, Flood, Lane, Table
from gatewayd.discovery.mdns_engine import Engine
from gatewayd.discovery.mdns_names import Name, parse
from gatewayd.discovery.mdns_settings import MdnsSettings

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that resolving one name may take."""


class Intake:
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
        self.engine: Engine | None = None
        self._table = Table(settings.max_entries)
        self._flood = Flood(settings.flood_limit, settings.flood_pause)
        lane = partial(Lane, drop=self._health.drop)
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

    def heard(self, service: str, full: str) -> None:
        """A name was announced, or one of its records is new."""
        name = parse(service, full)
        if name is None:
            self._health.drop("bad-name")
        elif self.engine and not self._too_many(name) and self._is_news(name, self.engine):
            self._consider(name, self.engine)

    def gone(self, service: str, full: str) -> None:
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
            answer = self.engine.cached(entry.name) if self.engine else None
            if answer and answer.heard_at > entry.sighting.at:
                self._tell(entry.name, answer, wanted=entry.wanted)
            else:
                self._lose(entry, LossReason.EXPIRED)

    def confirmed(self, name: Name, answer: Answer) -> Sighting | None:
        """Make a sighting of an answer that was asked for; None where it is not believed."""
        try:
            sighting = self._sighting(name, answer)
        except Refused as refused:
            self._health.drop(str(refused))
            return None
        if known := self._table.get(name.key):
            self._keep(Entry(name, known.wanted, sighting))
        return sighting

    def pause(self) -> float:
        """Return how many seconds to stop listening after a flood."""
        return self._flood.pause(self._context.now())

    async def rest(self) -> None:
        """Resolve nothing any more, until an engine is there again."""
        self.engine = None
        await self._wanted.clear()
        await self._strangers.clear()

    def stop(self) -> None:
        """Tell that nobody listens any more."""
        for entry in list(self._table):
            self._lose(entry, LossReason.STOPPED)

    def _too_many(self, name: Name) -> bool:
        if self._table.get(name.key) or not self._flood.add(name.key, self._context.now()):
            return False
        self._alarm()
        return True

    def _is_news(self, name: Name, engine: Engine) -> bool:
        """Whether something came over the wire: a new browse tells again what is cached."""
        known = self._table.get(name.key)
        return known is None or engine.newest(name) > known.sighting.at

    def _consider(self, name: Name, engine: Engine) -> None:
        interest = self._context.interest(mdns_answer.seen(name, self._interface))
        if interest is Interest.IGNORED:
            self._health.drop("ignored")
            return
        wanted = interest is Interest.WANTED
        if answer := engine.cached(name):
            self._tell(name, answer, wanted=wanted)
        else:
            (self._wanted if wanted else self._strangers).put(name)

    async def _resolve(self, name: Name, *, wanted: bool) -> None:
        answer = await self.engine.resolve(name, PATIENCE) if self.engine else None
        if answer:
            self._tell(name, answer, wanted=wanted)
        else:
            self._health.drop("unresolved")

    def _tell(self, name: Name, answer: Answer, *, wanted: bool) -> None:
        try:
            entry = Entry(name, wanted, self._sighting(name, answer))
        except Refused as refused:
            self._health.drop(str(refused))
            return
        if self._keep(entry):
            self._health.sighted += 1
            self._sink.sight(entry.sighting)

    def _sighting(self, name: Name, answer: Answer) -> Sighting:
        return mdns_answer.sighting(name, answer, self._source, self._interface)

    def _keep(self, entry: Entry) -> bool:
        """Put an entry into the table; return whether there was room for it."""
        before = len(self._table)
        left = self._table.put(entry)
        self._health.entries += len(self._table) - before
        if left is None:
            return True
        self._health.drop("table-full")
        if left is not entry:
            self._report(left, LossReason.EVICTED)
        return left is not entry

    def _lose(self, entry: Entry, reason: LossReason) -> None:
        self._table.pop(entry.name.key)
        self._health.entries -= 1
        self._report(entry, reason)

    def _report(self, entry: Entry, reason: LossReason) -> None:
        self._health.lost += 1
        at = self._context.now()
        self._sink.lose(Loss(self._source, entry.sighting.key, at, reason))
