"""SQLite files whose commits survive a power cut, with their schema, migrations and errors.

journal_mode=WAL with synchronous=FULL syncs the log at each commit, where NORMAL would not
(sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from gatewayd.errors import ConfigError, StoreError, StoreFull, StoreUnavailable
from gatewayd.runtime.private_files import make_private, write_private
from gatewayd.runtime.read_only_copy import read_only_copy

_PRIMARY = 0xFF  # the low byte of an extended result code (sqlite.org/rescode.html)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NOT_WRITABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
)
"""How SQLite names a disk that takes no writes."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_DISK_ERRNOS = (*_NO_ROOM, errno.EROFS, errno.EIO)


def store_error_of(path: Path, error: sqlite3.Error) -> StoreError:
    """Translate an error of SQLite.  path: of the file."""
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & _PRIMARY
    # where the disk is full, SQLite cannot make the index of its log
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(f"the disk is full: {path} cannot grow")
    if code in _DAMAGED:
        return damaged(path, str(error))
    return StoreUnavailable(f"{path}: {error}")


def refusal_of_disk(path: Path, error: BaseException | None) -> StoreError | None:
    """Return why the disk takes no writes; None where something else is wrong with the file.

    error: of the system, or of SQLite.
    """
    match error:
        case OSError(errno=number) if number in _DISK_ERRNOS:
            full = number in _NO_ROOM
        case sqlite3.Error(sqlite_errorcode=code) if code & _PRIMARY in _NOT_WRITABLE:
            full = isinstance(store_error_of(path, error), StoreFull)
        case _:
            return None
    nothing = "so that nothing can be changed"
    disk = os.statvfs(path.parent)
    if disk.f_flag & os.ST_RDONLY:
        return StoreUnavailable(
            f"the disk of {path} is read-only, {nothing}: see what the kernel says of it "
            "(journalctl -k), and mount it for writing again"
        )
    if full or disk.f_bavail * disk.f_frsize < _ROOM:
        return StoreFull(f"the disk of {path} is full, {nothing}: free some space")
    return StoreUnavailable(
        f"the disk of {path} takes no writes ({error}), {nothing}: see what the kernel says of it "
        "(journalctl -k)"
    )


def damaged(path: Path, why: str) -> StoreError:
    """Return the error of a damaged file."""
    return StoreError(f"{path} is damaged ({why}): nothing was changed; restore it from a backup")


Migrations = Mapping[int, Sequence[str]]
"""The statements that lead from each earlier version of a schema to the next; from 0, an empty
file, to the first."""

_READS = ("SELECT", "PRAGMA")
"""How statements begin that write nothing."""

_ROOM = 1 << 20
"""Bytes of free space below which a disk counts as full where a file cannot be opened."""

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


def statements_of(migrations: Migrations, version: int) -> list[str]:
    """Return the statements that make the schema of an earlier version, or of an empty file."""
    return [statement for number in range(version) for statement in migrations.get(number, ())]


def upgrade(run: Execute, migrations: Migrations, found: int, version: int) -> None:
    """Migrate from one version to another, each step in one transaction.

    Only for a file that has the schema of `found`: a step reads its tables, and a view in the place
    of one may never end.
    """
    for number in range(found, version):
        migrate(run, migrations[number], number + 1)


def migrate(run: Execute, statements: Sequence[str], version: int) -> None:
    """Execute the statements that lead to a version, in one transaction."""
    run("BEGIN IMMEDIATE")
    for statement in statements:
        run(statement)
    run(f"PRAGMA user_version = {version:d}")
    run("COMMIT")


def has_schema(run: Execute, schema: Sequence[str]) -> bool:
    """Whether the file has these tables and nothing else.

    An attacker with access to the disk could add triggers, which act when gatewayd writes, or
    columns of other types.
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
"""Seconds to wait for another process that has locked the file, as an operator's sqlite3."""


class UndoesOthers(Exception):
    """What one work wrote cannot be undone alone: others have written in the same transaction.

    Works hardly ever fail after they have written, so that a savepoint for each would cost more
    than to undo them all, and to run each again in a group of its own.
    """


class Database:
    """A file with a schema, changed in groups.  Used by the thread that made it.

    path: created, with mode 0600, where it does not exist; so is its directory, with mode 0700.
    schema: statements that make the tables.  version: the number of this schema, from 1.
    migrations: from each earlier version to the next; before, the file is copied to its name with
    .v and the old version appended.
    pragmas: the first before the schema is compared, the others before it is made.
    check: the pragma that looks for damage.
    fault: why the last write failed; "" after the next that succeeded.
    timed: returns what each commit runs in, which may take its time.
    Where the disk is full or read-only, all that was committed can be read, from a copy in memory,
    and a write raises StoreFull or StoreUnavailable, until `reopen` succeeds.
    Raises ConfigError where a newer gatewayd wrote the file, StoreError where it is damaged.
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        version: int,
        migrations: Migrations | None = None,
        *,
        pragmas: Sequence[str] = PRAGMAS,
        check: str = "integrity_check",
    ) -> None:
        self._path, self._migrations = path, migrations or {}
        self._pragmas, self._check = pragmas, check
        self._schema, self._version = schema, version
        self._changes, self.fault = 0, ""
        self._grouped = self._begun = self._shared = self._written = False
        self._after: list[Callable[[], None]] = []
        self._kept = 0
        self._refusal: StoreError | None = None
        self.timed: Callable[[], AbstractContextManager[None]] = nullcontext
        self._db: sqlite3.Connection
        try:
            self._open()
        except (StoreFull, StoreUnavailable) as error:
            refusal = refusal_of_disk(path, error.__cause__)
            if refusal is None:
                raise
            self._open_copy(refusal)

    @property
    def read_only(self) -> bool:
        """Whether there is but a copy in memory, as the disk takes no writes."""
        return self._refusal is not None

    def check_disk(self) -> None:
        """Raise StoreFull or StoreUnavailable where the disk takes no writes."""
        if self._refusal is not None:
            raise type(self._refusal)(*self._refusal.args)

    def reopen(self) -> None:
        """Open the file itself, if there is but a copy of it; nothing was written meanwhile.

        Raises StoreError where the disk still takes no writes; then the copy stays.
        """
        if self._refusal is None:
            return
        copy, refusal, grouped = self._db, self._refusal, self._grouped
        self._refusal, self._grouped = None, False
        try:
            self._open()
        except BaseException as error:
            newer = refusal_of_disk(self._path, error.__cause__)
            self._db, self._refusal = copy, newer or refusal
            self.fault = str(self._refusal)
            raise
        finally:
            self._grouped = grouped
        copy.close()
        self._changes, self.fault = self._db.total_changes, ""

    def _open(self) -> None:
        try:
            make_private(self._path)
            self._db = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{self._path} cannot be opened: {error}") from error
        self._checked()

    def _open_copy(self, refusal: StoreError) -> None:
        """Read all there is into memory.  refusal: why the disk takes no writes."""
        try:
            self._db = read_only_copy(self._path)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{self._path} cannot be read: {error}") from error
        self._checked(keep_copy=False)
        self._db.execute("PRAGMA query_only = ON")
        self._refusal, self.fault = refusal, str(refusal)

    def _checked(self, *, keep_copy: bool = True) -> None:
        # the caller judges a damaged text, so it must be readable
        self._db.text_factory = lambda text: text.decode(errors="surrogateescape")
        try:
            self._prepare(self._schema, self._version, keep_copy=keep_copy)
        except BaseException:
            self._db.close()
            raise

    def begin(self) -> None:
        """Begin a group.  Its transaction begins with the first statement that writes."""
        try:
            self._changes, under_way = self._db.total_changes, self._db.in_transaction
        except sqlite3.Error as error:  # it is closed
            raise self._translated(error) from error
        if under_way:
            raise StoreUnavailable(f"{self._path}: a group is under way")
        self._grouped, self._kept = True, 0
        self._begun = self._shared = self._written = False

    def mark(self) -> None:
        """Set the point to which `undo` goes back, in place of the one before."""
        self._shared, self._written, self._kept = self._begun, False, len(self._after)

    def undo(self) -> None:
        """Undo all changes since `mark`.

        Raises UndoesOthers where earlier changes are in the same transaction; StoreError if the
        whole group is lost.
        """
        if self._written:
            if self._shared and self._db.in_transaction:
                raise UndoesOthers
            self._execute("ROLLBACK")
            self._begun = self._written = False
        del self._after[self._kept :]

    def after(self, call: Callable[[], None]) -> None:
        """Call this when the group is durable; never, if it is undone."""
        self._after.append(call)

    @property
    def waits(self) -> bool:
        """Whether anything is called when the group is durable."""
        return bool(self._after)

    def commit(self) -> None:
        """Make the group durable, then make the calls of `after`."""
        if self._begun:
            with self.timed():
                self._execute("COMMIT")
        self._grouped = self._begun = False
        if self._db.total_changes != self._changes:
            self.fault = ""
        after, self._after = self._after, []
        for call in after:
            call()

    def rollback(self) -> None:
        """Undo the group, if one is open."""
        self._after.clear()
        self._grouped = self._begun = False
        if self._db.in_transaction:
            self._execute("ROLLBACK")

    def snapshot(self) -> bytes:
        """Return all durable content, as the bytes of a file that needs no log beside it.

        Raises StoreUnavailable.
        """
        if self._refusal is not None:
            return serialise(self._db)
        try:
            # through another connection: this one would make the copy wait for itself
            with closing(sqlite3.connect(self._path, timeout=BUSY)) as reader:
                return serialise(reader)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def shrink(self) -> None:
        """Free the pages that are kept in memory, 2 MB at most: each is read again when needed."""
        self._run("PRAGMA shrink_memory")

    def scrub(self) -> None:
        """Remove former content: copies of an older schema, and the log."""
        for copy in self._path.parent.glob(f"{self._path.name}.v*"):
            with suppress(OSError):
                copy.unlink()
        self._write_back()

    def _write_back(self) -> None:
        """Write the content of the log into the file, and remove it there."""
        with suppress(StoreError):  # while it is being read, it cannot be removed
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file.  Closing twice is fine."""
        self._db.close()

    def _run(self, sql: str, *values: object) -> list[Any]:
        """Execute one statement and return its rows."""
        writes = not sql.lstrip().startswith(_READS)
        if writes:
            self.check_disk()
        if writes and self._grouped and not self._written:
            self._prepare_to_write()
        return self._execute(sql, *values)

    def _run_for_each(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute one statement, which writes, for each row.  Inside a group."""
        self.check_disk()
        if not self._written:
            self._prepare_to_write()
        try:
            self._db.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _prepare_to_write(self) -> None:
        """Begin the transaction, unless an earlier work of the group has."""
        if not self._begun:
            self._execute("BEGIN")
        elif not self._db.in_transaction:  # SQLite undid it after an error
            raise StoreUnavailable(f"{self._path}: the group is lost")
        self._begun = self._written = True

    def _execute(self, sql: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from error
        except UnicodeError as error:  # a name in the schema, or of a slot
            raise damaged(self._path, "a name in it is not text") from error

    def _translated(self, error: sqlite3.Error) -> StoreError:
        translated = store_error_of(self._path, error)
        self.fault = str(translated)
        if isinstance(translated, StoreFull):
            self._give_up_group()
        return translated

    def _give_up_group(self) -> None:
        """Undo the group: a full disk may have undone it already."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _prepare(self, schema: Sequence[str], version: int, *, keep_copy: bool) -> None:
        found = int(self._run("PRAGMA user_version")[0][0])
        if found < 0:
            raise damaged(self._path, "its version is invalid")
        if found > version:
            raise ConfigError(
                f"{self._path} was written by a newer gatewayd (schema {found}, this one knows "
                f"{version}): install that version again, or restore the copy {self._path}.v"
                f"{version} if there is one, or else a backup of the directory"
            )
        self._run(self._pragmas[0])
        known = schema if found == version else statements_of(self._migrations, found)
        if not has_schema(self._run, known):  # before anything is written, or read from a view
            raise damaged(self._path, "its tables are not those of gatewayd")
        for pragma in self._pragmas[1:]:
            self._run(pragma)
        verdict = str(self._run(f"PRAGMA {self._check}(1)")[0][0])
        if verdict != "ok":
            raise damaged(self._path, verdict)
        if found == 0:
            migrate(self._run, schema, version)
        elif found < version:
            if keep_copy:
                self._copy(found)
            upgrade(self._run, self._migrations, found, version)
        if found < version:
            self._write_back()  # the package of an older gatewayd looks for the version there
        assert has_schema(self._run, schema), "the steps lead to the schema"

    def _copy(self, version: int) -> None:
        """Keep the file for the older gatewayd, in case that is installed again."""
        copy = self._path.with_name(f"{self._path.name}.v{version}")
        try:
            write_private(copy, self.snapshot())
        except OSError as error:
            why = f"{copy} cannot be written ({error.strerror}): nothing was changed"
            raise StoreUnavailable(why) from error


def serialise(db: sqlite3.Connection) -> bytes:
    """Return a database as the bytes of a file that needs no log beside it."""
    with closing(sqlite3.connect(":memory:")) as copy:
        db.backup(copy)
        whole = bytearray(copy.serialize())
    # versions for writing and reading: 1 is "rollback journal" (sqlite.org/fileformat2.html, 1.3.3)
    whole[18:20] = b"\1\1"
    return bytes(whole)
