"""Where the key of the vault comes from.  As LUKS has it: a slot wraps the data key."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gatewayd.secretstore.database import sync_directory
from gatewayd.secretstore.envelope import KEY
from gatewayd.secretstore.store import Protection


class NoKey(Exception):
    """A key slot cannot be used.  Its text is a sentence with the remedy, and holds no secret."""


class KeySlot(Protocol):
    """One source of a key of 32 bytes.

    kind: its name in the vault.  protection: what it is worth.
    """

    kind: str
    protection: Protection

    def read(self) -> bytes:
        """Return the key of an existing vault.  Raises NoKey."""

    def provide(self, random: Callable[[int], bytes]) -> bytes:
        """Return the key for a new vault, made here if need be.  Raises NoKey."""


class CredentialSlot:
    """A key that systemd hands over (systemd.exec(5), LoadCredentialEncrypted=).

    directory: $CREDENTIALS_DIRECTORY; None where there is none.
    """

    kind = "systemd-credential"
    protection = Protection.SYSTEMD_CREDS

    def __init__(self, directory: Path | None, name: str = "vault.key") -> None:
        self._directory, self._name = directory, name

    def read(self) -> bytes:
        """Return the key.  Raises NoKey."""
        remedy = f"load the systemd credential {self._name}, as gatewayd(8) says"
        if self._directory is None:
            raise NoKey(f"systemd has handed over no credentials: {remedy}")
        try:
            key = (self._directory / self._name).read_bytes()
        except OSError as error:
            why = f"the systemd credential {self._name} cannot be read ({error.strerror})"
            raise NoKey(f"{why}: {remedy}") from None
        if not key:  # gatewayd-vault-key@.service found none, or could not open it
            raise NoKey(f"systemd has no key to hand over, or cannot open it: {remedy}")
        return _checked(key, f"the systemd credential {self._name}")

    def provide(self, random: Callable[[int], bytes]) -> bytes:  # noqa: ARG002  # systemd's own
        """Return the key: only systemd makes it."""
        return self.read()


class DevelopmentSlot:
    """A key in a plain file: whoever has the disk has the secrets.  For development."""

    kind = "development-file"
    protection = Protection.DEVELOPMENT

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes:
        """Return the key.  Raises NoKey, also if others than the owner can read it."""
        try:
            opened = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(opened, "rb") as file:  # noqa: PTH123  # of a descriptor
                mode = stat.S_IMODE(os.fstat(opened).st_mode)
                key = file.read(KEY + 1)
        except OSError as error:
            why = f"{self._path} cannot be read ({error.strerror})"
            raise NoKey(f"{why}: put the key of this vault back") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise NoKey(f"others can read {self._path}: make it private with chmod 600")
        return _checked(key, str(self._path))

    def provide(self, random: Callable[[int], bytes]) -> bytes:
        """Return the key, made now if there is none.  Raises NoKey."""
        if not self._path.exists():
            self._make(random(KEY))
        return self.read()

    def _make(self, key: bytes) -> None:
        """Write under another name first: a power cut leaves the whole key or none."""
        unfinished = self._path.with_name(self._path.name + ".new")
        try:
            unfinished.unlink(missing_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            with open(os.open(unfinished, flags, 0o600), "wb") as file:  # noqa: PTH123  # likewise
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise NoKey(f"{self._path} cannot be made: {error.strerror}") from None


def _checked(key: bytes, where: str) -> bytes:
    if len(key) != KEY:
        raise NoKey(f"{where} is no key of {KEY} bytes: put the key of this vault back")
    return key
