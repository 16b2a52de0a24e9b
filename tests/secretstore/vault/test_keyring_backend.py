"""The vault, read as a keyring while it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from keyring.backends import fail
from keyring.errors import (
    InitError,
    KeyringError,
    KeyringLocked,
    PasswordDeleteError,
    PasswordSetError,
)

from gatewayd.device.secret import Secret
from gatewayd.secretstore.store import names
from gatewayd.secretstore.vault.keyring_backend import VaultKeyring
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, keep

NAMES = names(REF)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(VaultSettings(key="development-file"), tmp_path)) as vault:
        keep(vault, REF, b"issued")
        yield vault


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultKeyring:
    monkeypatch.setenv("KEYRING_PROPERTY_DIRECTORY", str(tmp_path))
    return VaultKeyring()


def test_it_reads_what_is_durable_and_no_more(vault: Vault, ring: VaultKeyring) -> None:
    vault.begin()
    vault.put(REF, Secret(b"not yet"))
    assert ring.get_password(*NAMES) == "issued"
    vault.commit()
    assert ring.get_password(*NAMES) == "not yet"
    assert ring.get_password("gatewayd/cloud", "nobody") is None
    assert ring.get_credential(*NAMES).password == "not yet"


def test_it_writes_nothing(vault: Vault, ring: VaultKeyring) -> None:
    with pytest.raises(PasswordSetError, match="gatewayd alone"):
        ring.set_password(*NAMES, "x")
    with pytest.raises(PasswordDeleteError, match="gatewayd alone"):
        ring.delete_password(*NAMES)
    assert vault.get(REF) == Secret(b"issued")


def test_it_says_why_it_cannot_read(vault: Vault, ring: VaultKeyring, tmp_path: Path) -> None:
    keep(vault, REF, b"\xff")
    with pytest.raises(KeyringError, match="no text"):
        ring.get_password(*NAMES)
    (tmp_path / "development.key").unlink()
    with pytest.raises(KeyringLocked):
        ring.get_password(*NAMES)
    ring.directory = str(tmp_path / "elsewhere")
    with pytest.raises(InitError):
        ring.get_password(*NAMES)


def test_the_settings_of_the_vault_are_properties(tmp_path: Path) -> None:
    (tmp_path / "my.key").write_bytes(bytes(range(32)))
    settings = VaultSettings(credential="my.key")
    with closing(Vault(settings, tmp_path, tmp_path)) as vault:
        keep(vault, REF, b"issued")
        ring = VaultKeyring()
        ring.directory = ring.credentials = str(tmp_path)
        with pytest.raises(KeyringLocked):
            ring.get_password(*NAMES)
        ring.credential = "my.key"
        assert ring.get_password(*NAMES) == "issued"


def test_nobody_gets_it_by_accident() -> None:
    assert VaultKeyring.priority < fail.Keyring.priority


def test_the_tool_of_keyring_reads_it(vault: Vault, tmp_path: Path) -> None:
    named = f"{VaultKeyring.__module__}.{VaultKeyring.__qualname__}"
    done = subprocess.run(
        [sys.executable, "-m", "keyring", "-b", named, "get", *NAMES],
        env=os.environ | {"KEYRING_PROPERTY_DIRECTORY": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert done.stdout == "issued\n"
