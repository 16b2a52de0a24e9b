"""The rows of the vault: each secret encrypted for its own slot, and what was moved aside.

The change of the data key while serving: a few rows at a time, each readable at any moment.

The old generation stays until no row needs it, so that a crash leaves rows of both, and both keys.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound
from gatewayd.secretstore.store import names, parse, prefix
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import DoesNotOpen, Place
from gatewayd.secretstore.vault.data_keys import Keys, Query, Random

log = logging.getLogger(__name__)

QUARANTINE = 30 * 86_400 * 1_000_000
"""How long what was moved aside is kept, microseconds."""

COLUMNS = "id, service, username, gen, kid, nonce, ct"


class Row(NamedTuple):
    """One secret as it is kept."""

    id: int
    service: str
    username: str
    gen: int
    kid: int
    nonce: bytes
    ct: bytes


def write(query: Query, keys: Keys, names: tuple[str, str], secret: bytes, random: Random) -> None:
    """Encrypt a secret and put it into its slot.  names: service and user name."""
    row = encrypted(query, keys, names, secret, random)
    query(
        "INSERT INTO secret (service, username, gen, kid, nonce, ct) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (username, service) DO UPDATE SET "
        "gen = excluded.gen, kid = excluded.kid, nonce = excluded.nonce, ct = excluded.ct",
        *row[1:],
    )


def encrypted(
    query: Query, keys: Keys, names: tuple[str, str], secret: bytes, random: Random
) -> Row:
    """Return a secret as the newest generation encrypts it, with the number of this write."""
    gen = int(query("UPDATE writes SET count = count + 1 RETURNING count")[0][0])
    kid, nonce = keys.newest, random(crypto.NONCE)
    place = Place(keys.store, gen, kid, *names)
    return Row(0, *names, gen, kid, nonce, crypto.seal(keys.key(kid), nonce, secret, place))


def decrypted(keys: Keys, row: Row) -> bytes:
    """Return the secret of a row.  Raises DoesNotOpen."""
    place = Place(keys.store, row.gen, row.kid, row.service, row.username)
    try:
        return crypto.unseal(keys.key(row.kid), row.nonce, row.ct, place)
    except OverflowError:  # a number that was bent below zero
        raise DoesNotOpen from None


def move_aside(query: Query, row: int, why: str) -> None:
    """Put a row into quarantine."""
    query(
        "INSERT INTO quarantine (username, service, gen, kid, nonce, ct, why) "
        "SELECT username, service, gen, kid, nonce, ct, ? FROM secret WHERE id = ?",
        why,
        row,
    )
    query("DELETE FROM secret WHERE id = ?", row)


class Rows:
    """The slots of the vault.  random: returns so many unpredictable bytes.

    bent: rows that do not open, and what was in them.  `settle` moves them aside, in another
    group: the error on its way would undo it at once.
    """

    def __init__(self, query: Query, random: Random) -> None:
        self._query, self._random = query, random
        self.bent: dict[int, bytes] = {}

    def put(self, keys: Keys, ref: SecretRef, secret: Secret) -> None:
        """Write a slot."""
        write(self._query, keys, names(ref), secret.reveal(), self._random)

    def get(self, keys: Keys, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt."""
        service, username = names(ref)
        sql = f"SELECT {COLUMNS} FROM secret WHERE username = ? AND service = ?"  # noqa: S608  # ours
        rows = self._query(sql, username, service)
        if not rows:
            raise SecretNotFound(f"no secret is kept for attempt {ref.attempt} of {ref.device}")
        row = Row(*rows[0])
        try:
            return Secret(decrypted(keys, row))
        except DoesNotOpen:
            self._report_bent(ref, row)
            raise SecretCorrupt(
                f"the secret of attempt {ref.attempt} of {ref.device} does not open"
            ) from None

    def _report_bent(self, ref: SecretRef, row: Row) -> None:
        about = {"device": ref.device, "message_id": "secret-damaged"}
        log.error("A secret does not open; it is moved aside.", extra=about)
        self.bent[row.id] = row.ct

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot."""
        service, username = names(ref)
        self._query("DELETE FROM secret WHERE username = ? AND service = ?", username, service)

    def refs(self, device: DeviceId | None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, in order."""
        sql = "SELECT service, username FROM secret"
        if device is None:
            rows = self._query(sql)
        else:
            rows = self._query(f"{sql} WHERE username >= ? AND username < ?", *prefix(device))
        return sorted(ref for row in rows if (ref := parse(*row)) is not None)

    def quarantine(self, ref: SecretRef) -> None:
        """Move a slot aside that nobody knows."""
        service, username = names(ref)
        sql = "SELECT id FROM secret WHERE username = ? AND service = ?"
        for (row,) in self._query(sql, username, service):
            move_aside(self._query, row, "nobody knows it")

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days, from the first call that finds it."""
        self._query("UPDATE quarantine SET since = ? WHERE since IS NULL", now)
        self._query("DELETE FROM quarantine WHERE since <= ?", now - QUARANTINE)

    def settle(self) -> None:
        """Move aside what was found bent, and is still so."""
        for row, ct in self.bent.items():
            if self._query("SELECT 1 FROM secret WHERE id = ? AND ct = ?", row, ct):
                move_aside(self._query, row, "it does not open")


STEP = 200
"""Rows of one step: some milliseconds."""

_TABLES = ("secret", "quarantine")


class Rotation:
    """One pass over the rows of older generations.

    Where a step is taken back, its rows are left over, and `step` begins anew.
    """

    def __init__(self, query: Query, keys: Keys, random: Random) -> None:
        self._query, self._keys, self._random = query, keys, random
        self._table, self._last = 0, 0

    def step(self) -> bool:
        """Encrypt some rows anew; False when none is left that can be."""
        table = _TABLES[self._table]
        found = self._query(
            f"SELECT {COLUMNS} FROM {table} WHERE id > ? AND kid <> ? ORDER BY id LIMIT {STEP}",  # noqa: S608  # ours
            self._last,
            self._keys.newest,
        )
        for row in (Row(*values) for values in found):
            self._renew(table, row)
            self._last = row.id
        if len(found) == STEP:
            return True
        self._table, self._last = (self._table + 1) % len(_TABLES), 0
        return self._table > 0 or self._left()

    def _renew(self, table: str, row: Row) -> None:
        """Encrypt one row anew; one that does not open is moved aside, and stays as it is."""
        try:
            secret = decrypted(self._keys, row)
        except DoesNotOpen:
            if table == "secret":
                move_aside(self._query, row.id, "it does not open")
            return
        names = (row.service, row.username)
        new = encrypted(self._query, self._keys, names, secret, self._random)
        self._query(
            f"UPDATE {table} SET gen = ?, kid = ?, nonce = ?, ct = ? WHERE id = ?",  # noqa: S608  # ours
            *new[3:],
            row.id,
        )

    def _left(self) -> bool:
        sql = "SELECT 1 FROM secret WHERE kid <> ? LIMIT 1"
        return bool(self._query(sql, self._keys.newest))


def retire(query: Query, newest: int) -> None:
    """Remove the generations that no row needs."""
    unused = (
        "kid < ? AND kid NOT IN (SELECT kid FROM secret) "
        "AND kid NOT IN (SELECT kid FROM quarantine)"
    )
    query(f"DELETE FROM key_slot WHERE {unused}", newest)  # noqa: S608  # ours
    query(f"DELETE FROM data_key WHERE {unused}", newest)  # noqa: S608  # ours
