"""Where the key of the vault comes from.  As LUKS has it: a slot wraps the data key."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gatewayd.runtime.sqlite import write_private
from gatewayd.secretstore.vault.crypto import KEY

log = logging.getLogger(__name__)


class NoKey(Exception):
    """A key slot cannot be used.  Its text is a sentence with the remedy, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A key of 32 bytes, and what the vault has to keep so that the slot finds it again."""

    secret: bytes = field(repr=False)
    material: bytes = b""


class KeySlot(Protocol):
    """One source of a key of 32 bytes.

    kind: its name in the vault.
    """

    kind: str

    def read(self, material: bytes) -> bytes:
        """Return the key that came with this material.  May hang.  Raises NoKey."""

    def provide(self, random: Callable[[int], bytes]) -> Offer:
        """Return a key to wrap with, made here if need be.  May hang.  Raises NoKey."""

    def discard(self, material: bytes) -> None:
        """Forget a key that is given up, as far as that can be done.  May hang."""


class CredentialSlot:
    """A key that systemd hands over (systemd.exec(5), LoadCredentialEncrypted=).

    directory: $CREDENTIALS_DIRECTORY; None where there is none.
    """

    kind = "systemd-credential"

    def __init__(self, directory: Path | None, name: str = "vault.key") -> None:
        self._directory, self._name = directory, name

    def read(self, material: bytes = b"") -> bytes:  # noqa: ARG002  # it has none
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

    def provide(self, random: Callable[[int], bytes]) -> Offer:  # noqa: ARG002  # systemd's own
        """Return the key: only systemd makes it."""
        return Offer(self.read())

    def discard(self, material: bytes) -> None:
        """Nothing: who configured the unit takes the credential out of it."""


class DevelopmentSlot:
    """A key in a plain file: whoever has the disk has the secrets.  For development."""

    kind = "development-file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, material: bytes = b"") -> bytes:  # noqa: ARG002  # it has none
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

    def provide(self, random: Callable[[int], bytes]) -> Offer:
        """Return the key, made now if there is none.  Raises NoKey."""
        if not self._path.exists():
            self._make(random(KEY))
        return Offer(self.read())

    def discard(self, material: bytes) -> None:  # noqa: ARG002  # it has none
        """Remove the file; what cannot be removed stays."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed (%s): do it by hand.", self._path, error.strerror)

    def _make(self, key: bytes) -> None:
        try:
            write_private(self._path, key)
        except OSError as error:
            raise NoKey(f"{self._path} cannot be made: {error.strerror}") from None


def _checked(key: bytes, where: str) -> bytes:
    if len(key) != KEY:
        raise NoKey(f"{where} is no key of {KEY} bytes: put the key of this vault back")
    return key
