"""The port of a secret store.  Blocking by nature: it lives on the store thread.

What a slot is called in a store that knows services and user names, as keyrings do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef

if TYPE_CHECKING:
    from gatewayd.device.identity import DeviceId

IDLE = 60.0
"""Seconds after which a store that has nothing to do is tended again."""


class Protection(StrEnum):
    """What stands between a thief of the disk and the secrets.  The truth, never a wish."""

    TPM2 = "tpm2"
    SYSTEMD_CREDS = "systemd-creds"
    KEYRING = "keyring"
    DEVELOPMENT = "development"  # the key lies in a file beside the vault: for development only
    NONE = "none"  # sealed: there is no key


class State(StrEnum):
    """What a store can do now."""

    UNSEALED = "unsealed"
    DEGRADED = "degraded"  # it serves, and somebody should look
    ROLLBACK_SUSPECTED = "rollback-suspected"  # it is read only, until an operator decides
    SEALED = "sealed"  # there is no key: it lists and deletes


@dataclass(frozen=True, slots=True)
class Condition:
    """How a store is.  Replaced as a whole, so that any thread may look at any moment.

    why: empty where the state is UNSEALED, else what is wrong and what to do about it.
    """

    state: State
    protection: Protection
    why: str = ""


class Conditioned:
    """The half of a store that shows its condition."""

    _condition: Condition

    @property
    def state(self) -> State:
        """What it can do now."""
        return self._condition.state

    @property
    def protection(self) -> Protection:
        """What protects the secrets now."""
        return self._condition.protection

    @property
    def why(self) -> str:
        """What is wrong, and what to do about it; empty where nothing is."""
        return self._condition.why


class SecretStore(Protocol):
    """Keeps secrets in slots.  Its class declares `Settings`, a frozen dataclass.

    begin, commit and rollback bracket a group of calls; after commit has returned, all of them
    are durable.  Within a group, `undo` takes back what was done since `mark`; a store that
    cannot do so leaves a slot to which nothing points, which is found at the next start.
    Only the store thread calls, one call at a time.

    state, protection, why: as in `Condition`.  Any thread may read them.
    """

    Settings: ClassVar[type]

    @property
    def state(self) -> State: ...
    @property
    def protection(self) -> Protection: ...
    @property
    def why(self) -> str: ...

    def begin(self) -> None: ...
    def mark(self) -> None: ...
    def undo(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot.  Raises StoreSealed, StoreRolledBack, StoreFull, StoreUnavailable."""

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
        """Make sure that a put will find room.  Raises StoreSealed, StoreRolledBack, StoreFull."""

    def make_room(self) -> bool:
        """Give up what was kept in reserve for a full disk; False if there is nothing."""

    def tend(self, now: float) -> float:
        """Do one bounded step of what is due: try again to get the key, finish what was begun.

        now: seconds of a clock that only goes forward.  Returns the seconds after which it wants
        to be called again: 0 while more is waiting, IDLE where there is nothing to do.
        """

    def close(self) -> None:
        """Release the disk and wipe the key.  Closing twice is fine."""


_PREFIX = "gatewayd/"
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
"""As `names` writes it: two names of one slot would be two slots."""


def names(ref: SecretRef) -> tuple[str, str]:
    """Return service and user name: gatewayd/<provider>, <device>/<kind>#<attempt>."""
    return f"{_PREFIX}{ref.provider}", f"{ref.device}/{ref.kind}#{ref.attempt}"


def prefix(device: DeviceId) -> tuple[str, str]:
    """Return the first user name of a device, and the first that comes after all of them."""
    return f"{device}/", f"{device}0"  # "0" follows "/"


def parse(service: str, username: str) -> SecretRef | None:
    """Read the names of a slot; None where they are nobody's."""
    path, _, attempt = username.rpartition("#")
    device, _, kind = path.rpartition("/")
    if not (service.startswith(_PREFIX) and device and kind and _NUMBER.fullmatch(attempt)):
        return None
    if not (service + username).isprintable():  # it was bent, and could not be shown
        return None
    return SecretRef(service.removeprefix(_PREFIX), DeviceId(device), int(attempt), kind)
