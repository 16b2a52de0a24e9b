"""A secret store in one JSON file, encrypted by a key in another file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cryptography.fernet import Fernet, InvalidToken

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreSealed, StoreUnavailable
from gatewayd.runtime.private_files import make_private, write_private
from gatewayd.secretstore.store import (
    IDLE,
    QUARANTINE,
    ConditionProperties,
    Protection,
    StoreCondition,
    StoreState,
    entry_name,
    parse_entry_name,
)
from gatewayd.settings.declare import setting

SEALED = StoreCondition(
    StoreState.SEALED, Protection.NONE, "the key file is missing: put it back beside the store"
)


@dataclass(frozen=True, slots=True)
class JsonStoreSettings:
    """[secretstore.jsonstore]"""

    key_file: str = setting("key", "name of the key file, beside the store")


class JsonStore(ConditionProperties):
    """A store whose file is read once, and written whole at each commit.

    directory: of the store.  Raises StoreUnavailable.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = JsonStoreSettings

    def __init__(
        self, settings: JsonStoreSettings, directory: Path, _credentials: Path | None = None
    ) -> None:
        self._path, self._key_path = directory / "secrets.json", directory / settings.key_file
        self._kept: dict[str, str] = {}
        self._fernet: Fernet | None = None
        self._condition = SEALED
        try:
            if not self._path.exists():
                make_private(self._path)
                write_private(self._key_path, Fernet.generate_key())
                write_private(self._path, b"{}")
            self._kept = json.loads(self._path.read_text())
            self._changed = dict(self._kept)
            self._load_key()
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"Failed to open {self._path}: {error}") from error

    def begin(self) -> None:
        """Begin a group."""
        self._changed = dict(self._kept)

    def mark(self) -> None:
        """Remember what `undo` goes back to."""
        self._mark = dict(self._changed)

    def undo(self) -> None:
        """Undo what was done since `mark`."""
        self._changed = self._mark

    def commit(self) -> None:
        """Make the group durable."""
        if self._changed != self._kept:
            try:
                write_private(self._path, json.dumps(self._changed).encode())
            except OSError as error:
                raise StoreUnavailable(f"Failed to write {self._path}: {error.strerror}") from error
        self._kept = dict(self._changed)

    def rollback(self) -> None:
        """Drop the group."""
        self._changed = dict(self._kept)

    def put(self, ref: SecretRef, secret: Secret) -> None:
        """Write a slot."""
        self._changed[_name(ref)] = self._key().encrypt(secret.reveal()).decode()

    def get(self, ref: SecretRef) -> Secret:
        """Read a slot."""
        fernet = self._key()
        if _name(ref) not in self._changed:
            raise SecretNotFound(f"no secret of {ref.device}")
        try:
            return Secret(fernet.decrypt(self._changed[_name(ref)]))
        except InvalidToken as error:
            raise SecretCorrupt(f"the secret of {ref.device} is damaged") from error

    def delete(self, ref: SecretRef) -> None:
        """Empty a slot."""
        self._changed.pop(_name(ref), None)

    def refs(self, device: DeviceId | None = None) -> Iterable[SecretRef]:
        """Return the slots that hold something, in order."""
        found = [
            ref
            for name in self._changed
            if (ref := parse_entry_name(*name.split("\t")[:2])) is not None
            if device in (None, ref.device) and name.count("\t") == 1
        ]
        return sorted(found, key=lambda ref: (ref.provider, ref.device, ref.attempt, ref.kind))

    def quarantine(self, ref: SecretRef) -> None:
        """Move a slot aside, under a name that `refs` leaves out."""
        if (value := self._changed.pop(_name(ref), None)) is not None:
            self._changed[f"{_name(ref)}\t{time.time():.0f}"] = value

    def purge(self, now: int) -> None:
        """Delete what was moved aside 30 days ago."""
        for name in [name for name in self._changed if name.count("\t") == 2]:
            if int(name.rpartition("\t")[2]) * 1_000_000 + QUARANTINE < now:
                del self._changed[name]

    def headroom(self) -> None:
        """Check that there is a key."""
        self._key()

    def make_room(self) -> bool:
        """Keep no room."""
        return False

    def tend(self, now: float) -> float:
        """Look for the key, if it is missing."""
        self._load_key()
        return IDLE

    def close(self) -> None:
        """Drop the key."""
        self._fernet, self._condition = None, SEALED

    def _load_key(self) -> None:
        if self._fernet is None and self._key_path.exists():
            self._fernet = Fernet(self._key_path.read_bytes())
            self._condition = StoreCondition(StoreState.UNSEALED, Protection.KEY_ON_DISK)

    def _key(self) -> Fernet:
        if self._fernet is None:
            raise StoreSealed(SEALED.why)
        return self._fernet


def _name(ref: SecretRef) -> str:
    return "\t".join(entry_name(ref))
