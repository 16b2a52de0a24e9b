"""The vault: secrets in an SQLite file, each encrypted for its own slot.

A thief of the disk reads which children there are, and nothing they are known by.  Rows that
were swapped, copied or bent do not open.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreSealed
from gatewayd.secretstore import datakey, envelope
from gatewayd.secretstore.database import Database
from gatewayd.secretstore.envelope import DoesNotOpen, Place
from gatewayd.secretstore.keyslots import CredentialSlot, DevelopmentSlot, KeySlot, NoKey
from gatewayd.secretstore.naming import names, parse, prefix
from gatewayd.secretstore.reserve import Reserve
from gatewayd.secretstore.store import Protection
from gatewayd.settings import setting

log = logging.getLogger(__name__)

VERSION = 1
SCHEMA = (
    *datakey.SCHEMA,
    """CREATE TABLE secret (
        id INTEGER PRIMARY KEY,
        username TEXT NOT NULL,
        service TEXT NOT NULL,
        gen INTEGER NOT NULL,
        kid INTEGER NOT NULL REFERENCES data_key,
        nonce BLOB NOT NULL,
        ct BLOB NOT NULL,
        UNIQUE (username, service)
    ) STRICT""",
    """CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY,
        username TEXT NOT NULL,
        service TEXT NOT NULL,
        gen INTEGER NOT NULL,
        kid INTEGER NOT NULL,
        nonce BLOB NOT NULL,
        ct BLOB NOT NULL,
        why TEXT NOT NULL,
        since INTEGER
    ) STRICT""",
    "CREATE TABLE writes (count INTEGER NOT NULL) STRICT",
    "INSERT INTO writes VALUES (0)",
)
QUARANTINE = 30 * 86_400 * 1_000_000
"""How long what was moved aside is kept, microseconds."""


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """[secretstore]"""

    key: str = setting(
        "credential",
        "where the key of the vault comes from; a development file protects nothing",
        choices=("credential", "development-file"),
    )
    credential: str = setting("vault.key", "name of the systemd credential that is the key")
    key_file: str = setting(
        "development.key", "file of the development key, within the state directory"
    )


class _Row(NamedTuple):
    id: int
    gen: int
    kid: int
    nonce: bytes
    ct: bytes


class Vault(Database):
    """Implements SecretStore in `directory`/vault.db.

    credentials: $CREDENTIALS_DIRECTORY; None where there is none.
    random: returns so many unpredictable bytes.
    Without a key it is sealed: it lists and deletes slots, and neither reads nor writes any.
    Raises ConfigError where a newer gatewayd wrote the file, StoreError where it is damaged.
    """

    Settings: ClassVar[type] = VaultSettings

    def __init__(
        self,
        settings: VaultSettings,
        directory: Path,
        credentials: Path | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(directory / "vault.db", SCHEMA, VERSION)
        self.protection, self.why = Protection.NONE, ""
        self._random, self._reserve = random, Reserve(directory / "vault.reserve")
        self._key: datakey.DataKey | None = None
        self._bent: list[tuple[int, bytes]] = []
        try:
            self._unseal(_slot(settings, directory, credentials))
        except BaseException:
            self.close()
            raise

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreFull, StoreUnavailable."""
        key, (service, username) = self._open_key(), names(ref)
        gen = int(self._run("UPDATE writes SET count = count + 1 RETURNING count")[0][0])
        place = Place(key.store, gen, key.kid, service, username)
        nonce = self._random(envelope.NONCE)
        ct = envelope.seal(key.page.key, nonce, secret.reveal(), place)
        self._run(
            "INSERT INTO secret (username, service, gen, kid, nonce, ct) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (username, service) DO UPDATE SET "
            "gen = excluded.gen, kid = excluded.kid, nonce = excluded.nonce, ct = excluded.ct",
            username, service, gen, key.kid, nonce, ct,
        )  # fmt: skip

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""
        key, (service, username) = self._open_key(), names(ref)
        rows = self._run(
            "SELECT id, gen, kid, nonce, ct FROM secret WHERE username = ? AND service = ?",
            username,
            service,
        )
        if not rows:
            raise SecretNotFound(f"no secret is kept for attempt {ref.attempt} of {ref.device}")
        row = _Row(*rows[0])
        try:
            place = Place(key.store, row.gen, row.kid, service, username)
            return Secret(envelope.unseal(key.page.key, row.nonce, row.ct, place))
        except (DoesNotOpen, OverflowError):  # OverflowError: a number that was bent below zero
            self._report_bent(ref, row)
            raise SecretCorrupt(
                f"the secret of attempt {ref.attempt} of {ref.device} does not open"
            ) from None

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so."""
        service, username = names(ref)
        self._run("DELETE FROM secret WHERE username = ? AND service = ?", username, service)

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, that hold something, in order."""
        sql = "SELECT service, username FROM secret"
        if device is None:
            rows = self._run(sql)
        else:
            rows = self._run(f"{sql} WHERE username >= ? AND username < ?", *prefix(device))
        return sorted(ref for row in rows if (ref := parse(*row)) is not None)

    def quarantine(self, ref: SecretRef) -> None:
        """Move a slot aside that nobody knows: it is as if empty, and can still be rescued."""
        service, username = names(ref)
        for (row,) in self._run(
            "SELECT id FROM secret WHERE username = ? AND service = ?", username, service
        ):
            self._move_aside(row, "nobody knows it")

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch.

        The days are counted from the first call that finds it there.
        """
        self._run("UPDATE quarantine SET since = ? WHERE since IS NULL", now)
        self._run("DELETE FROM quarantine WHERE since <= ?", now - QUARANTINE)

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreFull."""
        self._open_key()
        self._reserve.fill()

    def make_room(self) -> bool:
        """Give up what was kept in reserve for a full disk; False if there is nothing."""
        return self._reserve.free()

    def commit(self) -> None:
        """Make the group durable, with what was found bent moved aside."""
        for row, ct in self._bent:
            if self._run("SELECT 1 FROM secret WHERE id = ? AND ct = ?", row, ct):
                self._move_aside(row, "it does not open")
        super().commit()
        self._bent.clear()

    def close(self) -> None:
        """Close the file and wipe the key.  Closing twice is fine."""
        if self._key is not None:
            self._key.page.wipe()
        self._key, self.protection, self.why = None, Protection.NONE, "the vault is closed"
        super().close()

    def _unseal(self, slot: KeySlot) -> None:
        is_new = not self._run("SELECT 1 FROM data_key UNION ALL SELECT 1 FROM secret LIMIT 1")
        try:
            self._key = self._make_key(slot) if is_new else datakey.unlock(self._run, slot)
        except NoKey as error:
            self.why = str(error)
        else:
            self.protection = slot.protection
        if self._key is None:
            log.error("The vault is sealed: %s.", self.why, extra={"message_id": "store-sealed"})

    def _make_key(self, slot: KeySlot) -> datakey.DataKey:
        self.begin()
        try:
            key = datakey.make(self._run, slot, self._random)
            super().commit()
        except BaseException:
            self.rollback()
            raise
        return key

    def _open_key(self) -> datakey.DataKey:
        if self._key is None:
            raise StoreSealed(self.why)
        return self._key

    def _report_bent(self, ref: SecretRef, row: _Row) -> None:
        """Remember what to move aside; the error on its way would undo it now."""
        about = {"device": ref.device, "message_id": "secret-damaged"}
        log.error("A secret does not open; it is moved aside.", extra=about)
        self._bent.append((row.id, row.ct))

    def _move_aside(self, row: int, why: str) -> None:
        self._run(
            "INSERT INTO quarantine (username, service, gen, kid, nonce, ct, why) "
            "SELECT username, service, gen, kid, nonce, ct, ? FROM secret WHERE id = ?",
            why,
            row,
        )
        self._run("DELETE FROM secret WHERE id = ?", row)


def _slot(settings: VaultSettings, directory: Path, credentials: Path | None) -> KeySlot:
    if settings.key == "development-file":
        return DevelopmentSlot(directory / settings.key_file)
    return CredentialSlot(credentials, settings.credential)
