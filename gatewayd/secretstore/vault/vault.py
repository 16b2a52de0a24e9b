"""The vault: secrets in an SQLite file, each encrypted for its own slot.

A thief of the disk reads which children there are, and nothing they are known by.  Rows that
were swapped, copied or bent do not open.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreError
from gatewayd.secretstore.keyslots.factory import Slots, VaultSettings
from gatewayd.secretstore.vault.ballast import Reserve
from gatewayd.secretstore.vault.data_keys import Opener, Random
from gatewayd.secretstore.vault.rollback import Step
from gatewayd.secretstore.vault.rows import Rows
from gatewayd.secretstore.vault.sealed_database import PATIENCE, KeyedDatabase

__all__ = ["Vault", "VaultSettings"]

log = logging.getLogger(__name__)


class Vault(KeyedDatabase):
    """Implements SecretStore in `directory`/vault.db.

    credentials: $CREDENTIALS_DIRECTORY; None where there is none.
    random: returns so many unpredictable bytes.
    opener: opens it in the place of the slot that the settings name: a recovery key.
    Without a key it is sealed: it lists and deletes slots, and neither reads nor writes any, and
    `tend` tries to get the key.  Where it may be an old copy, it is read only.
    Raises ConfigError where a newer gatewayd wrote the file, StoreError where it is damaged.
    """

    Settings: ClassVar[type] = VaultSettings

    def __init__(
        self,
        settings: VaultSettings,
        directory: Path,
        credentials: Path | None = None,
        random: Random = os.urandom,
        opener: Opener | None = None,
    ) -> None:
        slots = Slots(settings, directory, credentials)
        super().__init__(directory / "vault.db", slots, settings.key, random, opener)
        self._rows, self._reserve = Rows(self._run, random), Reserve(directory / "vault.reserve")
        try:
            self.begin()
            self.unseal(PATIENCE)
            self.commit()
        except BaseException:
            self.close()
            raise

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreRolledBack, StoreFull, StoreUnavailable."""
        self._rows.put(self.writable(), ref, secret)
        self.note(Step.WRITTEN)

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""
        return self._rows.get(self.keys(), ref)

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so.  Raises StoreRolledBack."""
        self.check_trusted()
        self._rows.delete(ref)
        self.note(Step.FORGOTTEN)

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, that hold something, in order."""
        return self._rows.refs(device)

    def quarantine(self, ref: SecretRef) -> None:
        """Move a slot aside that nobody knows: it is as if empty, and can still be rescued."""
        self.check_trusted()
        self._rows.quarantine(ref)

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch.

        The days are counted from the first call that finds it there.
        """
        self.check_trusted()
        self._rows.purge(now)

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreRolledBack, StoreFull."""
        self.writable()
        try:
            self._reserve.fill()
            self.fault = ""
        except StoreError as error:
            self.fault = str(error)
            raise
        finally:
            self._judge()

    def make_room(self) -> bool:
        """Give up what was kept in reserve for a full disk; False if there is nothing."""
        return self._reserve.free()

    def commit(self) -> None:
        """Make the group durable, and then move aside what was found bent."""
        super().commit()
        if self._rows.bent and not self.suspected:
            self._move_aside()
        self._rows.bent.clear()

    def rollback(self) -> None:
        """Take back the group, if one is open."""
        super().rollback()
        self._rows.bent.clear()

    def _move_aside(self) -> None:
        """Move bent rows aside in a group of their own: where the disk refuses, they stay."""
        try:
            self.begin()
            self._rows.settle()
            super().commit()
        except StoreError as error:
            super().rollback()
            log.warning("A secret that does not open stays in its place: %s.", error)
