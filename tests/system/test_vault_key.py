"""Where the key of the vault comes from, and what happens where it does not come."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.runtime.journal import MESSAGE_IDS
from tests.system.conftest import CHILDREN
from tests.system.gateway import KEY, Gateway

pytestmark = pytest.mark.system

OPENER = "gatewayd-vault-key@.service"
PORT = 2321
TPM = f"swtpm:port={PORT}"
EMULATED = f"""\
[Service]
ExecStart=
ExecStart=-systemd-creds --tpm2-device={TPM} --name=vault.key decrypt {KEY} -
PrivateNetwork=no
RestrictAddressFamilies=AF_INET
"""


@contextlib.contextmanager
def _tpm(gateway: Gateway, state: Path) -> Iterator[None]:
    """Run an emulated TPM, on the gateway's own network, until the block ends."""
    state.mkdir(exist_ok=True)
    if not any(state.iterdir()):
        subprocess.run(
            ["swtpm_setup", "--tpm2", "--tpm-state", state], check=True, capture_output=True
        )
    where = [f"--server=type=tcp,port={PORT}", f"--ctrl=type=tcp,port={PORT + 1}"]
    how = ["--tpm2", f"--tpmstate=dir={state}", "--flags=not-need-init,startup-clear"]
    enter = ["ip", "netns", "exec", gateway.namespace]
    process = subprocess.Popen([*enter, "swtpm", "socket", *where, *how])
    try:
        gateway.box.until(
            lambda: f":{PORT} " in gateway.box.run("ss", "-Hlnt"), "the TPM to listen"
        )
        yield
    finally:
        process.terminate()
        process.wait()


def test_the_tpm_seals_the_key_and_without_it_nothing_is_lost(new: Gateway, tmp_path: Path) -> None:
    new.drop_in("emulated", EMULATED, OPENER)
    with _tpm(new, tmp_path / "tpm"):
        new.make_key("--with-key=tpm2", f"--tpm2-device={TPM}")
        new.configure()
        new.await_online(CHILDREN)
        new.box.reboot()
        new.await_online(CHILDREN)

    new.box.reboot()
    new.await_state("sealed")
    assert new.shown("ActiveState") == "active"
    assert "store sealed: the systemd credential vault.key" in new.shown("StatusText")
    explained = new.journal("--boot", "--catalog", f"MESSAGE_ID={MESSAGE_IDS['store-sealed']}")
    assert "Subject: The vault is sealed" in explained
    assert new.box.run("journalctl", "--boot", "--unit", "gatewayd-vault-key@*", "--grep", "TPM")
    assert new.counts().get("online", 0) == 0
    assert len(new.children()) == CHILDREN

    with _tpm(new, tmp_path / "tpm"):
        new.systemctl("restart")
        new.await_online(CHILDREN)
    assert set(new.plant.secrets_issued().values()) == {1}


def test_the_key_of_another_machine_does_not_open_the_vault(gateway: Gateway) -> None:
    gateway.box.path("/var/lib/systemd/credential.secret").unlink()
    gateway.systemctl("restart")
    gateway.await_state("sealed")
    gateway.make_key("--with-key=host")
    gateway.systemctl("restart")
    gateway.await_state("sealed")
    assert gateway.counts().get("online", 0) == 0
    assert len(gateway.children()) == CHILDREN
