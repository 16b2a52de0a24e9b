r"""The vault as a keyring backend, which processes of the service's user can read.

    keyring -b gatewayd.secretstore.vault.keyring_backend.VaultKeyring get gatewayd/alibaba \
        'child-1718892c382a/device-secret#1'

It may be read while gatewayd runs.  It is never written from here: a slot that the daemon has not
written would contradict its records.
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
from gatewayd.runtime.sqlite import has_schema
from gatewayd.secretstore.keyslots import table
from gatewayd.secretstore.keyslots.factory import KeySlotFactory, VaultSettings
from gatewayd.secretstore.keyslots.slots import KeyUnavailable
from gatewayd.secretstore.vault import data_keys, rows
from gatewayd.secretstore.vault.crypto import DecryptionError
from gatewayd.secretstore.vault.data_keys import DataKeys, SlotKey
from gatewayd.secretstore.vault.rows import COLUMNS, SecretRow
from gatewayd.secretstore.vault.schema import SCHEMA, VERSION


class VaultReader:
    """A reader of `directory`/vault.db, which changes nothing.

    credentials: $CREDENTIALS_DIRECTORY, or None.
    Raises StoreUnavailable where the file cannot be read, StoreSealed where no slot opens it.
    """

    def __init__(
        self, settings: VaultSettings, directory: Path, credentials: Path | None = None
    ) -> None:
        path = directory / "vault.db"
        self._key_slots, self._first = (
            KeySlotFactory(settings, directory, credentials),
            settings.key,
        )
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
        """Return a secret, or None.  Raises SecretCorrupt, StoreUnavailable."""
        sql = f"SELECT {COLUMNS} FROM secret WHERE username = ? AND service = ?"  # noqa: S608  # ours
        for values in self._query(sql, username, service):
            row = SecretRow(*values)
            if row.kid not in self._keys.generations:  # it was encrypted again meanwhile
                self._keys.wipe()
                self._keys = self._unlock()
            try:
                return rows.decrypted(self._keys, row)
            except DecryptionError:
                raise SecretCorrupt("that secret does not open") from None
        return None

    def close(self) -> None:
        """Close the file and wipe the keys.  Closing twice is fine."""
        self._keys.wipe()
        self._db.close()

    def _unlock(self) -> DataKeys:
        self._query("BEGIN")  # otherwise a generation could go between two statements
        try:
            return self._unlocked()
        finally:
            self._query("COMMIT")

    def _unlocked(self) -> DataKeys:
        if self._query("PRAGMA user_version") != [(VERSION,)]:
            raise StoreUnavailable("vault.db is of another version of gatewayd: use that version")
        if not has_schema(self._query, SCHEMA):  # a view in place of a table may never end
            raise StoreUnavailable("vault.db is damaged: its tables are not those of gatewayd")
        why = data_keys.DAMAGED
        for kind, material in self._by_preference():
            try:
                key = SlotKey(kind, self._key_slots.make(kind).unseal(material), material)
                return data_keys.unlock(self._query, key)
            except (KeyUnavailable, StoreUnavailable) as error:
                why = str(error)
        raise StoreSealed(why)

    def _by_preference(self) -> Iterator[tuple[str, bytes]]:
        """Yield the slots that can be opened here: that of the settings first."""
        first = self._key_slots.make(self._first).kind
        readable = [s for s in table.read_slots(self._query).items() if not table.is_recovery(s[0])]
        yield from sorted(readable, key=lambda slot: slot[0] != first)

    def _query(self, sql: str, /, *values: object) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StoreUnavailable(f"vault.db cannot be read: {error}") from error


READ_ONLY = "gatewayd alone writes its vault: use gatewayctl"
CREDENTIALS = Path("/run/credentials/gatewayd.service")
"""Where systemd keeps the credentials of the running service, for its user (systemd.exec(5))."""


class VaultKeyring(KeyringBackend):  # type: ignore[misc]  # keyring has no types
    """A keyring backend that reads `directory`/vault.db.

    As with every backend, KEYRING_PROPERTY_NAME in the environment sets a property: directory,
    credentials, and the settings of [secretstore.vault] that are a text, as key or tcti.
    """

    priority = -1
    """Below keyring.backends.fail, and of no use to the chainer: it is never chosen by accident."""

    directory = "/var/lib/gatewayd"
    credentials = ""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret, or None.

        Raises KeyringLocked where no key slot opens, InitError where there is no vault,
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
        credentials = self.credentials or os.environ.get("CREDENTIALS_DIRECTORY") or CREDENTIALS
        return VaultReader(settings, Path(self.directory), Path(credentials))


def _text(secret: bytes) -> str:
    try:
        return secret.decode()
    except UnicodeDecodeError:
        raise KeyringError("that secret is no text") from None
