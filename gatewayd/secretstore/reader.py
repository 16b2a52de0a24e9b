"""The vault, to be read beside the daemon that writes it: for who runs as the same user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatewayd.errors import SecretCorrupt, StoreSealed, StoreUnavailable
from gatewayd.secretstore import datakeys, rows, slottable
from gatewayd.secretstore.datakeys import Keys, SlotKey
from gatewayd.secretstore.envelope import DoesNotOpen
from gatewayd.secretstore.keyslots import NoKey
from gatewayd.secretstore.rows import COLUMNS, Row
from gatewayd.secretstore.schema import VERSION
from gatewayd.secretstore.slots import Slots, VaultSettings


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
        why = datakeys.DAMAGED
        for kind, material in self._by_preference():
            try:
                key = SlotKey(kind, self._slots.of(kind).read(material), material)
                return datakeys.unlock(self._query, key)
            except (NoKey, StoreUnavailable) as error:
                why = str(error)
        raise StoreSealed(why)

    def _by_preference(self) -> Iterator[tuple[str, bytes]]:
        """Yield the slots that can be read here: that of the settings first."""
        first = self._slots.of(self._first).kind
        readable = [
            s for s in slottable.slots(self._query).items() if not slottable.is_recovery(s[0])
        ]
        yield from sorted(readable, key=lambda slot: slot[0] != first)

    def _query(self, sql: str, /, *values: object) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StoreUnavailable(f"vault.db cannot be read: {error}") from error
