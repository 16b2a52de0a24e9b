"""The discoverer of births: it reads what a door passes on, in the dialects of the configuration.

It sends nothing itself.  What it asks for, gatewayd does or refuses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from gatewayd.discovery.births.catalogue import dialects_of, subscriptions_of
from gatewayd.discovery.births.port import (
    Birth,
    BirthMessage,
    BirthRequest,
    Candidate,
    Dialect,
    DoorLink,
)
from gatewayd.discovery.births.reading import KIND
from gatewayd.discovery.births.roster import (
    BY_MESSAGE,
    BY_STATUS,
    DeviceStanding,
    Roster,
    RosterEntry,
)
from gatewayd.discovery.births.settings import BirthsSettings
from gatewayd.discovery.discoverer import MATCHABLE, Context, Health, Sighting, Sink
from gatewayd.discovery.probing.protocol import Found, Goodbye, Transmission, UnreadableAnswer
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.discovery.sanitize import refused_name
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.network.mqtt_rules import covers

MOST_WAITING = 64
MOST_BYTES = 2 << 20
"""Messages, and their bytes, that wait to be read; then gatewayd waits, and so does the broker."""
TICK = 15.0
"""Seconds between two looks at what has expired."""
REFRESH = BY_STATUS / 2
"""Seconds after which is reported again what the broker says is there."""
ANSWER = 2.5
"""Seconds in which a device that was asked has to publish something."""
MAX_CANDIDATES = 1024
"""What is asked in one connection, because it is not known."""
SETTLE = 60.0
"""Seconds in which a broker may say what it keeps, after a connection was made."""
NO_WORD = 300.0
"""Seconds until it is tried again whether something is known of a device."""


class Births:
    """The discoverer.  Implements BirthReceiver.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = BirthsSettings

    def __init__(self, name: str, settings: BirthsSettings) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name, self.health, self._settings = name, Health(), settings
        self._dialects = dialects_of(settings)
        self._rosters = {door: self._roster(door) for door in settings.doors}
        self._open: dict[str, float] = {}  # since when, by door
        self._candidates: set[tuple[str, str, tuple[str, ...]]] = set()
        self._request: Callable[[BirthRequest], None] = lambda _: None
        self._waiting: deque[BirthMessage] = deque()
        self._bytes, self._is_due = 0, False
        self._news, self._room, self._published = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._context: Context | None = None
        self._table: FoundTable | None = None

    def _roster(self, door: str) -> Roster:
        limit = max(self._settings.max_entries // len(self._settings.doors), 1)
        return Roster(limit, partial(self._rank, door), self.health)

    # Of gatewayd.

    def attach(self, request: Callable[[BirthRequest], None]) -> None:
        """Use this for requests."""
        self._request = request

    async def receive(self, message: BirthMessage) -> None:
        """Accept one message; wait while too many do, unless it does not run."""
        while self._table is not None and self._is_full():
            self._room.clear()
            await self._room.wait()
        if self._table is None or message.door not in self._rosters:
            self.health.drop("not-running")
            return
        self._waiting.append(message)
        self._bytes += len(message.payload) if isinstance(message, Birth) else 0
        self._news.set()

    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is published, if questions are allowed."""
        return tuple(self._transmissions())

    def _transmissions(self) -> Iterator[Transmission]:
        for door in self._settings.doors if self._settings.ask else ():
            for dialect in self._dialects:
                asked = (
                    (dialect.all_question, "at a search"),
                    (dialect.one_question, "to verify a device, or learn what it is"),
                )
                for one, occasion in asked:
                    if one is not None:
                        topic = one.topic.replace("{}", "NAME")
                        yield Transmission(
                            f"topic {topic} at the broker of door {door}",
                            "",
                            0.0,
                            len(one.payload),
                            one.purpose,
                            f"{occasion}, at most every {one.every / 60:.0f} min",
                        )

    # Of the port.

    async def run(self, context: Context, sink: Sink) -> None:
        """Report what is read, until cancelled."""
        self._context = context
        self._table = FoundTable(
            FoundPlace(KIND, self.name, ""),
            limit=self._settings.max_entries,
            lifetime=BY_MESSAGE,
            context=context,
            sink=sink,
            health=self.health,
        )
        try:
            self._request_all()
            await self._read(self._table, context, sink)
        finally:
            self._table.stop()
            self._table = None
            self._waiting.clear()
            self._bytes = 0
            self._open.clear()
            self._rosters = {door: self._roster(door) for door in self._settings.doors}
            self._room.set()

    async def rescan(self) -> None:
        """Have read again what brokers keep, and ask devices, where that is allowed."""
        if self._table is None:
            return
        self._table.renew()
        self._request_all()
        self._is_due = True
        self._news.set()
        for door in self._settings.doors if self._settings.ask else ():
            for dialect in self._dialects:
                if dialect.all_question is not None:
                    self._request(BirthRequest(self.name, door, dialect.name))

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Return a device that is connected to its broker, as that says; None if it is not.

        Raises DiscoveryRetry where nothing says whether it is.
        """
        door, _, key = sighting.key.partition("/")
        now = asyncio.get_running_loop().time()
        if self._table is None or door not in self._open:
            raise DiscoveryRetry(f"door {door} is not connected", NO_WORD)
        roster = self._rosters[door]
        if (entry := roster.get(key)) is None:
            if now - self._open[door] < SETTLE:
                raise DiscoveryRetry(f"door {door} may not have said yet what it keeps", NO_WORD)
            return None
        is_there = await self._answers(door, entry)
        standing = roster.standing(entry)
        if is_there or standing is DeviceStanding.THERE:
            return self._table.confirm(self._found(door, entry), ())
        since = self._open.get(door, now) if entry.alive_at is None else entry.alive_at
        patience = SETTLE if entry.alive_at is None else BY_MESSAGE
        if standing is not DeviceStanding.GONE and now - since < patience:
            raise DiscoveryRetry("nothing says whether it is connected", NO_WORD)
        return None

    async def _answers(self, door: str, entry: RosterEntry) -> bool:
        """Ask a device, where that is allowed and a rule wants it; return whether it answers.

        gatewayd may refuse, and the device may be busy: no answer says nothing.
        """
        names = next(iter(entry.questions), ())
        if not (self._settings.ask and names and self._rank(door, entry.newest.found)):
            return False
        before = entry.alive_at
        self._request(BirthRequest(self.name, door, entry.dialect, names))
        try:
            async with asyncio.timeout(ANSWER):
                while entry.alive_at in (None, before):
                    self._published.clear()
                    await self._published.wait()
        except TimeoutError:
            return False
        return True

    # Reading.

    async def _read(self, table: FoundTable, context: Context, sink: Sink) -> None:
        refreshed = context.now()
        while True:
            try:
                async with asyncio.timeout(TICK):
                    await self._news.wait()
            except TimeoutError:
                pass  # something may have expired
            self._news.clear()
            table.expire()
            if self._is_due or context.now() - refreshed >= REFRESH:
                refreshed, self._is_due = context.now(), False
                await self._refresh(table, sink)
            while self._waiting:
                await self._take(self._waiting.popleft(), table, context, sink)
                if self._is_due:
                    break

    async def _take(
        self, message: BirthMessage, table: FoundTable, context: Context, sink: Sink
    ) -> None:
        """Read one message."""
        self._room.set()
        if isinstance(message, DoorLink):
            self._note_link(message, context.now())
            return
        self._bytes -= len(message.payload)
        if context.hook.observe is not None:
            topic = refused_name(message.topic)
            context.hook.observe(
                "birth",
                message.at,
                {"door": message.door, "topic": topic, "data": message.payload},
            )
        for dialect in self._dialects:
            if self._concerns(dialect, message):
                await self._read_as(dialect, message, table, sink)
        self._published.set()

    def _concerns(self, dialect: Dialect, birth: Birth) -> bool:
        wanted = subscriptions_of(dialect, ask=self._settings.ask)
        return any(covers(one.filter, birth.topic) for one in wanted)

    def _note_link(self, link: DoorLink, now: float) -> None:
        """Note that a connection begins or ends: what it said is known no more."""
        if link.is_open and link.door in self._open:
            return  # what is kept comes again
        self._open.pop(link.door, None)
        if link.is_open:
            self._open[link.door] = now
        self._candidates = {one for one in self._candidates if one[0] != link.door}
        self._rosters[link.door].disconnected(now)

    async def _read_as(self, dialect: Dialect, birth: Birth, table: FoundTable, sink: Sink) -> None:
        roster = self._rosters[birth.door]
        try:
            news = tuple(dialect.read(birth.topic, birth.payload))
        except UnreadableAnswer as error:
            self.health.drop(error.cause, name=birth.topic)
            return
        for one in news:
            if isinstance(one, Candidate):
                self._consider(dialect.name, one, birth)
            for key in tuple(roster.apply(dialect.name, one, birth)):
                await sink.room()
                self._report(birth.door, key, table)

    def _consider(self, dialect: str, candidate: Candidate, birth: Birth) -> None:
        """Ask, once in a connection, what is not known."""
        asked = (birth.door, dialect, candidate.names)
        is_known = self._rosters[birth.door].is_known(dialect, candidate.names)
        if is_known or not self._settings.ask or asked in self._candidates:
            return
        if len(self._candidates) >= MAX_CANDIDATES:
            self.health.drop("candidates-full", name="/".join(candidate.names))
            return
        self._candidates.add(asked)
        self._request(BirthRequest(self.name, birth.door, dialect, candidate.names))

    def _report(self, door: str, key: str, table: FoundTable) -> None:
        """Report what is known of a device now."""
        entry = self._rosters[door].get(key)
        if entry is None:
            table.part(Goodbye(f"{door}/{key}"))
            return
        match self._rosters[door].standing(entry):
            case DeviceStanding.THERE | DeviceStanding.SEEN:
                table.add(self._found(door, entry))
            case DeviceStanding.GONE:
                table.part(Goodbye(f"{door}/{key}"))
            case DeviceStanding.UNKNOWN:
                self.health.drop("stale", name=entry.newest.found.label)

    def _found(self, door: str, entry: RosterEntry) -> Found:
        found, standing = entry.newest.found, self._rosters[door].standing(entry)
        return Found(
            f"{door}/{found.key}",
            found.claims,
            {"mqtt.door": door, **found.attributes},
            found.label,
            BY_STATUS if standing is DeviceStanding.THERE else BY_MESSAGE,
            is_behind=found.is_behind,
        )

    async def _refresh(self, table: FoundTable, sink: Sink) -> None:
        """Report again what brokers say is there."""
        for door, roster in self._rosters.items():
            for key in roster.keys() if door in self._open else ():
                await sink.room()
                entry = roster.get(key)
                if entry is not None and roster.standing(entry) is DeviceStanding.THERE:
                    table.add(self._found(door, entry))

    def _request_all(self) -> None:
        for door in self._settings.doors:
            self._request(BirthRequest(self.name, door))

    def _rank(self, door: str, found: Found) -> int:
        """Return whether a rule wants a device."""
        if self._context is None:
            return 0
        known = {"source": KIND, "mqtt.door": door, **found.attributes}
        return int(self._context.interest(known) in MATCHABLE)
