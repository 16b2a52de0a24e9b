"""Vaults to test with: the directory of one, and what its key slots need."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gatewayd.device.secret import Secret
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.store import StoreState
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, group
from tests.support.keyrings import LOCKABLE

DEVELOPMENT = VaultSettings(key="development-file")


class VaultDirectory:
    """The directory of a vault, with what each kind of key slot needs beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "state"
        self.credentials = directory / "credentials"
        self.ring = directory / "ring"
        self.credentials.mkdir()
        (self.credentials / "vault.key").write_bytes(os.urandom(32))
        properties = {"file_path": str(self.ring)}
        self.settings = VaultSettings(keyring_backend=LOCKABLE, keyring_properties=properties)

    def open(self, key: str = "credential", opener: RecoveryKey | None = None) -> Vault:
        settings = dataclasses.replace(self.settings, key=key)
        return Vault(settings, self.directory, self.credentials, opener=opener)

    def opens(self, key: str) -> bool:
        with closing(self.open(key)) as vault:
            return vault.state is not StoreState.SEALED and vault.get(REF) == Secret(b"x")

    def write(self, sql: str, *values: object) -> None:
        """Write to the file behind the back of the vault."""
        with closing(sqlite3.connect(self.directory / "vault.db")) as file:
            file.execute(sql, values)
            file.commit()


def do(vault: Vault, act: Callable[..., object], *arguments: object) -> None:
    """Do something with a vault, durably."""
    with group(vault):
        act(vault, *arguments)
