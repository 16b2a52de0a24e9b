"""The vault, read beside the daemon that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.errors import SecretCorrupt, StoreSealed, StoreUnavailable
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.keyring_backend import VaultReader
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, group, keep

DEVELOPMENT = VaultSettings(key="development-file")
NAMES = ("gatewayd/cloud", "child-1/device-secret#1")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(DEVELOPMENT, tmp_path)) as vault:
        keep(vault, REF, b"x")
        yield vault


def test_it_reads_what_is_durable_while_the_vault_serves(vault: Vault, tmp_path: Path) -> None:
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader:
        assert reader.get(*NAMES) == b"x"
        keep(vault, REF, b"y")
        assert reader.get(*NAMES) == b"y"
        assert reader.get("gatewayd/cloud", "nobody") is None
    reader.close()


def test_it_reads_in_the_middle_of_a_rotation(vault: Vault, tmp_path: Path) -> None:
    with group(vault):
        admin.rotate(vault)
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader:
        assert reader.get(*NAMES) == b"x"


def test_it_reads_what_was_encrypted_anew_meanwhile(vault: Vault, tmp_path: Path) -> None:
    with closing(VaultReader(DEVELOPMENT, tmp_path)) as reader:
        for _ in range(2):
            with group(vault):
                admin.rotate(vault)
            offline.finish(vault)
            assert reader.get(*NAMES) == b"x"


def test_any_slot_that_can_be_read_opens_it(vault: Vault, tmp_path: Path) -> None:
    with closing(VaultReader(VaultSettings(), tmp_path)) as reader:
        assert reader.get(*NAMES) == b"x"
    (tmp_path / "development.key").unlink()
    with pytest.raises(StoreSealed, match="put the key of this vault back"):
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
