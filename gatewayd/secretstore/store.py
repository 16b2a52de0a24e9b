"""The port of a secret store.  Blocking by nature: it lives on the store thread."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Protocol

from gatewayd.device.secret import Secret, SecretRef


class Protection(StrEnum):
    """What stands between a thief of the disk and the secrets.  The truth, never a wish."""

    TPM2 = "tpm2"
    SYSTEMD_CREDS = "systemd-creds"
    KEYRING = "keyring"
    DEVELOPMENT = "development"  # the key lies in a file beside the vault: for development only
    NONE = "none"  # sealed: there is no key


class SecretStore(Protocol):
    """Keeps secrets in slots.  Its class declares `Settings`, a frozen dataclass.

    begin, commit and rollback bracket a group of calls; after commit has returned, all of them
    are durable.  Only the store thread calls, one call at a time.
    """

    Settings: ClassVar[type]
    protection: Protection

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreFull, StoreUnavailable."""

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so."""

    def refs(self) -> Iterable[SecretRef]:
        """Return all slots that hold something, in order."""

    def close(self) -> None:
        """Release the disk and wipe the key."""
