"""messages.db, the file of the outbox, and what is kept in reserve for a full disk.

Its fsync must not make the vault wait, so it is a file of its own, used by a thread of its own.
The table has no index: what waits is known in memory by its numbers, and a group of changes costs
the same beside a thousand messages as beside a million.  What the cloud has is deleted with a later
group: a delete that is lost costs a repeat, never a message.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.errors import StoreError, StoreUnavailable
from gatewayd.runtime.private_files import private_file, sync_directory
from gatewayd.runtime.sqlite import PRAGMAS, Database, damaged, store_error_of

log = logging.getLogger(__name__)

NAME = "messages.db"
RESERVE = "messages.reserve"
RESERVE_SIZE = 8 * 1024 * 1024
"""Bytes.  More than the log takes until it is written back, 1000 pages: with less, a full disk
could not even take the deletes that make room."""
LITTLE = 1024 * 1024
"""Bytes that are free on a disk that is as good as full."""
PLENTY = 3 * RESERVE_SIZE
"""Bytes that are free on a disk that can give the reserve again."""
RING = 4096
"""Packets of each door that are known again.  A broker has far fewer under way."""
VACUUM_PAGES = 256
"""Pages given back to the disk at a time, some 5 ms."""

VERSION = 1
SCHEMA = (
    "CREATE TABLE child (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE door (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    """CREATE TABLE boot (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, began INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE up (
        number INTEGER PRIMARY KEY, child INTEGER NOT NULL, door INTEGER NOT NULL,
        boot INTEGER NOT NULL, at INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE seen (
        slot INTEGER PRIMARY KEY, number INTEGER NOT NULL, packet INTEGER NOT NULL,
        digest INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE spent (
        cloud TEXT PRIMARY KEY, day INTEGER NOT NULL, bytes INTEGER NOT NULL,
        messages INTEGER NOT NULL
    ) STRICT""",
)
"""up: `number` rises with each message.  `at`: milliseconds, since the epoch where `boot` is 0,
else since that boot.  boot.began: milliseconds since the epoch, 0 while that is not known.
seen: the slot is RING * door + number % RING."""
MIGRATIONS: Mapping[int, Sequence[str]] = {0: SCHEMA}
"""From each earlier version of the schema to the next; from 0 to the first."""

OUTBOX_PRAGMAS = (
    PRAGMAS[0],
    "PRAGMA auto_vacuum = INCREMENTAL",  # takes effect before there is a table
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = OFF",  # messages are no secrets of ours, and it doubles the writes
    "PRAGMA journal_size_limit = 8388608",
    "PRAGMA cache_size = -8192",
)

_STORE = "REPLACE INTO up VALUES (?, ?, ?, ?, ?, ?, ?)"
"""It may be there already: a commit that failed may have reached the disk all the same."""
_SELECT = "SELECT number, child, door, boot, at, topic, payload FROM up WHERE number = ?"
_INDEX = """
    SELECT number, child, door, boot, length(topic) + length(payload) FROM up
    WHERE number > ? ORDER BY number LIMIT ?
"""
_MOST = 1 << 52
"""The largest number of any table: there is room to count on, also in microseconds."""
_UNSOUND = (
    """SELECT 1 FROM up WHERE number NOT BETWEEN 1 AND ?1 OR child NOT BETWEEN 1 AND ?1
        OR door NOT BETWEEN 1 AND 65535 OR boot NOT BETWEEN 0 AND ?1 OR at NOT BETWEEN 0 AND ?1
        LIMIT 1""",
    "SELECT 1 FROM child WHERE id NOT BETWEEN 1 AND ?1 LIMIT 1",
    "SELECT 1 FROM door WHERE id NOT BETWEEN 1 AND min(?1, 65535) LIMIT 1",
    "SELECT 1 FROM boot WHERE id NOT BETWEEN 1 AND ?1 OR began NOT BETWEEN -?1 AND ?1 LIMIT 1",
    """SELECT 1 FROM seen WHERE slot / 4096 NOT BETWEEN 1 AND 65535
        OR number NOT BETWEEN 1 AND ?1 OR packet NOT BETWEEN 1 AND 65535 LIMIT 1""",
    """SELECT 1 FROM spent WHERE day NOT BETWEEN 0 AND ?1 OR bytes NOT BETWEEN 0 AND ?1
        OR messages NOT BETWEEN 0 AND ?1 LIMIT 1""",
)
"""What finds rows that gatewayd has not written.  4096: RING.  65535: what lanes have room for."""
_CHUNK = 10_000
"""Rows that are read at a time when the outbox is opened."""


class StoredMessage(NamedTuple):
    """A row of the table `up`.  child, door, boot: their ids; boot is 0 where `at` is the time."""

    number: int
    child: int
    door: int
    boot: int
    at: int
    topic: str
    payload: bytes


class SeenPacket(NamedTuple):
    """A packet of a door that is known again.  number: rises with each one of its door."""

    door: int
    number: int
    packet: int
    digest: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What messages have cost at a cloud on a day, counted from the epoch."""

    day: int
    bytes: int = 0
    messages: int = 0


@dataclass(slots=True)
class Changes:
    """One group of changes, which are durable together.

    children, doors: new names, by the ids that messages have for them.
    unknown: doors whose packets so far are known no more.
    """

    children: dict[int, DeviceId] = field(default_factory=dict)
    doors: dict[int, str] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    stored: list[StoredMessage] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)
    seen: list[SeenPacket] = field(default_factory=list)
    spent: dict[str, Spent] = field(default_factory=dict)

    def __bool__(self) -> bool:
        names, messages = self.children or self.doors, self.deleted or self.stored
        return bool(names or messages or self.unknown or self.seen or self.spent)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the file holds when it is opened, but for the messages."""

    children: Mapping[str, int]
    doors: Mapping[str, int]
    boots: Mapping[int, tuple[str, int]]
    seen: Sequence[SeenPacket]
    spent: Mapping[str, Spent]


IndexEntry = tuple[int, int, int, int, int]
"""Number, child, door and boot of a message, and characters of its topic and bytes of its payload.
"""


class OutboxFile(Database):
    """The file, and its reserve.  Used by one thread.

    directory: of the file.  Raises ConfigError where a newer gatewayd wrote it, StoreError where
    it is damaged or cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self._reserve = directory / RESERVE
        if _free(directory) < LITTLE:
            with suppress(OSError):  # of a disk that is read-only: then a copy is read
                self._reserve.unlink(missing_ok=True)  # else nothing could be opened for writing
        super().__init__(
            directory / NAME,
            SCHEMA,
            VERSION,
            MIGRATIONS,
            pragmas=OUTBOX_PRAGMAS,
            check="quick_check",
        )

    def contents(self) -> Contents:
        """Return what is there besides the messages.

        Raises StoreError, also where a number of any table is none of ours.
        """
        if any(self._run(query, _MOST) for query in _UNSOUND):
            raise damaged(self._path, "a number is out of range")
        return Contents(
            children={name: number for number, name in self._run("SELECT id, name FROM child")},
            doors={name: number for number, name in self._run("SELECT id, name FROM door")},
            boots={
                number: (name, began) for number, name, began in self._run("SELECT * FROM boot")
            },
            seen=[
                SeenPacket(slot // RING, number, packet, digest)
                for slot, number, packet, digest in self._run("SELECT * FROM seen ORDER BY number")
            ],
            spent={cloud: Spent(*rest) for cloud, *rest in self._run("SELECT * FROM spent")},
        )

    def index(self) -> Iterator[list[IndexEntry]]:
        """Yield the messages without their contents, oldest first, in parts.  Raises StoreError."""
        last = -1
        while rows := self._run(_INDEX, last, _CHUNK):
            yield rows
            last = rows[-1][0]

    def read(self, numbers: Sequence[int]) -> list[StoredMessage]:
        """Return the messages with these numbers that are there, in this order.

        Raises StoreError.
        """
        rows = (self._run(_SELECT, number) for number in numbers)
        return [StoredMessage(*row[0]) for row in rows if row]

    def present(self, arrivals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return those pairs of number and `at` that are of a message here.  Raises StoreError."""
        query = "SELECT 1 FROM up WHERE number = ? AND at = ?"
        known = [one for one in dict.fromkeys(arrivals) if max(one) <= _MOST]
        return [one for one in known if self._run(query, *one)]

    def apply(self, changes: Changes) -> None:
        """Make a group of changes durable: all of them, or none.  Raises StoreError."""
        self.begin()
        try:
            for number, child in changes.children.items():
                self._run("REPLACE INTO child VALUES (?, ?)", number, child)
            for number, door in changes.doors.items():
                self._run("REPLACE INTO door VALUES (?, ?)", number, door)
            # what is deleted comes first, so that its pages are used again
            if changes.deleted:
                gone = [(number,) for number in changes.deleted]
                self._run_for_each("DELETE FROM up WHERE number = ?", gone)
            if changes.stored:
                self._run_for_each(_STORE, changes.stored)
            for known_before in changes.unknown:
                self._forget_packets(known_before)
            if changes.seen:
                slots = [
                    (RING * one.door + one.number % RING, one.number, one.packet, one.digest)
                    for one in changes.seen
                ]
                self._run_for_each("REPLACE INTO seen VALUES (?, ?, ?, ?)", slots)
            for cloud, spent in changes.spent.items():
                values = (cloud, spent.day, spent.bytes, spent.messages)
                self._run("REPLACE INTO spent VALUES (?, ?, ?, ?)", *values)
            self.commit()
        except BaseException:
            with suppress(StoreError):
                self.rollback()
            raise

    def keep_boot(self, boot: int, name: str, began: int) -> None:
        """Keep the name of a boot, and when it began: milliseconds since the epoch, 0: not known.

        Raises StoreError.
        """
        self._run("REPLACE INTO boot VALUES (?, ?, ?)", boot, name, began)

    def remove(self, children: Sequence[int], doors: Sequence[int], boots: Sequence[int]) -> None:
        """Remove names that no message has.  Raises StoreError."""
        for one in children:
            self._run("DELETE FROM child WHERE id = ?", one)
        for one in doors:
            self._run("DELETE FROM door WHERE id = ?", one)
            self._forget_packets(one)
        for one in boots:
            self._run("DELETE FROM boot WHERE id = ?", one)

    def _forget_packets(self, door: int) -> None:
        first = RING * door
        self._run("DELETE FROM seen WHERE slot BETWEEN ? AND ?", first, first + RING - 1)

    # Space on the disk.

    def free(self) -> int:
        """Return the bytes that are free on the disk for us.  Raises StoreUnavailable."""
        return _free(self._path.parent)

    def size(self) -> int:
        """Return the bytes that the file takes.  Raises StoreError."""
        return int(self._run("PRAGMA page_count")[0][0]) * int(self._run("PRAGMA page_size")[0][0])

    @property
    def has_reserve(self) -> bool:
        """Whether space is in reserve for a full disk."""
        return self._reserve.exists()

    def keep_reserve(self) -> bool:
        """Reserve space for a full disk, if there is plenty; return whether there is a reserve.

        It is written, and with what no file system compresses: a file with holes reserves nothing.
        """
        if self.has_reserve:
            return True
        if self.free() < PLENTY:
            return False
        unfinished = self._reserve.with_suffix(".new")
        try:
            unfinished.unlink(missing_ok=True)
            with os.fdopen(private_file(unfinished, os.O_EXCL | os.O_WRONLY), "wb") as file:
                file.write(os.urandom(RESERVE_SIZE))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._reserve)
            sync_directory(self._reserve.parent)
        except OSError:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            return False
        return True

    def use_reserve(self) -> bool:
        """Give the reserve back to the disk, and use it; return whether there was one.

        Raises StoreError.
        """
        try:
            self._reserve.unlink()
            sync_directory(self._reserve.parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreUnavailable(f"{self._reserve}: {error.strerror}") from error
        self._run("PRAGMA wal_checkpoint(PASSIVE)")
        return True

    def vacuum(self) -> bool:
        """Give some pages back to the disk, if more than half of the file is free; else False.

        Raises StoreError.
        """
        pages, free = (
            int(self._run(f"PRAGMA {name}")[0][0]) for name in ("page_count", "freelist_count")
        )
        if free <= max(pages // 2, VACUUM_PAGES):
            return False
        try:
            # by `execute`, which takes one step of a statement, it would free one page
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        except sqlite3.Error as error:
            raise store_error_of(self._path, error) from error
        return True


def _free(directory: Path) -> int:
    """Return the bytes that are free for us on the disk of a directory, which may be missing."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.statvfs(directory)
    except OSError as error:
        raise StoreUnavailable(f"{directory} cannot be used: {error.strerror}") from error
    return found.f_bavail * found.f_frsize


def set_aside(directory: Path, at: int) -> Path:
    """Rename a file that cannot be used, and its log; return its new name.

    at: seconds since the epoch, for the name.  Raises StoreUnavailable.
    """
    path = directory / NAME
    aside = directory / f"{NAME}.damaged-{at}"
    try:
        for suffix in ("-wal", "-shm", ""):  # the file is last: until then, all is as it was
            with suppress(FileNotFoundError):
                path.with_name(f"{NAME}{suffix}").rename(aside.with_name(f"{aside.name}{suffix}"))
        _keep_newest(directory)
        sync_directory(directory)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be renamed: {error.strerror}") from error
    return aside


MOST_ASIDE = 2
"""Files that are kept aside: each can be as large as the outbox."""


def _keep_newest(directory: Path) -> None:
    named = [path for path in directory.glob(f"{NAME}.damaged-*") if path.name[-1].isdigit()]
    for path in sorted(named, key=lambda one: one.stat().st_mtime)[:-MOST_ASIDE]:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
