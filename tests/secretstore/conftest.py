"""Vaults and TPMs that several tests of the secret store share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.secretstore.vault.vault import Vault
from gatewayd.testing.contracts.secretstore import REF, keep
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.vaults import VaultDirectory


@pytest.fixture
def vault_directory(tmp_path: Path) -> VaultDirectory:
    return VaultDirectory(tmp_path)


@pytest.fixture
def vault(vault_directory: VaultDirectory) -> Iterator[Vault]:
    """A vault opened by a systemd credential, with one secret."""
    with closing(vault_directory.open()) as vault:
        keep(vault, REF, b"x")
        yield vault


@pytest.fixture
def emulated_tpm(tmp_path: Path) -> Iterator[EmulatedTpm]:
    """A TPM that the test may stop, freeze or throw away."""
    with closing(EmulatedTpm(tmp_path / "tpm")) as tpm:
        tpm.start()
        yield tpm


@pytest.fixture(scope="module")
def running_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedTpm]:
    """A TPM that the tests of a module share, and leave running."""
    with closing(EmulatedTpm(tmp_path_factory.mktemp("tpm") / "state")) as tpm:
        tpm.start()
        yield tpm
