"""The table of the key slots of a vault, as LUKS has them: any one of them opens it."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gatewayd.errors import StoreError
from gatewayd.runtime.sqlite import Execute
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.vault import crypto, data_keys
from gatewayd.secretstore.vault.crypto import WrappedKey
from gatewayd.secretstore.vault.data_keys import (
    DAMAGED,
    FIRST_GENERATION,
    DataKeys,
    Random,
    SlotKey,
)

MAX_SLOTS = 8
"""Slots of one vault."""

WrapFunction: TypeAlias = Callable[[memoryview, bytes, int], WrappedKey]
"""Wraps a data key for a slot: key, vault, number of the generation."""


def create(query: Execute, key: SlotKey, material: bytes, random: Random) -> DataKeys:
    """Make the first key of a new vault, and the slot that opens it."""
    store = random(crypto.UUID_SIZE)
    keys = DataKeys(
        store, {FIRST_GENERATION: data_keys.create(query, store, FIRST_GENERATION, random)}
    )
    put_slot(query, keys, key.kind, material, secret_wrapper(key, random))
    return keys


def secret_wrapper(slot: SlotKey, random: Random) -> WrapFunction:
    """Return the function that wraps with the secret of a slot."""

    def wrap(key: memoryview, store: bytes, kid: int) -> WrappedKey:
        nonce = random(crypto.NONCE_SIZE)
        return crypto.wrap(slot.secret, slot.kind, nonce, key, slot.context(store, kid))

    return wrap


def recovery_wrapper(public: bytes, random: Random) -> WrapFunction:
    """Return the function that wraps for a recovery key.  public: DER."""
    return partial(_wrap_for_recovery, public, random)


def read_slots(query: Execute) -> dict[str, bytes]:
    """Return what each slot needs to find its key again, by the kinds of the slots."""
    return dict(query("SELECT kind, material FROM slot ORDER BY kind"))


def is_recovery(kind: str) -> bool:
    """Return whether a slot is for recovery: it can be wrapped for, and not be opened here."""
    return kind.startswith(f"{recovery.KIND}-")


def put_slot(
    query: Execute, keys: DataKeys, kind: str, material: bytes, wrap: WrapFunction
) -> None:
    """Add a slot, or replace it: every generation is wrapped by it.

    Raises StoreError where there are too many.
    """
    present = read_slots(query)
    if kind not in present and len(present) >= MAX_SLOTS:
        raise StoreError(f"the vault has {MAX_SLOTS} key slots already: remove one first")
    query("REPLACE INTO slot VALUES (?, ?)", kind, material)
    for kid in keys.generations:
        put_key(query, wrap(keys.key(kid), keys.store, kid), kid)


def put_key(query: Execute, wrapped: WrappedKey, kid: int) -> None:
    """Keep one generation as a slot has wrapped it."""
    query(
        "REPLACE INTO key_slot VALUES (?, ?, ?, ?, ?)",
        kid, wrapped.kind, wrapped.fingerprint, wrapped.nonce, wrapped.ciphertext,
    )  # fmt: skip


def remove_slot(query: Execute, kind: str) -> None:
    """Remove a slot."""
    query("DELETE FROM key_slot WHERE kind = ?", kind)
    query("DELETE FROM slot WHERE kind = ?", kind)


def trusted_public_key(query: Execute, keys: DataKeys, kind: str, public: bytes) -> bytes:
    """Return the public key of a recovery slot, if a holder of the data key has put it there.

    Otherwise anyone who can write to the disk could get the next key.  Raises StoreError.
    """
    rows = query("SELECT fingerprint FROM key_slot WHERE kind = ? AND kid = ?", kind, keys.newest)
    expected = recovery.vouch(keys.key(keys.newest), public)
    if not rows or not hmac.compare_digest(rows[0][0], expected):
        raise StoreError(f"{DAMAGED}; the recovery key {kind} was not added by this vault")
    return public


def _wrap_for_recovery(
    public: bytes, random: Random, key: memoryview, store: bytes, kid: int
) -> WrappedKey:
    return recovery.wrap(public, key, store, kid, random)
