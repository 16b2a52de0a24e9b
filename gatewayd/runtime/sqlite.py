"""SQLite files whose commits survive a power cut, with their schema, migrations and errors.

journal_mode=WAL with synchronous=FULL syncs the log at each commit, where NORMAL would not
(sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from gatewayd.errors import ConfigError, StoreError, StoreFull, StoreUnavailable
from gatewayd.runtime.private_files import make_private, write_private

_PRIMARY = 0xFF  # the low byte of an extended result code (sqlite.org/rescode.html)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def store_error_of(path: Path, error: sqlite3.Error) -> StoreError:
    """Translate an error of SQLite.  path: of the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"the disk is full: {path} cannot grow")
    if code in _DAMAGED:
        return damaged(path, str(error))
    return StoreUnavailable(f"{path}: {error}")


def damaged(path: Path, why: str) -> StoreError:
    """Return the error of a damaged file."""
    return StoreError(f"{path} is damaged ({why}): nothing was changed; restore it from a backup")


Migrations = Mapping[int, Sequence[str]]
"""The statements that lead from each earlier version of a schema to the next; from 0, an empty
file, to the first."""

_READS = ("SELECT", "PRAGMA")
"""How statements begin that write nothing."""

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


class Database:
    """A file with a schema, changed in groups.  Used by the thread that made it.

    path: created, with mode 0600, where it does not exist; so is its directory, with mode 0700.
    schema: statements that make the tables.  version: the number of this schema, from 1.
    migrations: from each earlier version to the next; before, the file is copied to its name with
    .v and the old version appended.
    fault: why the last write failed; "" after the next that succeeded.
    Raises ConfigError where a newer gatewayd wrote the file, StoreError where it is damaged.
    """

    def __init__(
        self, path: Path, schema: Sequence[str], version: int, migrations: Migrations | None = None
    ) -> None:
        self._path, self._migrations = path, migrations or {}
        self._changes, self.fault = 0, ""
        self._grouped = self._begun = self._savepoint = self._written = False
        self._after: list[Callable[[], None]] = []
        self._kept = 0
        try:
            make_private(path)
            self._db = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
            # the caller judges a damaged text, so it must be readable
            self._db.text_factory = lambda text: text.decode(errors="surrogateescape")
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare(schema, version)
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
        self._begun = self._savepoint = self._written = False

    def mark(self) -> None:
        """Set the point to which `undo` goes back, in place of the one before."""
        self._written, self._kept = False, len(self._after)

    def undo(self) -> None:
        """Undo all changes since `mark`.  Raises StoreError if the whole group is lost."""
        if self._written:  # the first work that writes has no savepoint: all is its own
            self._execute("ROLLBACK TO work" if self._savepoint else "ROLLBACK")
            self._begun, self._written = self._savepoint, False
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
        try:
            # through another connection: this one would make the copy wait for itself
            with closing(sqlite3.connect(self._path, timeout=BUSY)) as reader:
                return serialise(reader)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def scrub(self) -> None:
        """Remove former content: copies of an older schema, and the log."""
        for copy in self._path.parent.glob(f"{self._path.name}.v*"):
            with suppress(OSError):
                copy.unlink()
        with suppress(StoreError):  # while it is being read, it cannot be removed
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file.  Closing twice is fine."""
        self._db.close()

    def _run(self, sql: str, *values: object) -> list[Any]:
        """Execute one statement and return its rows."""
        if self._grouped and not self._written and not sql.lstrip().startswith(_READS):
            self._prepare_to_write()
        return self._execute(sql, *values)

    def _prepare_to_write(self) -> None:
        """Begin the transaction, or set the savepoint of a further work."""
        if not self._begun:
            self._execute("BEGIN")
        elif not self._db.in_transaction:  # SQLite undid it after an error
            raise StoreUnavailable(f"{self._path}: the group is lost")
        else:
            if self._savepoint:
                self._execute("RELEASE work")
            self._execute("SAVEPOINT work")
            self._savepoint = True
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

    def _prepare(self, schema: Sequence[str], version: int) -> None:
        found = int(self._run("PRAGMA user_version")[0][0])
        if found < 0:
            raise damaged(self._path, "its version is invalid")
        if found > version:
            raise ConfigError(
                f"{self._path} was written by a newer gatewayd (schema {found}, this one knows "
                f"{version}): install that version again, or restore the copy {self._path}.v"
                f"{version} if there is one, or else a backup of the directory"
            )
        self._run(PRAGMAS[0])
        known = schema if found == version else statements_of(self._migrations, found)
        if not has_schema(self._run, known):  # before anything is written, or read from a view
            raise damaged(self._path, "its tables are not those of gatewayd")
        for pragma in PRAGMAS[1:]:
            self._run(pragma)
        verdict = str(self._run("PRAGMA integrity_check(1)")[0][0])
        if verdict != "ok":
            raise damaged(self._path, verdict)
        if found == 0:
            migrate(self._run, schema, version)
        elif found < version:
            self._copy(found)
            upgrade(self._run, self._migrations, found, version)
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
