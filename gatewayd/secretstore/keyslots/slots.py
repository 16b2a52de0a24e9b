"""Key slots, as LUKS has them: each one protects the data key of the vault in its own way.

Here are the protocol and the slots that need no TPM: a systemd credential, a key in a keyring of
the operating system, and, for development, a key in a plain file.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from gatewayd.errors import PluginError, StoreError
from gatewayd.runtime.private_files import write_private
from gatewayd.secretstore.store import Protection
from gatewayd.secretstore.vault.crypto import KEY_SIZE

if TYPE_CHECKING:
    # at run time only a gateway that uses a keyring loads that package
    from gatewayd.secretstore.keyring.client import KeyringClient

log = logging.getLogger(__name__)

T = TypeVar("T")

KEYRING_SERVICE = "gatewayd-vault"
"""The service of the master key; its user name is random, so that no two vaults share a key."""


SHIPPED_NAME = "vault.key"
"""The credential that gatewayd.service has without a drop-in."""
SOCKET = Path("/run/gatewayd-vault-key.socket")
"""From where systemd has that, and where it may be asked for again."""
ASKED_FOR = 40.0
"""Seconds that an answer there may take: systemd ends what opens the key after 30."""


class KeyUnavailable(Exception):
    """A key slot cannot be used.  Its text names the remedy, and holds no secret."""


@dataclass(frozen=True, slots=True)
class EnrolledKey:
    """A key of 32 bytes, and what the vault has to keep so that the slot finds it again."""

    secret: bytes = field(repr=False)
    material: bytes = b""


class KeySlot(Protocol):
    """A source of a key of 32 bytes.

    kind: its name in the vault.
    """

    kind: str

    def unseal(self, material: bytes) -> bytes:
        """Return the key that was enrolled with this material.  May hang.

        Raises KeyUnavailable.
        """

    def enroll(self, random: Callable[[int], bytes]) -> EnrolledKey:
        """Return a key to wrap with, made here if need be.  May hang.  Raises KeyUnavailable."""

    def discard(self, material: bytes) -> None:
        """Remove a key that is not used any more, as far as that can be done.  May hang."""


ENCRYPTED = ".encrypted"
"""The suffix of the name under which the unit passes the encrypted file, as it lies on the disk."""

_ENCRYPTED_BY: Mapping[str, Protection] = {
    "5a1c6a86df9d4096b1d5a65e0862f19a": Protection.KEY_ON_DISK,  # host
    "55b9ed1d38594d43a8319d2ebb332ac6": Protection.KEY_ON_DISK,  # host, for one user
    "058469daf6f54324800549da0f8ea2fb": Protection.KEY_ON_DISK,  # nothing
    "0c7cc07b117645919c4b0bea08bc20fe": Protection.TPM2,  # tpm2
    "faf7eb9341e3412ca1a436f95a29362f": Protection.TPM2,  # tpm2 with a public key
    "93a894094874449090caf2fc93cab553": Protection.TPM2,  # host and tpm2
    "ef4ac13679a9480ea7db68897f9f165d": Protection.TPM2,  # host and tpm2, for one user
    "af4950a849134eb1a73846304ff30c05": Protection.TPM2,  # host and tpm2 with a public key
    "adbc4ca3efb64201ba881b6f2e4095ea": Protection.TPM2,  # the same, for one user
}
"""What a thief lacks, by the id with which systemd-creds(1) begins a file (systemd 252 to 257,
src/shared/creds-util.h).  The key of the host is /var/lib/systemd/credential.secret."""
_ID_BYTES, _ID_TEXT = 16, 24


def encrypted_by(encrypted: bytes) -> Protection:
    """Return what a thief of the disk lacks to decrypt what systemd-creds has encrypted."""
    try:
        head = b64decode(encrypted[:_ID_TEXT], validate=True)[:_ID_BYTES]
    except ValueError:
        return Protection.CREDENTIAL
    return _ENCRYPTED_BY.get(head.hex(), Protection.CREDENTIAL)


class CredentialSlot:
    """A key that systemd passes to the service (systemd.exec(5), LoadCredentialEncrypted=).

    What is passed at the start is empty where the key could not be opened then.  The shipped one is
    asked for again: whatever kept a TPM from answering may have passed.

    directory: $CREDENTIALS_DIRECTORY, or None.  again: the socket where it may be asked for.
    """

    kind = "systemd-credential"

    def __init__(
        self, directory: Path | None, name: str = SHIPPED_NAME, again: Path = SOCKET
    ) -> None:
        self._directory, self._name, self._again = directory, name, again

    def unseal(self, material: bytes = b"") -> bytes:  # noqa: ARG002  # it has none
        """Return the key.  Blocks for ASKED_FOR at most.  Raises KeyUnavailable."""
        remedy = f"load the systemd credential {self._name}, as gatewayd(8) says"
        if self._directory is None:
            raise KeyUnavailable(f"systemd passed no credentials: {remedy}")
        try:
            key = (self._directory / self._name).read_bytes()
        except OSError as error:
            why = f"the systemd credential {self._name} cannot be read ({error.strerror})"
            raise KeyUnavailable(f"{why}: {remedy}") from None
        if not key and self._name == SHIPPED_NAME:
            key = _ask(self._again)
        if not key:  # gatewayd-vault-key@.service found none, or could not open it
            raise KeyUnavailable(
                f"the systemd credential {self._name} is empty: where there never was a key, "
                "restart gatewayd, which makes one; where it does not open here, stop gatewayd, "
                "and run gatewayctl vault recover"
            )
        return _checked(key, f"the systemd credential {self._name}")

    @property
    def protection(self) -> Protection:
        """What a thief of the disk lacks, if the unit passes the encrypted file, too."""
        if self._directory is None:
            return Protection.CREDENTIAL
        try:
            return encrypted_by((self._directory / f"{self._name}{ENCRYPTED}").read_bytes())
        except OSError:
            return Protection.CREDENTIAL

    def enroll(self, random: Callable[[int], bytes]) -> EnrolledKey:  # noqa: ARG002  # systemd's own
        """Return the key: only systemd makes it."""
        return EnrolledKey(self.unseal())

    def discard(self, material: bytes) -> None:
        """Do nothing: the administrator of the unit removes the credential from it."""


def _ask(path: Path) -> bytes:
    """Return the key that a socket passes; nothing where there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(ASKED_FOR)
            asked.connect(str(path))
            with asked.makefile("rb") as answer:
                return answer.read(KEY_SIZE + 1)
    except OSError:
        return b""


class DevelopmentSlot:
    """A key in a plain file, for development: anyone who has the disk has the secrets."""

    kind = "development-file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def unseal(self, material: bytes = b"") -> bytes:  # noqa: ARG002  # it has none
        """Return the key.  Raises KeyUnavailable, also if others than the owner can read it."""
        try:
            opened = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(opened, "rb") as file:
                mode = stat.S_IMODE(os.fstat(opened).st_mode)
                key = file.read(KEY_SIZE + 1)
        except OSError as error:
            why = f"{self._path} cannot be read ({error.strerror})"
            raise KeyUnavailable(f"{why}: put the key of this vault back") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyUnavailable(f"others can read {self._path}: make it private with chmod 600")
        return _checked(key, str(self._path))

    def enroll(self, random: Callable[[int], bytes]) -> EnrolledKey:
        """Return the key, made now if there is none.  Raises KeyUnavailable."""
        if not self._path.exists():
            self._make(random(KEY_SIZE))
        return EnrolledKey(self.unseal())

    def discard(self, material: bytes) -> None:  # noqa: ARG002  # it has none
        """Remove the file; one that cannot be removed stays."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed (%s): remove it by hand.", self._path, error.strerror)

    def _make(self, key: bytes) -> None:
        try:
            write_private(self._path, key)
        except OSError as error:
            raise KeyUnavailable(f"{self._path} cannot be made: {error.strerror}") from None


class KeyringSlot:
    """A master key in a keyring of the operating system, where the secrets are not.

    connect: returns the client of the keyring; raises PluginError where there is no such backend.
    """

    kind = "keyring"

    def __init__(self, connect: Callable[[], KeyringClient]) -> None:
        self._connect = connect

    def unseal(self, material: bytes) -> bytes:
        """Return the key.  Raises KeyUnavailable."""
        username = _username(material)
        value = self._call(lambda client: client.read(KEYRING_SERVICE, username))
        if value is None:
            raise KeyUnavailable(
                "the keyring has no key for this vault: put that keyring back, or open the vault "
                "with its recovery key and reseal it"
            )
        try:
            key = b64decode(value, validate=True)
        except ValueError:
            key = b""
        return _checked(key, "the entry of this vault in the keyring")

    def enroll(self, random: Callable[[int], bytes]) -> EnrolledKey:
        """Make a key and put it into the keyring.  Raises KeyUnavailable."""
        secret, username = random(KEY_SIZE), random(8).hex()
        text = b64encode(secret).decode()
        self._call(lambda client: client.write(KEYRING_SERVICE, username, text))
        return EnrolledKey(secret, json.dumps({"username": username}).encode())

    def discard(self, material: bytes) -> None:
        """Delete the entry; one that cannot be deleted stays."""
        try:
            username = _username(material)
            self._call(lambda client: client.remove(KEYRING_SERVICE, username))
        except KeyUnavailable as error:
            log.warning("An unused key cannot be removed from the keyring: %s.", error)

    def _call(self, act: Callable[[KeyringClient], T]) -> T:
        try:
            return act(self._connect())
        except (PluginError, StoreError) as error:
            raise KeyUnavailable(str(error)) from error


def _checked(key: bytes, where: str) -> bytes:
    if len(key) != KEY_SIZE:
        raise KeyUnavailable(
            f"{where} is no key of {KEY_SIZE} bytes: put the key of this vault back"
        )
    return key


def _username(material: bytes) -> str:
    try:
        return str(json.loads(material)["username"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeyUnavailable(
            "vault.db is damaged where it names the key in the keyring: restore it from a backup"
        ) from None
