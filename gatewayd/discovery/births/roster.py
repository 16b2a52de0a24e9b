"""The roster of one door: which devices have announced themselves, and whether they are there.

What a broker has kept says what there is, not that it is there: a message may be years old.  So a
device is reported once something says that it is there: a message of its own that has just come, or
its topic of availability, which the broker keeps current by the device's will.  Moments are seconds
of the event loop's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from gatewayd.device.identity import contradict
from gatewayd.discovery import sanitize
from gatewayd.discovery.births.port import (
    Alive,
    Announced,
    Birth,
    BirthNews,
    Candidate,
    Departed,
    Listed,
    Status,
    Withdrawn,
    Words,
)
from gatewayd.discovery.discoverer import Health
from gatewayd.discovery.probing.protocol import Found
from gatewayd.discovery.queues import EvictionQueue

MAX_PARTS = 256
"""Messages that may make up one device."""
MAX_AVAILABILITY = 8
"""Topics of availability of one device."""
MAX_KEPT_CLAIMS = 8
"""Claims that are kept of earlier messages, which the newest does not repeat."""
STATUSES = 2
"""Topics of availability that are kept for each device that may be kept, and whose device is not
known yet."""
BY_STATUS, BY_MESSAGE = 3600.0, 86_400.0
"""Seconds for which a device is believed to be there: one of which the broker says so, which is
reported again in time; and one of which is known that it has published something, and no more."""


class DeviceStanding(Enum):
    """Whether a device is connected to the broker."""

    THERE = auto()  # the broker says so, and would say if it were no longer
    SEEN = auto()  # it has published something; nothing says when it leaves
    GONE = auto()
    UNKNOWN = auto()  # there is but what the broker has kept


@dataclass(frozen=True, slots=True)
class AvailabilityVoice:
    """What one message names to say whether its device is connected.  any_topic: one is enough."""

    topics: tuple[str, ...]
    any_topic: bool


@dataclass(slots=True)
class RosterEntry:
    """One device.

    dialect: of its messages.  parts: the topics that announce it, and what each names to say
    whether it is connected.
    questions: the names by which it can be asked.
    alive_at: when it was last known to be there by a message of its own; None for never.
    is_lasting: whether its end is announced, in this connection.
    departed: whether it said that it leaves, or was said to.
    reported: whether it is reported as there.
    may_change: whether it has left since it announced itself, so that another may be in its place.
    """

    dialect: str
    newest: Announced
    parts: dict[str, AvailabilityVoice] = field(default_factory=dict)
    availability: dict[str, Words] = field(default_factory=dict)
    aliases: dict[str, None] = field(default_factory=dict)
    questions: dict[tuple[str, ...], None] = field(default_factory=dict)
    alive_at: float | None = None
    is_lasting: bool = False
    departed: bool = False
    reported: bool = False
    may_change: bool = False


class Roster:
    """The roster.

    limit: how many devices it may have; without room, those leave first that `rank` finds least,
    then the oldest.  rank: how much a device matters.
    health: counts what is dropped.
    """

    def __init__(self, limit: int, rank: Callable[[Found], int], health: Health) -> None:
        self._limit, self._rank, self._health = limit, rank, health
        self._entries: dict[str, RosterEntry] = {}
        self._ranks: EvictionQueue[str] = EvictionQueue()
        self._statuses: dict[str, str] = {}
        self._by_alias: dict[tuple[str, str], str] = {}
        self._by_topic: dict[str, dict[str, None]] = {}
        self._by_part: dict[str, dict[str, None]] = {}
        self._by_question: dict[tuple[str, tuple[str, ...]], str] = {}
        self._behind: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> RosterEntry | None:
        """Return the entry of a device; None if there is none."""
        return self._entries.get(key)

    def keys(self) -> tuple[str, ...]:
        """Return the keys of all devices."""
        return tuple(self._entries)

    def disconnected(self, at: float) -> None:
        """Note that the connection has ended, by which it would have been known who leaves."""
        self._statuses.clear()
        for entry in self._entries.values():
            if entry.is_lasting and not entry.departed:
                entry.alive_at = at
            entry.is_lasting = False

    def is_known(self, dialect: str, names: tuple[str, ...]) -> bool:
        """Whether a device is known that is asked by these names."""
        return (dialect, names) in self._by_question

    def standing(self, entry: RosterEntry) -> DeviceStanding:
        """Return whether a device is connected."""
        if entry.departed:
            return DeviceStanding.GONE
        verdicts = [
            verdict
            for voice in dict.fromkeys(entry.parts.values())
            if (verdict := self._verdict(entry, voice)) is not None
        ]
        if verdicts:
            return DeviceStanding.THERE if any(verdicts) else DeviceStanding.GONE
        if entry.alive_at is None:
            return DeviceStanding.UNKNOWN
        return DeviceStanding.THERE if entry.is_lasting else DeviceStanding.SEEN

    def _verdict(self, entry: RosterEntry, voice: AvailabilityVoice) -> bool | None:
        """Return whether a device is connected by what one message names; None if that says
        nothing.  So no other publisher can have a device be away by a message of its own."""
        words = ((one, entry.availability.get(one)) for one in voice.topics)
        said = [_said(self._statuses.get(one), of) for one, of in words if of is not None]
        known = [one for one in said if one is not None]
        return (any(known) if voice.any_topic else all(known)) if known else None

    def apply(self, dialect: str, news: BirthNews, birth: Birth) -> Iterable[str]:
        """Apply what a message says; return the keys of the devices that it may have changed."""
        match news:
            case Announced():
                return self._announce(dialect, news, birth)
            case Listed():
                return self._list(dialect, news, birth)
            case Withdrawn(part):
                return self._withdraw(part, set())
            case Status(topic, text):
                return self._note_status(topic, text)
        return () if birth.retained else self._move(dialect, news, birth)

    def _move(
        self, dialect: str, news: Departed | Alive | Candidate, birth: Birth
    ) -> Iterable[str]:
        """Apply what has just happened."""
        match news:
            case Departed():
                return self._depart(news)
            case Alive(names):
                return self._revive(dialect, names, birth.at)
            case Candidate():
                return ()

    def _announce(self, dialect: str, news: Announced, birth: Birth) -> tuple[str, ...]:
        shown = replace(news.found, label=sanitize.label(news.found.label))
        news = replace(news, found=shown)
        key = self._key(dialect, news)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = RosterEntry(dialect, news)
            self._behind.setdefault(_before(key), {})[key] = None
        elif not self._may_be(entry, news):
            self._health.drop("contradicts-device", name=news.found.label)
            return ()
        else:
            entry.newest = _merged(entry.newest, news)
        if not birth.retained:
            entry.alive_at, entry.departed = birth.at, False
            entry.is_lasting = news.is_lasting
        entry.may_change = False
        self._index(key, entry, news)
        self._ranks.put(key, self._rank(entry.newest.found))
        if len(self._entries) > self._limit:
            left = self._ranks.lowest()
            self._health.drop("table-full", name=self._entries[left].newest.found.label)
            self._forget(left)
        return (key,)

    def _may_be(self, entry: RosterEntry, news: Announced) -> bool:
        """Whether a message may be of a device: it shows no other identity, unless it replaces the
        device's own message while nothing says that the device has been there all the time."""
        if not _contradict(entry.newest.found, news.found):
            return True
        is_held = self.standing(entry) is DeviceStanding.THERE and not entry.may_change
        return news.part in entry.parts and not is_held

    def _key(self, dialect: str, news: Announced) -> str:
        """Return the key of the device that is announced: of one that is known by an alias."""
        known = (self._by_alias.get((dialect, one)) for one in news.aliases)
        return next((key for key in known if key is not None), news.found.key)

    def _index(self, key: str, entry: RosterEntry, news: Announced) -> None:
        if news.part in entry.parts or len(entry.parts) < MAX_PARTS:
            entry.parts[news.part] = AvailabilityVoice(tuple(news.availability), news.any_topic)
            self._by_part.setdefault(news.part, {})[key] = None
        for alias in news.aliases:
            if len(entry.aliases) < MAX_PARTS and (entry.dialect, alias) not in self._by_alias:
                entry.aliases[alias] = None
                self._by_alias[entry.dialect, alias] = key
        for topic, words in news.availability.items():
            if topic in entry.availability or len(entry.availability) < MAX_AVAILABILITY:
                entry.availability[topic] = words
                self._by_topic.setdefault(topic, {})[key] = None
        asked = news.question
        if asked and len(entry.questions) < MAX_AVAILABILITY:
            entry.questions[asked] = None
            self._by_question.setdefault((entry.dialect, asked), key)

    def _list(self, dialect: str, news: Listed, birth: Birth) -> Iterator[str]:
        listed = {one.found.key for one in news.devices}
        for one in news.devices:
            self._replace_availability(one)
            yield from self._announce(dialect, one, replace(birth, retained=True))
        if news.is_whole:
            yield from self._withdraw(news.part, listed)
        else:
            self._health.drop("list-too-long", name=news.part)

    def _replace_availability(self, news: Announced) -> None:
        """Forget where a device of a list was said to be there, before it was renamed."""
        if (entry := self._entries.get(news.found.key)) is None:
            return
        for topic in [one for one in entry.availability if one not in news.availability]:
            del entry.availability[topic]
            _remove(self._by_topic, topic, news.found.key)

    def _withdraw(self, part: str, besides: set[str]) -> Iterator[str]:
        """Take a part from its devices; one without any is gone, and yielded."""
        for key in tuple(self._by_part.get(part, ())):
            entry = self._entries[key]
            if key in besides:
                continue
            entry.parts.pop(part, None)
            _remove(self._by_part, part, key)
            if not entry.parts:
                self._forget(key)
                yield key

    def _note_status(self, topic: str, text: str) -> tuple[str, ...]:
        """Note what a topic says; one of which no device is known yet has to wait for room."""
        if text == self._statuses.get(topic):
            return ()
        if topic not in self._statuses and len(self._statuses) >= STATUSES * self._limit:
            unused = self._unused_status() if topic in self._by_topic else None
            if unused is None:
                self._health.drop("statuses-full", name=topic)
                return ()
            del self._statuses[unused]
        self._statuses[topic] = text
        keys = tuple(self._by_topic.get(topic, ()))
        for entry in map(self._entries.__getitem__, keys):
            entry.departed = False  # it said so later
            entry.may_change |= self.standing(entry) is DeviceStanding.GONE
        return keys

    def _unused_status(self) -> str | None:
        """Return a topic of which no device is known, for which all are looked at."""
        return next((one for one in self._statuses if one not in self._by_topic), None)

    def _depart(self, news: Departed) -> Iterator[str]:
        entry = self._entries.get(news.key)
        newest = None if entry is None else entry.newest.session
        if None not in (news.session, newest) and news.session != newest:
            self._health.drop("old-death", name=news.key)
            return
        gone = [news.key] if news.itself else []
        if news.others:
            gone += self._behind.get(news.key, ())
        for key in gone:
            if (left := self._entries.get(key)) is not None:
                left.departed, left.is_lasting, left.alive_at = True, False, None
                left.may_change = True
                yield key

    def _revive(self, dialect: str, names: tuple[str, ...], at: float) -> tuple[str, ...]:
        key = self._by_question.get((dialect, names))
        if key is None:
            return ()
        entry = self._entries[key]
        entry.alive_at, entry.departed = at, False
        return (key,)

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key)
        self._ranks.discard(key)
        for part in entry.parts:
            _remove(self._by_part, part, key)
        for topic in entry.availability:
            _remove(self._by_topic, topic, key)
        for alias in entry.aliases:
            self._by_alias.pop((entry.dialect, alias), None)
        for asked in entry.questions:
            if self._by_question.get((entry.dialect, asked)) == key:
                del self._by_question[entry.dialect, asked]
        _remove(self._behind, _before(key), key)


def _contradict(before: Found, now: Found) -> bool:
    """Whether two messages cannot be of one device: by MAC, or by another exclusive claim."""
    ours, theirs = ({c.value for c in of.claims if c.kind == "mac"} for of in (before, now))
    is_other = bool(ours and theirs) and ours.isdisjoint(theirs)
    return is_other or contradict(before.claims, now.claims)


def _before(key: str) -> str:
    """Return the key of the device that another may be behind."""
    return key.rpartition("/")[0]


def _said(text: str | None, words: Words) -> bool | None:
    """Return whether a topic says that a device is connected; None if it says neither."""
    if text is None or text not in (words.online, words.offline):
        return None
    return text == words.online


def _remove(index: dict[str, dict[str, None]], name: str, key: str) -> None:
    keys = index.get(name, {})
    keys.pop(key, None)
    if not keys:
        index.pop(name, None)


def _merged(before: Announced, now: Announced) -> Announced:
    """Return a device as its newest message shows it, with what only earlier ones say."""
    known: Mapping[str, str] = {**before.found.attributes, **now.found.attributes}
    replaced = {(one.kind, one.namespace) for one in now.found.claims}
    kept = [one for one in before.found.claims if (one.kind, one.namespace) not in replaced]
    found = replace(
        now.found,
        key=before.found.key,
        claims=now.found.claims | frozenset(sorted(kept)[:MAX_KEPT_CLAIMS]),
        attributes=known,
    )
    session = now.session if now.session is not None else before.session
    return replace(now, found=found, question=now.question or before.question, session=session)
