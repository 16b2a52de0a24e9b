"""The port of a secret store.  Blocking by nature: it lives on the store thread."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from gatewayd.device.secret import Secret, SecretRef

if TYPE_CHECKING:
    from gatewayd.device.identity import DeviceId


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
    are durable.  Within a group, `undo` takes back what was done since `mark`; a store that
    cannot do so leaves a slot to which nothing points, which is found at the next start.
    Only the store thread calls, one call at a time.

    protection, why: what protects the secrets now; where that is nothing, what to do about it.
    """

    Settings: ClassVar[type]
    protection: Protection
    why: str

    def begin(self) -> None: ...
    def mark(self) -> None: ...
    def undo(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreFull, StoreUnavailable."""

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot; one that is empty stays so."""

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return all slots, or all of one device, that hold something, in order."""

    def quarantine(self, ref: SecretRef) -> None:
        """Move a slot aside that nobody knows: it is as if empty, and can still be rescued."""

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch.

        To be called only while the clock can be trusted.
        """

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreFull."""

    def make_room(self) -> bool:
        """Give up what was kept in reserve for a full disk; False if there is nothing."""

    def close(self) -> None:
        """Release the disk and wipe the key.  Closing twice is fine."""
