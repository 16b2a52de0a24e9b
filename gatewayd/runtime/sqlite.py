"""One SQLite file whose commits survive a power cut.

journal_mode=WAL with synchronous=FULL syncs the log at each commit, where NORMAL would not
(sqlite.org/pragma.html#pragma_synchronous).

What SQLite raises, as one of our errors.

How the file of a database comes by the tables of this version, and is known by them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from gatewayd.errors import ConfigError, StoreError, StoreFull, StoreUnavailable

_PRIMARY = 0xFF  # the low byte of an extended result code (sqlite.org/rescode.html)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def store_error_of(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error of ours.  path: of the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"the disk is full: {path} cannot grow")
    if code in _DAMAGED:
        return damaged(path, str(error))
    return StoreUnavailable(f"{path}: {error}")


def damaged(path: Path, why: str) -> StoreError:
    """Return what to raise for a file that is not as it should be."""
    return StoreError(f"{path} is damaged ({why}): nothing was changed; restore it from a backup")


Migrations = Mapping[int, Sequence[str]]
"""The statements that lead from each earlier version to the next."""

_SHAPE = """
    SELECT t.name, t.strict, c.name, c.type, c."notnull", c.pk
    FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c
    WHERE t.schema = 'main' AND t.name NOT LIKE 'sqlite^_schema' ESCAPE '^'
    UNION ALL
    SELECT name, 0, tbl_name, type, 0, 0 FROM sqlite_master
"""


class Execute(Protocol):
    """Executes one statement and returns its rows."""

    def __call__(self, sql: str, /, *values: object) -> list[Any]: ...


def upgrade(run: Execute, steps: Migrations, found: int, version: int) -> None:
    """Bring the tables from one version to another, each step wholly or not at all."""
    for number in range(found, version):
        migrate(run, steps[number], number + 1)


def migrate(run: Execute, statements: Sequence[str], version: int) -> None:
    """Bring the tables to a version, wholly or not at all."""
    run("BEGIN IMMEDIATE")
    for statement in statements:
        run(statement)
    run(f"PRAGMA user_version = {version:d}")
    run("COMMIT")


def has_schema(run: Execute, schema: Sequence[str]) -> bool:
    """Tell whether there are these tables and nothing else.

    Whoever can write to the disk could add triggers, which act when we write, or columns of
    other types than ours.
    """
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in schema:
            model.execute(statement)
        return _shape(run) == _shape(lambda sql: model.execute(sql).fetchall())


def _shape(run: Callable[[str], list[Any]]) -> list[Any]:
    return sorted(map(repr, run(_SHAPE)))


PRAGMAS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA foreign_keys = ON",
)
BUSY = 5.0
"""Seconds to wait for whoever else has the file open, as an operator with sqlite3."""


class Database:
    """A file with a schema.  Used by one thread, the one that made it.

    path: made, with mode 0600, where it does not exist; so is its directory, with mode 0700.
    schema: statements that make the tables.  version: the number of this schema, from 1.
    steps: the statements that lead from each earlier version to the next; a copy of the file, with
    .v and its version after its name, is taken before.
    fault: why the last thing failed that was to be written; empty since something was.
    Raises ConfigError where a newer gatewayd wrote the file, StoreError where it is damaged.
    """

    def __init__(
        self, path: Path, schema: Sequence[str], version: int, steps: Migrations | None = None
    ) -> None:
        self._path, self._marked, self._steps = path, False, steps or {}
        self._changes, self.fault = 0, ""
        self._after: list[Callable[[], None]] = []
        self._kept = 0
        try:
            _make_private(path)
            self._db = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
            # a damaged text is for the caller to judge, so it must be readable
            self._db.text_factory = lambda text: text.decode(errors="surrogateescape")
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare(schema, version)
        except BaseException:
            self._db.close()
            raise

    def begin(self) -> None:
        """Open a group."""
        self._run("BEGIN")
        self._marked, self._kept = False, 0
        self._changes = self._db.total_changes

    def mark(self) -> None:
        """Set the point to which `undo` goes back; the one before is given up."""
        if self._marked:
            self._run("RELEASE work")
        self._run("SAVEPOINT work")
        self._marked, self._kept = True, len(self._after)

    def undo(self) -> None:
        """Take back what was done since `mark`.  Raises StoreError if the whole group is lost."""
        self._run("ROLLBACK TO work")
        del self._after[self._kept :]

    def after(self, call: Callable[[], None]) -> None:
        """Have something done when the group is durable; never, if it is taken back."""
        self._after.append(call)

    @property
    def waits(self) -> bool:
        """Whether something is to be done when the group is durable."""
        return bool(self._after)

    def commit(self) -> None:
        """Make the group durable, and do what waits for that."""
        self._run("COMMIT")
        if self._db.total_changes != self._changes:
            self.fault = ""
        after, self._after = self._after, []
        for call in after:
            call()

    def rollback(self) -> None:
        """Take back the group, if one is open."""
        self._after.clear()
        if self._db.in_transaction:
            self._run("ROLLBACK")

    def snapshot(self) -> bytes:
        """Return all that is durable, as the bytes of a file that needs no log beside it.

        Raises StoreUnavailable.
        """
        try:
            # by another connection: one that writes would make the copy wait for itself
            with closing(sqlite3.connect(self._path, timeout=BUSY)) as reader:
                return serialise(reader)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def scrub(self) -> None:
        """Remove what was once in the file: copies of an older schema, and its log."""
        for copy in self._path.parent.glob(f"{self._path.name}.v*"):
            with suppress(OSError):
                copy.unlink()
        with suppress(StoreError):  # where it is read just now, it goes later
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file.  Closing twice is fine."""
        self._db.close()

    def _run(self, sql: str, *values: object) -> list[Any]:
        """Execute one statement and return its rows."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from error
        except UnicodeError as error:  # a name in the schema, or of a slot
            raise damaged(self._path, "a name in it is no text") from error

    def _translated(self, error: sqlite3.Error) -> StoreError:
        translated = store_error_of(self._path, error)
        self.fault = str(translated)
        if isinstance(translated, StoreFull):
            self._give_up_group()
        return translated

    def _give_up_group(self) -> None:
        """End the group: a full disk may have ended it already, and half of one is none."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _prepare(self, schema: Sequence[str], version: int) -> None:
        found = int(self._run("PRAGMA user_version")[0][0])
        if found < 0:
            raise damaged(self._path, "its version is no number of ours")
        if found > version:
            raise ConfigError(
                f"{self._path} was written by a newer gatewayd (schema {found}, this one knows "
                f"{version}): install that version again, or put back the copy {self._path}.v"
                f"{version} if there is one, or else a backup of the directory"
            )
        for pragma in PRAGMAS:
            self._run(pragma)
        verdict = str(self._run("PRAGMA integrity_check(1)")[0][0])
        if verdict != "ok":
            raise damaged(self._path, verdict)
        if found == 0:
            migrate(self._run, schema, version)
        elif found < version:
            self._copy(found)
            upgrade(self._run, self._steps, found, version)
        if not has_schema(self._run, schema):
            raise damaged(self._path, "its tables are not ours")

    def _copy(self, version: int) -> None:
        """Keep the file as a gatewayd knows it that has to be put back."""
        copy = self._path.with_name(f"{self._path.name}.v{version}")
        try:
            write_private(copy, self.snapshot())
        except OSError as error:
            why = f"{copy} cannot be made ({error.strerror}), and nothing was changed"
            raise StoreUnavailable(why) from error


def serialise(db: sqlite3.Connection) -> bytes:
    """Return a database as the bytes of a file that needs no log beside it."""
    with closing(sqlite3.connect(":memory:")) as copy:
        db.backup(copy)
        whole = bytearray(copy.serialize())
    # who writes and reads it: 1 is "rollback journal" (sqlite.org/fileformat2.html, 1.3.3)
    whole[18:20] = b"\1\1"
    return bytes(whole)


def _make_private(path: Path) -> None:
    """Make a file that nobody else can read, and make sure that its name is on the disk."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(private_file(path, os.O_RDWR))
    sync_directory(path.parent)


def private_file(path: Path, flags: int) -> int:
    """Open a file that nobody else can read, and make it where it does not exist.

    flags: of open(2), besides.  One that root makes belongs to whom the directory belongs to, as
    the service does not run as root; so root follows no link that the service could have put
    there.  Raises OSError.
    """
    opened = os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        _make_ours(opened, path.parent)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _make_ours(opened: int, directory: Path) -> None:
    if os.fstat(opened).st_nlink > 1:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
    os.fchmod(opened, 0o600)
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(opened, owner.st_uid, owner.st_gid)


def write_private(path: Path, content: bytes) -> None:
    """Write a file: a power cut leaves all of it or nothing.  Raises OSError."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    try:
        with open(private_file(unfinished, os.O_EXCL | os.O_WRONLY), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # half a file helps nobody, and fills the disk
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable.  Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
