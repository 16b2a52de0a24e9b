"""The vault, read while the daemon writes it: by its reader, and as a keyring."""

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
from gatewayd.errors import SecretCorrupt, StoreSealed, StoreUnavailable
from gatewayd.secretstore.store import entry_name
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.keyring_backend import VaultKeyring, VaultReader
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, group, keep
from tests.support.vaults import DEVELOPMENT

NAMES = entry_name(REF)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(DEVELOPMENT, tmp_path)) as vault:
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
    assert ring.get_password("gatewayd/cloud", "no-such-slot") is None
    assert ring.get_credential(*NAMES).password == "not yet"


def test_it_writes_nothing(vault: Vault, ring: VaultKeyring) -> None:
    with pytest.raises(PasswordSetError):
        ring.set_password(*NAMES, "x")
    with pytest.raises(PasswordDeleteError):
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


def test_it_is_never_chosen_by_accident() -> None:
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


def test_it_reads_what_is_durable_while_the_vault_serves(vault: Vault, tmp_path: Path) -> None:
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader:
        assert reader.get(*NAMES) == b"issued"
        keep(vault, REF, b"y")
        assert reader.get(*NAMES) == b"y"
        assert reader.get("gatewayd/cloud", "no-such-slot") is None
    reader.close()


def test_it_reads_in_the_middle_of_a_rotation(vault: Vault, tmp_path: Path) -> None:
    with group(vault):
        admin.rotate(vault)
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader:
        assert reader.get(*NAMES) == b"issued"


def test_it_reads_what_was_encrypted_again_meanwhile(vault: Vault, tmp_path: Path) -> None:
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader:
        for _ in range(2):
            with group(vault):
                admin.rotate(vault)
            offline.finish_rotation(vault)
            assert reader.get(*NAMES) == b"issued"


def test_any_slot_that_can_be_read_opens_it(vault: Vault, tmp_path: Path) -> None:
    with closing(VaultReader(VaultSettings(), tmp_path)) as reader:
        assert reader.get(*NAMES) == b"issued"
    (tmp_path / "development.key").unlink()
    with pytest.raises(StoreSealed, match=r"development\.key"):
        VaultReader(DEVELOPMENT, tmp_path)


def test_it_changes_and_makes_nothing(vault: Vault, tmp_path: Path) -> None:
    vault.query("UPDATE secret SET ct = x'00'")
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader, pytest.raises(SecretCorrupt):
        reader.get(*NAMES)
    assert vault.query("SELECT count(*) FROM quarantine") == [(0,)]
    with pytest.raises(StoreUnavailable):
        VaultReader(DEVELOPMENT, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_the_file_of_another_version_is_not_read(vault: Vault, tmp_path: Path) -> None:
    vault.query("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="another version"):
        VaultReader(DEVELOPMENT, tmp_path)
