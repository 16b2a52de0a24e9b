"""A disk that refuses writes: reported, reads served meanwhile, and healed without a restart."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, StoreUnavailable
from gatewayd.secretstore.store import StoreState
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, group, keep

DEVELOPMENT = VaultSettings(key="development-file")
OTHER = SecretRef("cloud", DeviceId("child-2"), 1)
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" "$3" "$4" "$1"'

pytestmark = pytest.mark.integration


def refuse(yes: bool) -> None:
    """Let every write of this process fail (setrlimit(2), RLIMIT_FSIZE), or none."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (0 if yes else hard, hard))


def while_serving(directory: Path) -> None:
    with closing(Vault(DEVELOPMENT, directory)) as vault:
        vault.headroom()
        keep(vault, REF, b"x")
        refuse(True)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                keep(vault, OTHER, b"y")
            assert vault.state is StoreState.DEGRADED, vault.state
            assert "vault.db" in vault.why, vault.why
            assert vault.get(REF) == Secret(b"x")
        refuse(False)
        keep(vault, OTHER, b"y")
        assert (vault.state.value, vault.why) == ("unsealed", "")
        assert list(vault.refs()) == [REF, OTHER]


def one_is_bent(directory: Path) -> None:
    """A secret that should be moved aside is no reason to refuse the others."""
    with closing(Vault(DEVELOPMENT, directory)) as vault:
        keep(vault, REF, b"x")
        keep(vault, OTHER, b"y")
        vault.query("UPDATE secret SET ct = x'00' WHERE id = 1")
        refuse(True)
        for _ in range(2):
            with group(vault):
                with pytest.raises(SecretCorrupt):
                    vault.get(REF)
                assert vault.get(OTHER) == Secret(b"y")
        assert list(vault.refs()) == [REF, OTHER]
        refuse(False)
        with pytest.raises(SecretCorrupt):
            vault.get(REF)
        with group(vault):
            pass
        assert list(vault.refs()) == [OTHER]


def at_the_start(directory: Path) -> None:
    with closing(Vault(DEVELOPMENT, directory)) as vault:
        assert vault.read_only
        assert vault.state is StoreState.DEGRADED
        assert "vault.db is read-only" in vault.why, vault.why
        assert vault.get(REF) == Secret(b"x")
        with pytest.raises(StoreUnavailable):
            keep(vault, OTHER, b"y")
        with pytest.raises(StoreUnavailable):
            vault.headroom()
        with pytest.raises(StoreUnavailable):
            vault.reopen()
        assert list(vault.refs()) == [REF]


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


def test_a_disk_that_refuses_is_reported_and_the_vault_serves(tmp_path: Path) -> None:
    run(sys.executable, __file__, "while_serving", str(tmp_path))


def test_a_bent_secret_on_a_disk_that_refuses_harms_no_other(tmp_path: Path) -> None:
    run(sys.executable, __file__, "one_is_bent", str(tmp_path))


@pytest.mark.namespace
def test_a_disk_that_is_read_only_at_the_start_is_reported(tmp_path: Path) -> None:
    with closing(Vault(DEVELOPMENT, tmp_path)) as vault:
        keep(vault, REF, b"x")
    unshared = ("unshare", "-rm", "sh", "-c", READ_ONLY, "sh")
    run(*unshared, str(tmp_path), sys.executable, __file__, "at_the_start")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
