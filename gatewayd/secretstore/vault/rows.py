"""The rows of the vault: each secret encrypted for its own slot, and those in quarantine.

Changing the data key encrypts a few rows at a time, while the vault serves.  The old generation
stays until no row needs it, so that a crash leaves rows of both, and both keys.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound
from gatewayd.runtime.sqlite import Execute
from gatewayd.secretstore.store import QUARANTINE, entry_name, parse_entry_name, username_range
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import DecryptionError, RowAddress
from gatewayd.secretstore.vault.data_keys import DataKeys, Random

log = logging.getLogger(__name__)

ROWS_PER_STEP = 200
"""Rows encrypted in one step of a change of the key: some milliseconds."""

COLUMNS = "id, service, username, gen, kid, nonce, ct"

_NOT_READABLE = "it does not open"
_TABLES = ("secret", "quarantine")


class SecretRow(NamedTuple):
    """One secret as it is stored."""

    id: int
    service: str
    username: str
    gen: int
    kid: int
    nonce: bytes
    ct: bytes


def write(
    query: Execute, keys: DataKeys, name: tuple[str, str], secret: bytes, random: Random
) -> None:
    """Encrypt a secret and put it into its slot.  name: service and user name."""
    row = encrypted(query, keys, name, secret, random)
    query(
        "INSERT INTO secret (service, username, gen, kid, nonce, ct) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (username, service) DO UPDATE SET "
        "gen = excluded.gen, kid = excluded.kid, nonce = excluded.nonce, ct = excluded.ct",
        *row[1:],
    )


def encrypted(
    query: Execute, keys: DataKeys, name: tuple[str, str], secret: bytes, random: Random
) -> SecretRow:
    """Return a secret as the newest generation encrypts it, with the number of this write."""
    gen = int(query("UPDATE writes SET count = count + 1 RETURNING count")[0][0])
    kid, nonce = keys.newest, random(crypto.NONCE_SIZE)
    address = RowAddress(keys.store, gen, kid, *name)
    return SecretRow(0, *name, gen, kid, nonce, crypto.seal(keys.key(kid), nonce, secret, address))


def decrypted(keys: DataKeys, row: SecretRow) -> bytes:
    """Return the secret of a row.  Raises DecryptionError."""
    address = RowAddress(keys.store, row.gen, row.kid, row.service, row.username)
    try:
        return crypto.unseal(keys.key(row.kid), row.nonce, row.ct, address)
    except OverflowError:  # a number that was altered to one below zero
        raise DecryptionError from None


def quarantine(query: Execute, row: int, why: str) -> None:
    """Move a row into quarantine."""
    query(
        "INSERT INTO quarantine (username, service, gen, kid, nonce, ct, why) "
        "SELECT username, service, gen, kid, nonce, ct, ? FROM secret WHERE id = ?",
        why,
        row,
    )
    query("DELETE FROM secret WHERE id = ?", row)


class SecretTable:
    """The table of the secrets of a vault.  random: returns so many unpredictable bytes.

    damaged: rows that do not open, and what was in them.  `quarantine_damaged` moves them, in
    another group: the error that `get` raises would undo it at once.
    """

    def __init__(self, query: Execute, random: Random) -> None:
        self._query, self._random = query, random
        self.damaged: dict[int, bytes] = {}

    def put(self, keys: DataKeys, ref: SecretRef, secret: Secret) -> None:
        """Write a slot."""
        write(self._query, keys, entry_name(ref), secret.reveal(), self._random)

    def get(self, keys: DataKeys, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt."""
        service, username = entry_name(ref)
        sql = f"SELECT {COLUMNS} FROM secret WHERE username = ? AND service = ?"  # noqa: S608  # ours
        rows = self._query(sql, username, service)
        if not rows:
            raise SecretNotFound(f"no secret is stored for attempt {ref.attempt} of {ref.device}")
        row = SecretRow(*rows[0])
        try:
            return Secret(decrypted(keys, row))
        except DecryptionError:
            self._report_damaged(ref, row)
            raise SecretCorrupt(
                f"the secret of attempt {ref.attempt} of {ref.device} does not open"
            ) from None

    def _report_damaged(self, ref: SecretRef, row: SecretRow) -> None:
        about = {"device": ref.device, "message_id": "secret-damaged"}
        log.error("The secret of %s does not open; it is quarantined.", ref.device, extra=about)
        self.damaged[row.id] = row.ct

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot."""
        service, username = entry_name(ref)
        self._query("DELETE FROM secret WHERE username = ? AND service = ?", username, service)

    def refs(self, device: DeviceId | None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, in order."""
        sql = "SELECT service, username FROM secret"
        if device is None:
            rows = self._query(sql)
        else:
            between = username_range(device)
            rows = self._query(f"{sql} WHERE username >= ? AND username < ?", *between)
        return sorted(ref for row in rows if (ref := parse_entry_name(*row)) is not None)

    def quarantine(self, ref: SecretRef) -> None:
        """Quarantine a slot without a record."""
        service, username = entry_name(ref)
        sql = "SELECT id FROM secret WHERE username = ? AND service = ?"
        for (row,) in self._query(sql, username, service):
            quarantine(self._query, row, "no record points to it")

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days, from the first call that finds it."""
        self._query("UPDATE quarantine SET since = ? WHERE since IS NULL", now)
        self._query("DELETE FROM quarantine WHERE since <= ?", now - QUARANTINE)

    def quarantine_damaged(self) -> None:
        """Quarantine the rows that were found damaged, and still are."""
        for row, ct in self.damaged.items():
            if self._query("SELECT 1 FROM secret WHERE id = ? AND ct = ?", row, ct):
                quarantine(self._query, row, _NOT_READABLE)


class RotationPass:
    """One pass over the rows of older generations, which encrypts them with the newest.

    Where a step is taken back, its rows are left over, and `step` starts over.
    """

    def __init__(self, query: Execute, keys: DataKeys, random: Random) -> None:
        self._query, self._keys, self._random = query, keys, random
        self._table, self._last = 0, 0

    def step(self) -> bool:
        """Encrypt some rows again; False when none is left that can be."""
        table = _TABLES[self._table]
        found = self._query(
            f"SELECT {COLUMNS} FROM {table} WHERE id > ? AND kid <> ? ORDER BY id LIMIT ?",  # noqa: S608  # ours
            self._last, self._keys.newest, ROWS_PER_STEP,
        )  # fmt: skip
        for row in (SecretRow(*values) for values in found):
            self._reencrypt(table, row)
            self._last = row.id
        if len(found) == ROWS_PER_STEP:
            return True
        self._table, self._last = (self._table + 1) % len(_TABLES), 0
        return self._table > 0 or self._some_left()

    def _reencrypt(self, table: str, row: SecretRow) -> None:
        """Encrypt one row again; one that does not open is quarantined, and stays as it is."""
        try:
            secret = decrypted(self._keys, row)
        except DecryptionError:
            if table == "secret":
                quarantine(self._query, row.id, _NOT_READABLE)
            return
        name = (row.service, row.username)
        new = encrypted(self._query, self._keys, name, secret, self._random)
        self._query(
            f"UPDATE {table} SET gen = ?, kid = ?, nonce = ?, ct = ? WHERE id = ?",  # noqa: S608  # ours
            *new[3:],
            row.id,
        )

    def _some_left(self) -> bool:
        sql = "SELECT 1 FROM secret WHERE kid <> ? LIMIT 1"
        return bool(self._query(sql, self._keys.newest))


def remove_unused_generations(query: Execute, newest: int) -> None:
    """Remove the generations that no row needs."""
    unused = (
        "kid < ? AND kid NOT IN (SELECT kid FROM secret) "
        "AND kid NOT IN (SELECT kid FROM quarantine)"
    )
    query(f"DELETE FROM key_slot WHERE {unused}", newest)  # noqa: S608  # ours
    query(f"DELETE FROM data_key WHERE {unused}", newest)  # noqa: S608  # ours
