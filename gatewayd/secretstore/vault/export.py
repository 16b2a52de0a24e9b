"""Export and import of a vault, to move to another gateway: only a recovery key opens an export.

An export is a vault.db that has only key slots for recovery.  What else has to move, as the
records of the children, is enclosed: encrypted like a secret.  An export is confidential, and
does not prove its origin: a recovery key is public, and anyone who has it can make an export.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from gatewayd.errors import ConfigError, StoreSealed, StoreUnavailable
from gatewayd.runtime.sqlite import Execute, has_schema, serialise, statements_of
from gatewayd.secretstore.keyslots import recovery, table
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.keyslots.slots import KeyUnavailable
from gatewayd.secretstore.vault import data_keys, rows
from gatewayd.secretstore.vault.crypto import DecryptionError
from gatewayd.secretstore.vault.data_keys import DataKeys
from gatewayd.secretstore.vault.rows import COLUMNS, SecretRow
from gatewayd.secretstore.vault.schema import SCHEMA, STEPS, VERSION
from gatewayd.secretstore.vault.sealed_database import SealedDatabase

MAX_BYTES = 256 << 20
"""The largest export that is read."""

ENCLOSED = "gatewayd-enclosure"
"""The service under which enclosures are stored: no slot of a child has it."""

_NO_EXPORT = "that is no export of a vault, or it is damaged"
_LEFT_OUT = (
    "DELETE FROM key_slot WHERE kind NOT LIKE 'recovery-%'",
    "DELETE FROM slot WHERE kind NOT LIKE 'recovery-%'",
    "DELETE FROM quarantine",
    "DELETE FROM counter",
    "DELETE FROM binding",
)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import.  secrets: how many.  damaged: how many did not open."""

    secrets: int
    damaged: int
    enclosures: Mapping[str, bytes] = field(repr=False)


def export(vault: SealedDatabase, enclosures: Mapping[str, bytes] | None = None) -> bytes:
    """Return all that is durable, encrypted for the recovery keys alone.

    enclosures: what is enclosed, by names.
    Raises StoreSealed; StoreUnavailable where there is no recovery key.
    """
    keys = vault.keys()
    kinds = table.read_slots(vault.query)
    publics = {kind: public for kind, public in kinds.items() if table.is_recovery(kind)}
    if not publics:
        raise StoreUnavailable(
            "there is no recovery key: add one with gatewayctl vault add-recovery"
        )
    for kind, public in publics.items():
        table.trusted_public_key(vault.query, keys, kind, public)
    with _opened(vault.snapshot()) as (db, query):
        for statement in _LEFT_OUT:
            query(statement)
        for name, content in (enclosures or {}).items():
            rows.write(query, keys, (ENCLOSED, name), content, vault.random)
        query("COMMIT")
        query("VACUUM")  # the free pages would still hold what was left out
        return serialise(db)


def import_(
    vault: SealedDatabase,
    whole: bytes,
    key: RecoveryKey,
    at: Callable[[int, int], object] = lambda *_: None,
) -> ImportResult:
    """Import an export, within a group: every secret is encrypted again, the key is added.

    vault: without secrets.  at: is called with the number of rows that are done, and of all.
    Raises ConfigError where it is no export, or of a newer gatewayd; StoreSealed where the
    private key does not open it; StoreUnavailable where the vault has secrets.
    """
    own = vault.changeable()
    if vault.query("SELECT 1 FROM secret LIMIT 1"):
        raise StoreUnavailable("the vault has secrets already: import into an empty one")
    with _opened(whole) as (_, query):
        _upgrade(query)
        try:
            theirs = data_keys.unlock(query, key)
        except KeyUnavailable as error:
            raise StoreSealed(str(error)) from error
        try:
            imported = _copied(query, theirs, vault, own, at)
        finally:
            theirs.wipe()
    kind = recovery.slot_kind(key.public)
    wrap = table.recovery_wrapper(key.public, vault.random)
    table.put_slot(vault.query, own, kind, key.public, wrap)
    vault.unbind()
    vault.after(vault.slots_changed)
    return imported


def _copied(
    query: Execute,
    theirs: DataKeys,
    vault: SealedDatabase,
    own: DataKeys,
    at: Callable[[int, int], object],
) -> ImportResult:
    secrets, damaged, enclosures = 0, 0, {}
    found = query(f"SELECT {COLUMNS} FROM secret ORDER BY id")  # noqa: S608  # ours
    for number, values in enumerate(found):
        at(number, len(found))
        row = SecretRow(*values)
        try:
            plain = rows.decrypted(theirs, row)
        except DecryptionError:
            damaged += 1
            continue
        if row.service == ENCLOSED:
            enclosures[row.username] = plain
        else:
            rows.write(vault.query, own, (row.service, row.username), plain, vault.random)
            secrets += 1
    return ImportResult(secrets, damaged, enclosures)


@contextmanager
def _opened(whole: bytes) -> Iterator[tuple[sqlite3.Connection, Execute]]:
    """Open a file in memory, within a transaction."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:

        def query(sql: str, /, *values: object) -> list[Any]:
            try:
                return db.execute(sql, values).fetchall()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise ConfigError(f"{_NO_EXPORT} ({error})") from error

        if not 0 < len(whole) <= MAX_BYTES:
            raise ConfigError(_NO_EXPORT)
        db.deserialize(whole)
        query("PRAGMA trusted_schema = OFF")
        if query("PRAGMA integrity_check(1)") != [("ok",)]:
            raise ConfigError(_NO_EXPORT)
        query("BEGIN")
        yield db, query


def _upgrade(query: Execute) -> None:
    """Upgrade the schema of an export to ours."""
    found = int(query("PRAGMA user_version")[0][0])
    if found > VERSION:
        raise ConfigError(
            f"the export was made by a newer gatewayd (schema {found}, this one knows {VERSION}): "
            "install that version here"
        )
    known = SCHEMA if found == VERSION else statements_of(STEPS, found)
    if found < 1 or not has_schema(query, known):  # before a step reads a view in place of a table
        raise ConfigError(_NO_EXPORT)
    for number in range(found, VERSION):
        for statement in STEPS[number]:
            query(statement)
