"""The data key of a vault: made once, wrapped by a key slot, checked each time it is opened."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gatewayd.secretstore import envelope
from gatewayd.secretstore.envelope import DoesNotOpen, Wrapped
from gatewayd.secretstore.keypage import KeyPage
from gatewayd.secretstore.keyslots import KeySlot, NoKey

SCHEMA = (
    """CREATE TABLE data_key (
        kid INTEGER PRIMARY KEY,
        store BLOB NOT NULL,
        commitment BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE key_slot (
        kid INTEGER NOT NULL REFERENCES data_key,
        kind TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL,
        PRIMARY KEY (kid, kind)
    ) STRICT""",
)
FIRST = 1
DAMAGED = "vault.db is damaged where it keeps its key: restore it from a backup"


class Query(Protocol):
    """Executes one statement and returns its rows."""

    def __call__(self, sql: str, /, *values: object) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key that encrypts secrets, and the vault that it belongs to."""

    store: bytes
    kid: int
    page: KeyPage


def make(query: Query, slot: KeySlot, random: Callable[[int], bytes]) -> DataKey:
    """Make the key of a new vault and put it into a slot.  Raises NoKey."""
    secret, store, key = slot.provide(random), random(envelope.UUID), random(envelope.KEY)
    wrapped = envelope.wrap(secret, slot.kind, random(envelope.NONCE), key, store, FIRST)
    check = envelope.commitment(key, store, FIRST)
    query("INSERT INTO data_key VALUES (?, ?, ?)", FIRST, store, check)
    query(
        "INSERT INTO key_slot VALUES (?, ?, ?, ?, ?)",
        FIRST,
        wrapped.kind,
        wrapped.fingerprint,
        wrapped.nonce,
        wrapped.ciphertext,
    )
    return DataKey(store, FIRST, KeyPage(key))


def unlock(query: Query, slot: KeySlot) -> DataKey:
    """Return the key of an existing vault.  Raises NoKey: with no key, a wrong one, or damage."""
    rows = query("SELECT kid, store, commitment FROM data_key ORDER BY kid DESC LIMIT 1")
    if not rows:
        raise NoKey(DAMAGED)
    kid, store, commitment = rows[0]
    wrapped = _wrapped(query, kid, slot)
    secret = slot.read()
    try:
        key = envelope.unwrap(secret, wrapped, store, kid)
    except DoesNotOpen:
        raise NoKey(_why_not(secret, wrapped)) from None
    if not hmac.compare_digest(envelope.commitment(key, store, kid), commitment):
        raise NoKey(DAMAGED)
    return DataKey(store, kid, KeyPage(key))


def _wrapped(query: Query, kid: int, slot: KeySlot) -> Wrapped:
    rows = query("SELECT kind, fingerprint, nonce, ciphertext FROM key_slot WHERE kid = ?", kid)
    for row in rows:
        if row[0] == slot.kind:
            return Wrapped(*row)
    if not rows:
        raise NoKey(DAMAGED)
    kinds = ", ".join(sorted(str(row[0]) for row in rows))
    raise NoKey(
        f"the vault has no key slot of the kind {slot.kind} (it has: {kinds}): "
        "correct `key` under [secretstore]"
    )


def _why_not(secret: bytes, wrapped: Wrapped) -> str:
    if hmac.compare_digest(envelope.fingerprint(secret), wrapped.fingerprint):
        return DAMAGED
    return f"the key from the {wrapped.kind} is not that of this vault: put the right one back"
