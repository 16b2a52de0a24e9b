"""The vault as a keyring backend, to be read by who runs as the service's user.

    keyring -b gatewayd.secretstore.keyring_backend.VaultKeyring get gatewayd/alibaba \\
        'child-1718892c382a/device-secret#1'

It may be read while gatewayd runs.  It is never written from here: who writes slots behind the
back of the daemon breaks what its records say of them.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import fields
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import (
    InitError,
    KeyringError,
    KeyringLocked,
    PasswordDeleteError,
    PasswordSetError,
)

from gatewayd.errors import SecretCorrupt, StoreSealed, StoreUnavailable
from gatewayd.secretstore.reader import VaultReader
from gatewayd.secretstore.slots import VaultSettings

READ_ONLY = "gatewayd alone writes its vault: use gatewayctl"
CREDENTIALS = Path("/run/credentials/gatewayd.service")
"""Where systemd keeps those of the running service, for its user (systemd.exec(5))."""


class VaultKeyring(KeyringBackend):  # type: ignore[misc]  # keyring has no types
    """Reads `directory`/vault.db.

    As with every backend, KEYRING_PROPERTY_NAME in the environment sets a property: directory,
    credentials, and the settings of [secretstore.vault] that are a text, as key or tcti.
    """

    priority = -1
    """Below keyring.backends.fail, and of no use to the chainer: nobody gets it by accident."""

    directory = "/var/lib/gatewayd"
    credentials = ""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret; None where there is none.

        Raises KeyringLocked where no key slot can be read, InitError where there is no vault,
        KeyringError where the secret is damaged or no text.
        """
        try:
            with closing(self._reader()) as vault:
                secret = vault.get(service, username)
        except StoreSealed as error:
            raise KeyringLocked(str(error)) from None
        except StoreUnavailable as error:
            raise InitError(str(error)) from None
        except SecretCorrupt as error:
            raise KeyringError(str(error)) from None
        return None if secret is None else _text(secret)

    def set_password(self, *_: str) -> None:
        """Refuse.  Raises PasswordSetError."""
        raise PasswordSetError(READ_ONLY)

    def delete_password(self, *_: str) -> None:
        """Refuse.  Raises PasswordDeleteError."""
        raise PasswordDeleteError(READ_ONLY)

    def _reader(self) -> VaultReader:
        known = {one.name for one in fields(VaultSettings) if one.type == "str"}
        settings = VaultSettings(**{k: v for k, v in vars(self).items() if k in known})
        handed = self.credentials or os.environ.get("CREDENTIALS_DIRECTORY") or CREDENTIALS
        return VaultReader(settings, Path(self.directory), Path(handed))


def _text(secret: bytes) -> str:
    try:
        return secret.decode()
    except UnicodeDecodeError:
        raise KeyringError("that secret is no text") from None
