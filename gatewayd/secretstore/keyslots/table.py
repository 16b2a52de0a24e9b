"""The key slots of a vault, as LUKS has them: any one of them opens it."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gatewayd.errors import StoreError
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.vault import crypto, data_keys
from gatewayd.secretstore.vault.crypto import Wrapped
from gatewayd.secretstore.vault.data_keys import DAMAGED, FIRST, Keys, Query, Random, SlotKey

LIMIT = 8
"""Slots of one vault."""

Wrap: TypeAlias = Callable[[memoryview, bytes, int], Wrapped]
"""Puts a data key into a slot: key, vault, number of the generation."""


def make(query: Query, key: SlotKey, material: bytes, random: Random) -> Keys:
    """Make the first key of a new vault, and the slot that opens it."""
    store = random(crypto.UUID)
    keys = Keys(store, {FIRST: data_keys.insert(query, store, FIRST, random)})
    put_slot(query, keys, key.kind, material, wrapper(key, random))
    return keys


def wrapper(slot: SlotKey, random: Random) -> Wrap:
    """Return what wraps by the secret of a slot."""

    def wrap(key: memoryview, store: bytes, kid: int) -> Wrapped:
        nonce = random(crypto.NONCE)
        return crypto.wrap(slot.secret, slot.kind, nonce, key, slot.name(store, kid))

    return wrap


def for_recovery(public: bytes, random: Random) -> Wrap:
    """Return what wraps for a recovery key.  public: DER."""
    return partial(_wrap_for_recovery, public, random)


def slots(query: Query) -> dict[str, bytes]:
    """Return what each slot needs to find its key again, by the names of the slots."""
    return dict(query("SELECT kind, material FROM slot ORDER BY kind"))


def is_recovery(kind: str) -> bool:
    """Tell whether a slot is for recovery: it can be wrapped for, and not be read here."""
    return kind.startswith(f"{recovery.KIND}-")


def put_slot(query: Query, keys: Keys, kind: str, material: bytes, wrap: Wrap) -> None:
    """Add a slot, or make it anew: every generation is wrapped by it.

    Raises StoreError where there are too many.
    """
    present = slots(query)
    if kind not in present and len(present) >= LIMIT:
        raise StoreError(f"the vault has {LIMIT} key slots already: remove one first")
    query("REPLACE INTO slot VALUES (?, ?)", kind, material)
    for kid in keys.numbers:
        put_key(query, wrap(keys.key(kid), keys.store, kid), kid)


def put_key(query: Query, wrapped: Wrapped, kid: int) -> None:
    """Keep one generation as a slot has wrapped it."""
    query(
        "REPLACE INTO key_slot VALUES (?, ?, ?, ?, ?)",
        kid, wrapped.kind, wrapped.fingerprint, wrapped.nonce, wrapped.ciphertext,
    )  # fmt: skip


def remove_slot(query: Query, kind: str) -> None:
    """Remove a slot."""
    query("DELETE FROM key_slot WHERE kind = ?", kind)
    query("DELETE FROM slot WHERE kind = ?", kind)


def vouched(query: Query, keys: Keys, kind: str, public: bytes) -> bytes:
    """Return the public key of a recovery slot, if who had the data key has put it there.

    Otherwise whoever can write to the disk would be given the next key.  Raises StoreError.
    """
    rows = query("SELECT fingerprint FROM key_slot WHERE kind = ? AND kid = ?", kind, keys.newest)
    expected = recovery.vouch(keys.key(keys.newest), public)
    if not rows or not hmac.compare_digest(rows[0][0], expected):
        raise StoreError(f"{DAMAGED}; the recovery key {kind} was not added by this vault")
    return public


def _wrap_for_recovery(
    public: bytes, random: Random, key: memoryview, store: bytes, kid: int
) -> Wrapped:
    return recovery.wrap(public, key, store, kid, random)
