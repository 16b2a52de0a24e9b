"""The commands of an operator on the keys of a vault, while gatewayd runs or not.

Each function works within a group of the vault: that of the storage thread, or that of a vault
without gatewayd (offline.py).  A key slot may take some seconds to give its key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gatewayd.errors import StoreUnavailable
from gatewayd.runtime.timeout_call import CallTimeout, call_with_timeout
from gatewayd.secretstore.keyslots import recovery, table
from gatewayd.secretstore.keyslots.slots import KeySlot, KeyUnavailable
from gatewayd.secretstore.keyslots.table import WrapFunction
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.keyslots.unseal import call_slot, unseal
from gatewayd.secretstore.store import Protection, StoreState
from gatewayd.secretstore.vault import data_keys
from gatewayd.secretstore.vault.crypto import DecryptionError
from gatewayd.secretstore.vault.data_keys import DataKeys, SlotKey
from gatewayd.secretstore.vault.rollback import store_count
from gatewayd.secretstore.vault.sealed_database import TIMEOUT, SealedDatabase

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VaultReport:
    """A description of a vault in numbers, without secrets or anything of a key.

    slots: their kinds; one for recovery is named after its key.  generation: the number of the
    data key; generations: how many of them some row still needs.  made: when the data key was
    made, seconds since the epoch; 0 where it is not known.
    """

    state: StoreState
    protection: Protection
    why: str
    slots: tuple[str, ...]
    generation: int
    generations: int
    made: int
    rotating: bool
    secrets: int
    quarantined: int
    writes: int
    counter: bool


def report(vault: SealedDatabase) -> VaultReport:
    """Describe a vault, sealed or not.  Raises StoreUnavailable."""

    def number(sql: str) -> int:
        return int(vault.query(sql)[0][0])

    return VaultReport(
        state=vault.state,
        protection=vault.protection,
        why=vault.why,
        slots=tuple(table.read_slots(vault.query)),
        generation=number("SELECT coalesce(max(kid), 0) FROM data_key"),
        generations=number("SELECT count(*) FROM data_key"),
        made=number("SELECT coalesce(max(made), 0) FROM data_key"),
        rotating=vault.rotating,
        secrets=number("SELECT count(*) FROM secret"),
        quarantined=number("SELECT count(*) FROM quarantine"),
        writes=number("SELECT count FROM writes"),
        counter=bool(number("SELECT count(*) FROM counter")),
    )


def rotate(vault: SealedDatabase, drop: Collection[str] = ()) -> None:
    """Begin a new generation of the data key; `tend` then encrypts every row with it.

    drop: kinds of slots to remove with the old key, as they cannot be opened here.
    Raises StoreSealed, StoreRolledBack; StoreUnavailable where a slot cannot be opened, or the
    last rotation is not complete.  Then nothing was changed.
    """
    keys, query = vault.changeable(), vault.query
    if vault.rotating:
        raise StoreUnavailable("the last rotation is not complete: wait for its end")
    wraps = _wrap_functions(vault, keys, drop)
    kid = keys.newest + 1
    page = data_keys.create(query, keys.store, kid, vault.random)
    data_keys.endorse_successor(query, keys, kid)
    for wrap in wraps:
        table.put_key(query, wrap(page.key, keys.store, kid), kid)
    for kind in drop:
        _remove(vault, kind)
    vault.after(lambda: vault.add_generation(kid, page))
    vault.after(vault.slots_changed)


def reseal(vault: SealedDatabase, key: str) -> None:
    """Add a key slot, or replace it, with a key of its own.

    key: as the setting `key` of [secretstore.vault] has it.
    Raises StoreSealed, StoreRolledBack; StoreUnavailable where the slot cannot be used.
    """
    keys, query, slot = vault.changeable(), vault.query, vault.key_slots.make(key)
    before = table.read_slots(query).get(slot.kind)
    found = _call_in_time(slot, lambda: unseal(slot, None, vault.random))
    wrap = table.secret_wrapper(found.key, vault.random)
    table.put_slot(query, keys, slot.kind, found.material, wrap)
    if found.count is not None:
        store_count(query, keys, found.count)
    if before is not None:
        vault.after(vault.scrub)
    if before and before != found.material:
        vault.after(partial(_discard, slot, before))
    vault.after(lambda: vault.slots_changed(found))


def rotated(vault: SealedDatabase) -> tuple[int, int]:
    """Return how many rows the newest data key encrypts, and how many rows there are."""
    newest = vault.keys().newest
    ((done, total),) = vault.query(
        "SELECT count(*) FILTER (WHERE kid = ?), count(*) FROM secret", newest
    )
    return int(done), int(total)


def add_recovery(vault: SealedDatabase, pem: bytes) -> str:
    """Add a slot for a private key that is kept elsewhere; return its kind.

    pem: the public key, X25519 or RSA of 3072 bits and more.
    Raises ConfigError where it is none, StoreSealed, StoreRolledBack.
    """
    keys, public = vault.changeable(), recovery.read_public(pem)
    kind = recovery.slot_kind(public)
    wrap = table.recovery_wrapper(public, vault.random)
    table.put_slot(vault.query, keys, kind, public, wrap)
    vault.after(vault.slots_changed)
    return kind


def remove_slot(vault: SealedDatabase, kind: str) -> None:
    """Remove a key slot.  kind: as `VaultReport.slots` has it.

    Raises StoreSealed, StoreRolledBack; StoreUnavailable where there is no such slot, or it is
    the last that this gateway can open.
    """
    vault.changeable()
    present = table.read_slots(vault.query)
    if kind not in present:
        raise StoreUnavailable(f"there is no key slot {kind!a}: gatewayctl vault status lists them")
    if all(table.is_recovery(other) or other == kind for other in present):
        raise StoreUnavailable(
            f"only key slot '{kind}' opens the vault here: add another slot first"
        )
    _remove(vault, kind)
    with suppress(StoreUnavailable):  # an unknown kind has left nothing to remove
        vault.after(partial(_discard, vault.key_slots.make(kind), present[kind]))
    vault.after(vault.slots_changed)


def _remove(vault: SealedDatabase, kind: str) -> None:
    table.remove_slot(vault.query, kind)
    if kind == TpmSlot.kind:
        vault.query("DELETE FROM counter")
    vault.after(vault.scrub)


def _wrap_functions(
    vault: SealedDatabase, keys: DataKeys, drop: Collection[str]
) -> list[WrapFunction]:
    """Return the functions that wrap the next key, one for each slot that stays."""
    present = table.read_slots(vault.query)
    staying = {kind: material for kind, material in present.items() if kind not in drop}
    if all(map(table.is_recovery, staying)):
        raise StoreUnavailable("no key slot would be left that opens the vault here: drop fewer")
    wraps = []
    for kind, material in staying.items():
        if table.is_recovery(kind):
            public = table.trusted_public_key(vault.query, keys, kind, material)
            wraps.append(table.recovery_wrapper(public, vault.random))
        else:
            wraps.append(table.secret_wrapper(_slot_key(vault, keys, kind, material), vault.random))
    return wraps


def _slot_key(vault: SealedDatabase, keys: DataKeys, kind: str, material: bytes) -> SlotKey:
    """Return the key of a slot, if it holds the data key in use.

    Anyone who can write to the disk can add a slot that holds another, and could get the next.
    """
    slot = vault.key_slots.make(kind)
    key = _call_in_time(slot, lambda: SlotKey(kind, slot.unseal(material), material))
    try:
        kept = data_keys.wrapped_key(vault.query, keys.newest, kind)
        held = key.unwrap(kept, keys.store, keys.newest)
    except (DecryptionError, KeyUnavailable):
        held = b""
    if not hmac.compare_digest(held, keys.key(keys.newest)):
        raise StoreUnavailable(f"key slot '{kind}' does not open: reseal it")
    return key


def _call_in_time(slot: KeySlot, call: Callable[[], T]) -> T:
    try:
        return call_with_timeout(lambda: call_slot(slot, call), TIMEOUT)
    except CallTimeout:
        raise StoreUnavailable(
            f"key slot '{slot.kind}' does not answer: check what keeps it busy"
        ) from None
    except KeyUnavailable as error:
        raise StoreUnavailable(f"key slot '{slot.kind}' cannot be used: {error}") from error


def _discard(slot: KeySlot, material: bytes) -> None:
    with suppress(CallTimeout, KeyUnavailable):
        call_with_timeout(lambda: call_slot(slot, lambda: slot.discard(material)), TIMEOUT)
