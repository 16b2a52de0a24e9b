"""The laws of a secret store, for the vault with each kind of key slot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.secretstore.store import Protection, SecretStore
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import SecretStoreContract
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.keyrings import LOCKABLE

KEYRING = "the-ring"


@pytest.fixture(scope="module")
def tpm_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One TPM for all tests: to make one takes longer than to switch it on."""
    return tmp_path_factory.mktemp("tpm") / "state"


def in_a_keyring(directory: Path) -> VaultSettings:
    properties = {"file_path": str(directory / KEYRING)}
    return VaultSettings(key="keyring", keyring_backend=LOCKABLE, keyring_properties=properties)


def away(path: Path) -> None:
    path.rename(f"{path}.away")


def back(path: Path) -> None:
    path.with_name(f"{path.name}.away").rename(path)


class TestVaultWithCredential(SecretStoreContract):
    def open(self, directory: Path) -> SecretStore:
        credentials = directory / "credentials"
        if not credentials.exists():
            credentials.mkdir()
            (credentials / "vault.key").write_bytes(bytes(range(32)))
        store = Vault(VaultSettings(), directory, credentials)
        assert store.protection in (Protection.CREDENTIAL, Protection.NONE)
        return store

    def remove_key(self, directory: Path) -> None:
        away(directory / "credentials/vault.key")

    def restore_key(self, directory: Path) -> None:
        back(directory / "credentials/vault.key")


class TestVaultWithDevelopmentFile(SecretStoreContract):
    def open(self, directory: Path) -> SecretStore:
        store = Vault(VaultSettings(key="development-file"), directory)
        assert store.protection in (Protection.KEY_ON_DISK, Protection.NONE)
        return store

    def remove_key(self, directory: Path) -> None:
        away(directory / "development.key")

    def restore_key(self, directory: Path) -> None:
        back(directory / "development.key")


class TestVaultWithKeyring(SecretStoreContract):
    def open(self, directory: Path) -> SecretStore:
        store = Vault(in_a_keyring(directory), directory)
        assert store.protection in (Protection.KEYRING, Protection.NONE)
        return store

    def remove_key(self, directory: Path) -> None:
        (directory / f"{KEYRING}.locked").touch()

    def restore_key(self, directory: Path) -> None:
        (directory / f"{KEYRING}.locked").unlink()


class TestVaultWithTpm(SecretStoreContract):
    @pytest.fixture(autouse=True)
    def _switched_on(self, tpm_state: Path) -> Iterator[None]:
        with closing(EmulatedTpm(tpm_state)) as self.tpm:
            self.tpm.start()
            yield

    def open(self, directory: Path) -> SecretStore:
        store = Vault(VaultSettings(key="tpm2", tcti=self.tpm.tcti), directory)
        assert store.protection in (Protection.TPM2, Protection.NONE)
        return store

    def remove_key(self, directory: Path) -> None:
        self.tpm.stop()

    def restore_key(self, directory: Path) -> None:
        self.tpm.start()
