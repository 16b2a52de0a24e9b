"""The vault: secrets in an SQLite file, each encrypted for its own slot.

A thief of the disk reads which children there are, and none of their secrets.  Rows that were
swapped, copied or altered do not open.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreError
from gatewayd.secretstore.keyslots.factory import KeySlotFactory, VaultSettings
from gatewayd.secretstore.keyslots.table import is_recovery
from gatewayd.secretstore.store import StoreContents
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.ballast import Ballast
from gatewayd.secretstore.vault.binding import MACHINE_ID, hardware_id, machine_digest
from gatewayd.secretstore.vault.data_keys import KeyOpener, Random
from gatewayd.secretstore.vault.export import export
from gatewayd.secretstore.vault.rollback import VaultChange
from gatewayd.secretstore.vault.rows import SecretTable
from gatewayd.secretstore.vault.sealed_database import TIMEOUT, SealedDatabase

__all__ = ["Vault", "VaultSettings"]

log = logging.getLogger(__name__)

_MICRO = 1_000_000


class Vault(SealedDatabase):
    """A secret store in `directory`/vault.db, whose keys an operator can change.

    Implements SupportsKeyManagement.

    credentials: $CREDENTIALS_DIRECTORY, or None.
    random: returns so many unpredictable bytes.
    opener: opens it instead of the slot that the settings name: a recovery key.
    machine: as `machine_digest` returns it, b"" for none; None for that of this machine.
    Without a key it is sealed: it lists and deletes slots, and neither reads nor writes any, and
    `tend` tries to get the key.  Where it may be an old copy, it is read only; where it belongs to
    another machine, it only lists.
    Raises ConfigError where a newer gatewayd wrote the file, StoreError where it is damaged.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = VaultSettings

    def __init__(
        self,
        settings: VaultSettings,
        directory: Path,
        credentials: Path | None = None,
        random: Random = os.urandom,
        opener: KeyOpener | None = None,
        machine: bytes | None = None,
    ) -> None:
        if machine is None:
            machine = machine_digest(MACHINE_ID, hardware=hardware_id(credentials))
        key_slots = KeySlotFactory(settings, directory, credentials)
        super().__init__(directory / "vault.db", key_slots, settings.key, random, opener, machine)
        self._secrets = SecretTable(self._run, random)
        self._ballast = Ballast(directory / "vault.ballast")
        try:
            self.begin()
            self.unseal(TIMEOUT)
            self.commit()
        except BaseException:
            self.close()
            raise

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreRolledBack, StoreFull, StoreUnavailable."""
        self._secrets.put(self.writable(), ref, secret)
        self.note(VaultChange.WRITTEN)

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed, StoreCloned."""
        self.check_machine()
        return self._secrets.get(self.keys(), ref)

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so.  Raises StoreRolledBack."""
        self.check_trusted()
        self._secrets.delete(ref)
        self.note(VaultChange.DELETED)

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, that hold something, in order."""
        return self._secrets.refs(device)

    def quarantine(self, ref: SecretRef) -> None:
        """Quarantine a slot without a record: as if empty, but it can still be rescued."""
        self.check_trusted()
        self._secrets.quarantine(ref)

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch.

        The days are counted from the first call that finds it there.
        """
        self.check_trusted()
        self._secrets.purge(now)

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreRolledBack, StoreFull."""
        self.writable()
        self.check_disk()
        try:
            self._ballast.fill()
            self.fault = ""
        except StoreError as error:
            self.fault = str(error)
            raise
        finally:
            self._assess()

    def make_room(self) -> bool:
        """Give up the room that is kept for a full disk; False if there is none."""
        return self._ballast.free()

    def contents(self) -> StoreContents:
        """Return what is in the vault, sealed or not."""
        found = admin.report(self)
        in_use = self.has_key
        return StoreContents(
            secrets=found.secrets,
            key=found.generation if in_use else 0,
            key_created=found.made * _MICRO if in_use else 0,
            recovery_slots=sum(map(is_recovery, found.slots)),
        )

    def rotate(self) -> None:
        """Begin to use a new data key; `tend` then encrypts every secret with it."""
        admin.rotate(self)

    def reseal(self, key: str) -> str:
        """Seal the data key again; return the kind of its key slot."""
        kind = key or self.key
        admin.reseal(self, kind)
        return self.key_slots.make(kind).kind

    def add_recovery(self, pem: bytes) -> str:
        """Add a recovery key; return the kind of its key slot."""
        return admin.add_recovery(self, pem)

    def export(self, enclosures: Mapping[str, bytes]) -> bytes:
        """Return all secrets and the enclosures, encrypted for the recovery keys alone."""
        return export(self, enclosures)

    def commit(self) -> None:
        """Make the group durable, and then quarantine the rows that were found damaged."""
        super().commit()
        if self._secrets.damaged and not self.suspected:
            self._quarantine_damaged()
        self._secrets.damaged.clear()

    def rollback(self) -> None:
        """Take back the group, if one is open."""
        super().rollback()
        self._secrets.damaged.clear()

    def _quarantine_damaged(self) -> None:
        """Quarantine damaged rows in a group of their own: where the disk refuses, they stay."""
        try:
            self.begin()
            self._secrets.quarantine_damaged()
            super().commit()
        except StoreError as error:
            super().rollback()
            log.warning("Secrets that do not open cannot be quarantined: %s.", error)
