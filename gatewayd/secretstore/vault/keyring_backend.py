r"""The vault as a keyring backend, to be read by who runs as the service's user.

    keyring -b gatewayd.secretstore.vault.keyring_backend.VaultKeyring get gatewayd/alibaba \
        'child-1718892c382a/device-secret#1'

It may be read while gatewayd runs.  It is never written from here: who writes slots behind the
back of the daemon breaks what its records say of them.

The vault, to be read beside the daemon that writes it: for who runs as the same user.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from keyring.backend import KeyringBackend
from keyring.errors import (
    InitError,
    KeyringError,
    KeyringLocked,
    PasswordDeleteError,
    PasswordSetError,
)

from gatewayd.errors import SecretCorrupt, StoreSealed, StoreUnavailable
from gatewayd.secretstore.keyslots import table
from gatewayd.secretstore.keyslots.base import NoKey
from gatewayd.secretstore.keyslots.factory import Slots, VaultSettings
from gatewayd.secretstore.vault import data_keys, rows
from gatewayd.secretstore.vault.crypto import DoesNotOpen
from gatewayd.secretstore.vault.data_keys import Keys, SlotKey
from gatewayd.secretstore.vault.rows import COLUMNS, Row
from gatewayd.secretstore.vault.schema import VERSION


class VaultReader:
    """Reads `directory`/vault.db, and changes nothing.

    credentials: $CREDENTIALS_DIRECTORY; None where there is none.
    Raises StoreUnavailable where the file cannot be read, StoreSealed where no slot opens it.
    """

    def __init__(
        self, settings: VaultSettings, directory: Path, credentials: Path | None = None
    ) -> None:
        path = directory / "vault.db"
        self._slots, self._first = Slots(settings, directory, credentials), settings.key
        try:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path} cannot be read: {error}") from error
        try:
            self._keys = self._unlock()
        except BaseException:
            self._db.close()
            raise

    def get(self, service: str, username: str) -> bytes | None:
        """Return a secret; None where there is none.  Raises SecretCorrupt, StoreUnavailable."""
        sql = f"SELECT {COLUMNS} FROM secret WHERE username = ? AND service = ?"  # noqa: S608  # ours
        for values in self._query(sql, username, service):
            row = Row(*values)
            if row.kid not in self._keys.numbers:  # it was encrypted anew meanwhile
                self._keys.wipe()
                self._keys = self._unlock()
            try:
                return rows.decrypted(self._keys, row)
            except DoesNotOpen:
                raise SecretCorrupt("that secret does not open") from None
        return None

    def close(self) -> None:
        """Close the file and wipe the keys.  Closing twice is fine."""
        self._keys.wipe()
        self._db.close()

    def _unlock(self) -> Keys:
        self._query("BEGIN")  # or a generation could go between two looks
        try:
            return self._unlocked()
        finally:
            self._query("COMMIT")

    def _unlocked(self) -> Keys:
        if self._query("PRAGMA user_version") != [(VERSION,)]:
            raise StoreUnavailable("vault.db is of another version of gatewayd")
        why = data_keys.DAMAGED
        for kind, material in self._by_preference():
            try:
                key = SlotKey(kind, self._slots.of(kind).read(material), material)
                return data_keys.unlock(self._query, key)
            except (NoKey, StoreUnavailable) as error:
                why = str(error)
        raise StoreSealed(why)

    def _by_preference(self) -> Iterator[tuple[str, bytes]]:
        """Yield the slots that can be read here: that of the settings first."""
        first = self._slots.of(self._first).kind
        readable = [s for s in table.slots(self._query).items() if not table.is_recovery(s[0])]
        yield from sorted(readable, key=lambda slot: slot[0] != first)

    def _query(self, sql: str, /, *values: object) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StoreUnavailable(f"vault.db cannot be read: {error}") from error


READ_ONLY = "gatewayd alone writes its vault: use gatewayctl"
CREDENTIALS = Path("/run/credentials/gatewayd.service")
"""Where systemd keeps those of the running service, for its user (systemd.exec(5))."""


class VaultKeyring(KeyringBackend):  # type: ignore[misc]  # keyring has no types
    """Reads `directory`/vault.db.

    As with every backend, KEYRING_PROPERTY_NAME in the environment sets a property: directory,
    credentials, and the settings of [secretstore.vault] that are a text, as key or tcti.
    """

    priority = -1
    """Below keyring.backends.fail, and of no use to the chainer: nobody gets it by accident."""

    directory = "/var/lib/gatewayd"
    credentials = ""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret; None where there is none.

        Raises KeyringLocked where no key slot can be read, InitError where there is no vault,
        KeyringError where the secret is damaged or no text.
        """
        try:
            with closing(self._reader()) as vault:
                secret = vault.get(service, username)
        except StoreSealed as error:
            raise KeyringLocked(str(error)) from None
        except StoreUnavailable as error:
            raise InitError(str(error)) from None
        except SecretCorrupt as error:
            raise KeyringError(str(error)) from None
        return None if secret is None else _text(secret)

    def set_password(self, *_: str) -> None:
        """Refuse.  Raises PasswordSetError."""
        raise PasswordSetError(READ_ONLY)

    def delete_password(self, *_: str) -> None:
        """Refuse.  Raises PasswordDeleteError."""
        raise PasswordDeleteError(READ_ONLY)

    def _reader(self) -> VaultReader:
        known = {one.name for one in fields(VaultSettings) if one.type == "str"}
        settings = VaultSettings(**{k: v for k, v in vars(self).items() if k in known})
        handed = self.credentials or os.environ.get("CREDENTIALS_DIRECTORY") or CREDENTIALS
        return VaultReader(settings, Path(self.directory), Path(handed))


def _text(secret: bytes) -> str:
    try:
        return secret.decode()
    except UnicodeDecodeError:
        raise KeyringError("that secret is no text") from None
