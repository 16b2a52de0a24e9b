"""The data keys of a vault: one generation or more, each wrapped by every key slot."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from gatewayd.secretstore.keyslots.base import NoKey
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import DoesNotOpen, KeyPage, Wrapped

FIRST, LAST = 1, (1 << 32) - 1
DAMAGED = "vault.db is damaged where it keeps its key: restore it from a backup"

Random: TypeAlias = Callable[[int], bytes]
"""Returns so many unpredictable bytes."""


class Query(Protocol):
    """Executes one statement and returns its rows."""

    def __call__(self, sql: str, /, *values: object) -> list[Any]: ...


class Opener(Protocol):
    """Takes data keys out of one slot.  kind: the slot's name."""

    @property
    def kind(self) -> str: ...

    def unwrap(self, wrapped: Wrapped, store: bytes, kid: int) -> bytes:
        """Return a data key.  Raises DoesNotOpen."""

    def fits(self, wrapped: Wrapped) -> bool:
        """Tell whether this key is the slot's, whatever else is damaged."""


@dataclass(frozen=True, slots=True)
class SlotKey:
    """The secret of a slot.  Implements Opener.

    material: by which the slot finds it: who bends that, as to hide the counter, closes the slot.
    """

    kind: str
    secret: bytes = field(repr=False)
    material: bytes = b""

    def name(self, store: bytes, kid: int) -> bytes:
        """Return what a data key is bound to in this slot."""
        return crypto.slot_name(store, kid, self.kind, self.material)

    def unwrap(self, wrapped: Wrapped, store: bytes, kid: int) -> bytes:
        """Return a data key.  Raises DoesNotOpen."""
        return crypto.unwrap(self.secret, wrapped, self.name(store, kid))

    def fits(self, wrapped: Wrapped) -> bool:
        """Tell whether this key is the slot's."""
        return hmac.compare_digest(crypto.fingerprint(self.secret), wrapped.fingerprint)


class Keys:
    """The data keys in memory; the newest encrypts.  store: 16 bytes that name the vault."""

    def __init__(self, store: bytes, pages: Mapping[int, KeyPage]) -> None:
        self.store, self._pages = store, dict(pages)

    @property
    def newest(self) -> int:
        """The number of the generation that encrypts."""
        return max(self._pages)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all generations, the oldest first."""
        return tuple(sorted(self._pages))

    def key(self, kid: int) -> memoryview:
        """Return the key of a generation.  Raises DoesNotOpen if there is none."""
        if kid not in self._pages:
            raise DoesNotOpen
        return self._pages[kid].key

    def add(self, kid: int, page: KeyPage) -> None:
        """Take in a generation."""
        self._pages[kid] = page

    def keep(self, kids: Iterable[int]) -> None:
        """Wipe all generations but these."""
        for kid in self._pages.keys() - set(kids):
            self._pages.pop(kid).wipe()

    def wipe(self) -> None:
        """Wipe all.  Wiping twice is fine."""
        self.keep(())


def insert(query: Query, store: bytes, kid: int, random: Random) -> KeyPage:
    """Make a generation, which no slot holds yet."""
    page = KeyPage(random(crypto.KEY))
    check = crypto.commitment(page.key, store, kid)
    query(
        "INSERT INTO data_key (kid, store, commitment, first, made) "
        "SELECT ?, ?, ?, count, unixepoch() FROM writes",
        kid, store, check,
    )  # fmt: skip
    return page


def succeed(query: Query, keys: Keys, kid: int) -> None:
    """Let each generation vouch for a new one, as only who has the older keys can.

    A recovery key is public: whoever can write to the disk could wrap a key of his own for it.
    """
    (commitment,) = query("SELECT commitment FROM data_key WHERE kid = ?", kid)[0]
    for older in keys.numbers:
        heir = _heir(keys.key(older), commitment)
        query("UPDATE data_key SET heir = ? WHERE kid = ?", heir, older)


def numbers(query: Query) -> list[int]:
    """Return the numbers of the generations on the disk."""
    return [kid for (kid,) in query("SELECT kid FROM data_key ORDER BY kid")]


def age(query: Query) -> int:
    """Return how many secrets the newest generation has encrypted."""
    sql = "SELECT count - first FROM writes, data_key ORDER BY kid DESC LIMIT 1"
    return int(query(sql)[0][0])


def look_for(query: Query, kind: str) -> None:
    """Make sure that the vault has a slot, before its key is asked for.  Raises NoKey."""
    kids = numbers(query)
    if not kids:
        raise NoKey(DAMAGED)
    wrapped(query, kids[-1], kind)


def unlock(query: Query, opener: Opener) -> Keys:
    """Return the keys of a vault.  Raises NoKey: with a wrong key, or damage."""
    rows = query("SELECT kid, store, commitment, heir FROM data_key ORDER BY kid")
    if len(query("SELECT count FROM writes")) != 1:
        raise NoKey(DAMAGED)
    if not rows or not all(FIRST <= kid <= LAST and store == rows[0][1] for kid, store, *_ in rows):
        raise NoKey(DAMAGED)
    keys = Keys(rows[0][1], {})
    try:
        for kid, store, commitment, _ in rows:
            kept = wrapped(query, kid, opener.kind)
            keys.add(kid, KeyPage(_unlocked(kept, opener, store, kid, commitment)))
        _check_heirs(keys, {kid: heir for kid, _, _, heir in rows}, rows[-1][2])
    except BaseException:
        keys.wipe()
        raise
    return keys


def _check_heirs(keys: Keys, heirs: Mapping[int, bytes], newest: bytes) -> None:
    """Make sure that every older generation vouches for the newest.  newest: its commitment."""
    for kid in keys.numbers[:-1]:
        if not hmac.compare_digest(_heir(keys.key(kid), newest), heirs[kid]):
            raise NoKey(DAMAGED)


def _heir(key: memoryview, commitment: bytes) -> bytes:
    return crypto.stamp(key, b"heir", commitment)


def _unlocked(kept: Wrapped, opener: Opener, store: bytes, kid: int, commitment: bytes) -> bytes:
    """Return one generation."""
    try:
        key = opener.unwrap(kept, store, kid)
    except DoesNotOpen:
        if opener.fits(kept):
            raise NoKey(DAMAGED) from None
        raise NoKey(
            f"the key from the {kept.kind} is not that of this vault: put the right one back"
        ) from None
    if not hmac.compare_digest(crypto.commitment(key, store, kid), commitment):
        raise NoKey(DAMAGED)
    return key


def wrapped(query: Query, kid: int, kind: str) -> Wrapped:
    """Return a generation as a slot keeps it.  Raises NoKey, which names the slots there are."""
    rows = query("SELECT kind, fingerprint, nonce, ciphertext FROM key_slot WHERE kid = ?", kid)
    for row in rows:
        if row[0] == kind:
            return Wrapped(*row)
    if not rows:
        raise NoKey(DAMAGED)
    kinds = ", ".join(sorted(str(row[0]) for row in rows))
    raise NoKey(
        f"the vault has no key slot of the kind {kind} (it has: {kinds}): correct `key` under "
        "[secretstore.vault], or add the slot by gatewayctl vault reseal"
    )
