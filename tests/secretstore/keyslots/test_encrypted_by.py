"""What a thief of the disk lacks, by a file that systemd-creds has really encrypted."""

from __future__ import annotations

import base64
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.slots import ENCRYPTED, CredentialSlot, encrypted_by
from gatewayd.secretstore.store import KEY_BESIDE, NO_RECOVERY, Protection, is_mild
from gatewayd.secretstore.vault.vault import Vault
from tests.support.emulated_tpm import EmulatedTpm

KEY = bytes(range(32))


def encrypted(directory: Path, with_key: str, tcti: str = "") -> bytes:
    """Return a credential, encrypted with a key of the host that lies in a directory."""
    device = [f"--tpm2-device={tcti}"] if tcti else []
    done = subprocess.run(
        [
            "systemd-creds",
            f"--with-key={with_key}",
            *device,
            "--name=vault.key",
            "encrypt",
            "-",
            "-",
        ],
        input=KEY,
        capture_output=True,
        check=True,
        env=os.environ | {"SYSTEMD_CREDENTIAL_SECRET": str(directory / "host.secret")},
    )
    return done.stdout


@pytest.mark.parametrize("with_key", ["host", "tpm2-absent"])
def test_a_key_on_the_disk_is_known(tmp_path: Path, with_key: str) -> None:
    assert encrypted_by(encrypted(tmp_path, with_key)) is Protection.KEY_ON_DISK


def test_a_key_in_the_tpm_is_known(tmp_path: Path) -> None:
    with closing(EmulatedTpm(tmp_path / "tpm")) as chip:
        for with_key in ("tpm2", "host+tpm2"):
            chip.start()
            assert encrypted_by(encrypted(tmp_path, with_key, chip.tcti)) is Protection.TPM2
            chip.stop()  # without a resource manager, it would run out of sessions


@pytest.mark.parametrize("content", [b"", b"none", b"\xff" * 40, base64.b64encode(bytes(40))])
def test_what_is_no_such_file_is_not_known(tmp_path: Path, content: bytes) -> None:
    assert encrypted_by(content) is Protection.CREDENTIAL
    assert CredentialSlot(None).protection is Protection.CREDENTIAL
    assert CredentialSlot(tmp_path).protection is Protection.CREDENTIAL


def test_a_vault_says_that_its_key_lies_on_the_same_disk(tmp_path: Path) -> None:
    (tmp_path / "vault.key").write_bytes(KEY)
    (tmp_path / f"vault.key{ENCRYPTED}").write_bytes(encrypted(tmp_path, "host"))
    with closing(Vault(VaultSettings(), tmp_path / "state", tmp_path)) as vault:
        assert vault.protection is Protection.KEY_ON_DISK
        assert vault.why == f"{KEY_BESIDE}; {NO_RECOVERY}"
        assert is_mild(vault.why)
