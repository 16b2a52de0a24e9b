"""The data keys of a vault: one generation or more, each wrapped by every key slot."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from gatewayd.runtime.clock import BUILT
from gatewayd.runtime.sqlite import Execute
from gatewayd.secretstore.keyslots.recovery import KIND as RECOVERY
from gatewayd.secretstore.keyslots.slots import KeyUnavailable
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import DecryptionError, WrappedKey
from gatewayd.secretstore.vault.memory import KeyPage

FIRST_GENERATION, LAST_GENERATION = 1, (1 << 32) - 1
DAMAGED = "vault.db is damaged where it keeps its key: restore it from a backup"

Random: TypeAlias = Callable[[int], bytes]
"""Returns so many unpredictable bytes."""


class KeyOpener(Protocol):
    """A key that unwraps the data keys of one slot.  kind: of the slot."""

    @property
    def kind(self) -> str: ...

    def unwrap(self, wrapped_key: WrappedKey, store: bytes, kid: int) -> bytes:
        """Return a data key.  Raises DecryptionError."""

    def matches(self, wrapped_key: WrappedKey) -> bool:
        """Return whether this key is the slot's, whatever else is damaged."""


@dataclass(frozen=True, slots=True)
class SlotKey:
    """The secret of a slot.  Implements KeyOpener.

    material: by which the slot finds it; a slot whose material was altered, as to hide the
    counter, does not open.
    """

    kind: str
    secret: bytes = field(repr=False)
    material: bytes = b""

    def context(self, store: bytes, kid: int) -> bytes:
        """Return the context of a data key that this slot wraps."""
        return crypto.slot_context(store, kid, self.kind, self.material)

    def unwrap(self, wrapped_key: WrappedKey, store: bytes, kid: int) -> bytes:
        """Return a data key.  Raises DecryptionError."""
        return crypto.unwrap(self.secret, wrapped_key, self.context(store, kid))

    def matches(self, wrapped_key: WrappedKey) -> bool:
        """Return whether this key is the slot's."""
        return hmac.compare_digest(crypto.fingerprint(self.secret), wrapped_key.fingerprint)


class DataKeys:
    """The data keys in memory; the newest encrypts.  store: 16 bytes that name the vault."""

    def __init__(self, store: bytes, pages: Mapping[int, KeyPage]) -> None:
        self.store, self._pages = store, dict(pages)

    @property
    def newest(self) -> int:
        """The number of the generation that encrypts."""
        return max(self._pages)

    @property
    def generations(self) -> tuple[int, ...]:
        """The numbers of all generations, the oldest first."""
        return tuple(sorted(self._pages))

    def key(self, kid: int) -> memoryview:
        """Return the key of a generation.  Raises DecryptionError if there is none."""
        if kid not in self._pages:
            raise DecryptionError
        return self._pages[kid].key

    def add(self, kid: int, page: KeyPage) -> None:
        """Add a generation."""
        self._pages[kid] = page

    def keep(self, kids: Iterable[int]) -> None:
        """Wipe all generations but these."""
        for kid in self._pages.keys() - set(kids):
            self._pages.pop(kid).wipe()

    def wipe(self) -> None:
        """Wipe all.  Wiping twice is fine."""
        self.keep(())


def create(query: Execute, store: bytes, kid: int, random: Random) -> KeyPage:
    """Make a generation, which no slot holds yet."""
    page = KeyPage(random(crypto.KEY_SIZE))
    check = crypto.commitment(page.key, store, kid)
    query(
        "INSERT INTO data_key (kid, store, commitment, first, made) "
        "SELECT ?, ?, ?, count, iif(unixepoch() >= ?, unixepoch(), 0) FROM writes",
        kid, store, check, BUILT // 1_000_000,
    )  # fmt: skip
    return page


def endorse_successor(query: Execute, keys: DataKeys, kid: int) -> None:
    """Let each generation vouch for a new one, as only a holder of the older keys can.

    A recovery key is public: anyone who can write to the disk could wrap another key for it.
    """
    (commitment,) = query("SELECT commitment FROM data_key WHERE kid = ?", kid)[0]
    for older in keys.generations:
        heir = _heir(keys.key(older), commitment)
        query("UPDATE data_key SET heir = ? WHERE kid = ?", heir, older)


def generations(query: Execute) -> list[int]:
    """Return the numbers of the generations on the disk."""
    return [kid for (kid,) in query("SELECT kid FROM data_key ORDER BY kid")]


def writes_under_newest(query: Execute) -> int:
    """Return how many secrets the newest generation has encrypted."""
    sql = "SELECT count - first FROM writes, data_key ORDER BY kid DESC LIMIT 1"
    return int(query(sql)[0][0])


def require_slot(query: Execute, kind: str) -> None:
    """Make sure that the vault has a slot, before it is unsealed.  Raises KeyUnavailable."""
    kids = generations(query)
    if not kids:
        raise KeyUnavailable(DAMAGED)
    wrapped_key(query, kids[-1], kind)


def unlock(query: Execute, opener: KeyOpener) -> DataKeys:
    """Return the keys of a vault.  Raises KeyUnavailable: the key is wrong, or the file damaged."""
    rows = query("SELECT kid, store, commitment, heir FROM data_key ORDER BY kid")
    if len(query("SELECT count FROM writes")) != 1:
        raise KeyUnavailable(DAMAGED)
    if not rows or not all(
        FIRST_GENERATION <= kid <= LAST_GENERATION and store == rows[0][1]
        for kid, store, *_ in rows
    ):
        raise KeyUnavailable(DAMAGED)
    keys = DataKeys(rows[0][1], {})
    try:
        for kid, store, commitment, _ in rows:
            kept = wrapped_key(query, kid, opener.kind)
            keys.add(kid, KeyPage(_unlocked(kept, opener, store, kid, commitment)))
        _check_heirs(keys, {kid: heir for kid, _, _, heir in rows}, rows[-1][2])
    except BaseException:
        keys.wipe()
        raise
    return keys


def _check_heirs(keys: DataKeys, heirs: Mapping[int, bytes], newest: bytes) -> None:
    """Make sure that every older generation vouches for the newest.  newest: its commitment."""
    for kid in keys.generations[:-1]:
        if not hmac.compare_digest(_heir(keys.key(kid), newest), heirs[kid]):
            raise KeyUnavailable(DAMAGED)


def _heir(key: memoryview, commitment: bytes) -> bytes:
    return crypto.mac(key, b"heir", commitment)


def _unlocked(
    kept: WrappedKey, opener: KeyOpener, store: bytes, kid: int, commitment: bytes
) -> bytes:
    """Return one generation."""
    try:
        key = opener.unwrap(kept, store, kid)
    except DecryptionError:
        if opener.matches(kept):
            raise KeyUnavailable(DAMAGED) from None
        raise KeyUnavailable(
            f"key slot '{kept.kind}' gave the key of another vault: put the right key back"
        ) from None
    if not hmac.compare_digest(crypto.commitment(key, store, kid), commitment):
        raise KeyUnavailable(DAMAGED)
    return key


def wrapped_key(query: Execute, kid: int, kind: str) -> WrappedKey:
    """Return a generation as a slot keeps it.

    Raises KeyUnavailable, which names the slots there are.
    """
    rows = query("SELECT kind, fingerprint, nonce, ciphertext FROM key_slot WHERE kid = ?", kid)
    for row in rows:
        if row[0] == kind:
            return WrappedKey(*row)
    if not rows:
        raise KeyUnavailable(DAMAGED)
    kinds = ", ".join(sorted(str(row[0]) for row in rows))
    if kind.startswith(f"{RECOVERY}-"):
        raise KeyUnavailable(
            f"that is no recovery key of this vault (it has the key slots {kinds}): use one that "
            "was added to it"
        )
    raise KeyUnavailable(
        f"the vault has no key slot of the kind {kind} (it has: {kinds}): correct `key` under "
        f"[secretstore.vault], or add the slot by gatewayctl vault reseal {kind}"
    )
