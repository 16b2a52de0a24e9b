"""The port of a secret store: what the storage thread calls to keep the secrets of the children.

Every call may block, so only that thread calls it.  `entry_name` and its inverse say what a slot
is called in a store that knows services and user names, as keyrings do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef

IDLE = 60.0
"""Seconds after which a store that has nothing to do is tended again."""

NO_RECOVERY = (
    "only this gateway can open the vault: add a recovery key with gatewayctl vault add-recovery"
)
"""A mild fault of a store: it serves well, but would be lost with this machine."""

KEY_BESIDE = (
    "the key of the vault lies on the same disk, so that a thief of the disk lacks nothing: with a "
    "TPM, stop gatewayd, and run gatewayctl vault reseal credential --protect host+tpm2"
)
"""A mild fault of a store: it serves well, and protects its secrets from no thief."""

MILD = frozenset({NO_RECOVERY, KEY_BESIDE})
"""The faults that do not make the gateway degraded: it was set up so."""

QUARANTINE = 30 * 86_400 * 1_000_000
"""How long a secret stays in quarantine, microseconds."""


class Protection(StrEnum):
    """What a thief of the disk lacks to read the secrets, as it is and not as it is configured."""

    TPM2 = "tpm2"  # the TPM of this machine
    KEYRING = "keyring"  # what opens the keyring, as a passphrase
    CREDENTIAL = "credential"  # what systemd has opened the key with: not known here
    KEY_ON_DISK = "key-on-disk"  # nothing: the key lies on the same disk
    NONE = "none"  # sealed: there is no key here


class StoreState(StrEnum):
    """What a store can do now."""

    UNSEALED = "unsealed"
    DEGRADED = "degraded"  # it serves, and an operator should act
    ROLLBACK_SUSPECTED = "rollback-suspected"  # it is read only, until an operator decides
    SEALED = "sealed"  # there is no key: it lists and deletes
    CLONED = "cloned"  # another machine's, with a key or without: it lists, an operator decides


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """The condition of a store.  Replaced as a whole, so that any thread may read it.

    why: empty where the state is UNSEALED, else what is wrong and what to do about it.
    """

    state: StoreState
    protection: Protection
    why: str = ""


class ConditionProperties:
    """The half of a store that shows its condition."""

    _condition: StoreCondition

    @property
    def state(self) -> StoreState:
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
    """A store that keeps secrets in slots.

    Its class declares `Settings`, a frozen dataclass, and `port_version`, a version of PORTS in
    gatewayd/plugins.py.

    begin, commit and rollback bracket a group of calls; after commit has returned, all of them
    are durable.  Within a group, `undo` takes back what was done since `mark`, or raises
    UndoesOthers (runtime/sqlite.py): then the group is rolled back, and its works run one by one.
    A store that can do neither leaves a slot to which no record points, which is found at the next
    start.
    Only the storage thread calls, one call at a time.

    state, protection, why: as in `StoreCondition`.  Any thread may read them.
    """

    Settings: ClassVar[type]

    @property
    def state(self) -> StoreState: ...
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
        """Quarantine a slot without a record: as if empty, but it can still be rescued."""

    def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch.

        To be called only while the clock can be trusted.
        """

    def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreRolledBack, StoreFull."""

    def make_room(self) -> bool:
        """Give up the room that is kept for a full disk; False if there is none."""

    def tend(self, now: float) -> float:
        """Do one bounded step of what is due: try again to get the key, finish what was begun.

        now: seconds of a clock that only goes forward.  Returns the seconds after which it wants
        to be called again: 0 while more is waiting, IDLE where there is nothing to do.
        """

    def close(self) -> None:
        """Release the disk and wipe the key.  Closing twice is fine."""


@dataclass(frozen=True, slots=True)
class StoreContents:
    """What is in a store that has keys of its own.

    key: number of the data key in use; 0 where there is none.
    key_created: microseconds since the epoch; 0 where it is not known.
    recovery_slots: how many recovery keys open the store too.
    """

    secrets: int
    key: int
    key_created: int
    recovery_slots: int


@runtime_checkable
class SupportsKeyManagement(SecretStore, Protocol):
    """A secret store whose keys an operator can change: a vault.

    Unless another is named, all raise StoreSealed, StoreRolledBack, StoreUnavailable.
    """

    @property
    def rotating(self) -> bool:
        """Whether some secret is still encrypted with an earlier data key."""

    def contents(self) -> StoreContents:
        """Return what is in the store, sealed or not."""

    def rotate(self) -> None:
        """Begin to use a new data key; `tend` then encrypts every secret with it."""

    def reseal(self, key: str) -> str:
        """Seal the data key again; return the kind of its key slot.

        key: what to seal it with, as the setting `key`; "" for what is configured.
        """

    def add_recovery(self, pem: bytes) -> str:
        """Add a recovery key; return the kind of its key slot.  Raises ConfigError, too."""

    def export(self, enclosures: Mapping[str, bytes]) -> bytes:
        """Return all secrets and the enclosures, encrypted for the recovery keys alone."""

    def accept(self) -> None:
        """Trust a store that may be older than the newest that was written."""

    def accept_machine(self) -> None:
        """Let a store that belonged to another machine belong to this one."""


@dataclass(frozen=True, slots=True)
class BindingCounts:
    """What a store knows of itself and of the records, as it is on the disk.

    changes: of the store.  records: the newest count of changes of the records; 0: none are bound.
    """

    changes: int
    records: int


@runtime_checkable
class SupportsBinding(Protocol):
    """A secret store to which the records are bound: an old copy of either is noticed."""

    def binding(self) -> BindingCounts | None:
        """Return the counts; None while the store is sealed or not trusted."""

    def mac(self, text: bytes) -> bytes:
        """Authenticate a text, as only the holder of the key can.  Raises StoreSealed."""

    def note_records(self, count: int) -> None:
        """Know of this count of changes of the records, which is durable, from now on."""

    def suspect(self, why: str) -> None:
        """Trust the store no more until an operator accepts it.  why: with the remedy."""


@runtime_checkable
class SupportsReopening(Protocol):
    """A secret store on a disk that may take no writes for a while."""

    @property
    def read_only(self) -> bool:
        """Whether the disk takes no writes, so that what was there at the start is only read."""

    def reopen(self) -> None:
        """Use the disk again.  Raises StoreError where it still takes no writes."""


def is_mild(why: str) -> bool:
    """Whether what is wrong with a store is no more than how it was set up."""
    return MILD.issuperset(why.split("; "))


def is_read_only(store: SecretStore) -> bool:
    """Whether a store can only be read, as its disk takes no writes."""
    return isinstance(store, SupportsReopening) and store.read_only


_PREFIX = "gatewayd/"
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
"""As `entry_name` writes it: two names of one slot would be two slots."""


def entry_name(ref: SecretRef) -> tuple[str, str]:
    """Return service and user name: gatewayd/<provider>, <device>/<kind>#<attempt>."""
    return f"{_PREFIX}{ref.provider}", f"{ref.device}/{ref.kind}#{ref.attempt}"


def username_range(device: DeviceId) -> tuple[str, str]:
    """Return the first user name of a device, and the first that comes after all of them."""
    return f"{device}/", f"{device}0"  # "0" follows "/"


def parse_entry_name(service: str, username: str) -> SecretRef | None:
    """Return the slot of an entry; None where `entry_name` writes no such name."""
    path, _, attempt = username.rpartition("#")
    device, _, kind = path.rpartition("/")
    if not (service.startswith(_PREFIX) and device and kind and _NUMBER.fullmatch(attempt)):
        return None
    if not (service + username).isprintable():  # it is damaged, and could not be shown
        return None
    return SecretRef(service.removeprefix(_PREFIX), DeviceId(device), int(attempt), kind)
