"""Where the key of the vault comes from, and what happens where it does not come."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.runtime.journal import MESSAGE_IDS
from tests.system.box import Box
from tests.system.conftest import CHILDREN, UNLIMITED, on_a_lan
from tests.system.gateway import KEY, Gateway, install
from tests.system.plant import Plant

pytestmark = pytest.mark.system

OPENER, KEYGEN = "gatewayd-vault-key@.service", "gatewayd-vault-keygen.service"
OF_THE_MACHINE = "/var/lib/systemd/credential.secret"
"""What systemd-creds encrypts with, where there is no TPM."""
PORT = 2321
TPM = f"swtpm:port={PORT}"
EMULATED = f"""\
[Service]
ExecStart=
ExecStart=-systemd-creds --tpm2-device={TPM} --name=vault.key decrypt {KEY} -
PrivateNetwork=no
RestrictAddressFamilies=AF_INET
"""


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    with on_a_lan(tmp_path, *UNLIMITED) as found:
        yield found


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
        new.begin_with_key("--with-key=tpm2", f"--tpm2-device={TPM}")
        new.configure()
        new.await_online(CHILDREN)
        new.box.reboot()
        new.await_online(CHILDREN)

    new.box.reboot()
    new.await_state("sealed")
    assert new.shown("ActiveState") == "active"
    new.await_status("store sealed: the systemd credential vault.key")
    entry = f"MESSAGE_ID={MESSAGE_IDS['store-sealed']}"
    new.await_entry("Subject: The vault is sealed", "--boot", "--catalog", entry)
    assert new.box.journal("--boot", "--unit", "gatewayd-vault-key@*", "--grep", "TPM")
    assert new.counts().get("online", 0) == 0
    assert len(new.children()) == CHILDREN

    with _tpm(new, tmp_path / "tpm"):  # no command is given: gatewayd asks for its key again
        new.await_online(CHILDREN)
    assert set(new.plant.secrets_issued().values()) == {1}


def test_neither_another_key_nor_an_image_on_another_machine_opens_the_vault(
    gateway: Gateway, tmp_path: Path
) -> None:
    """On one gateway, which each step leaves with its children online, but the last."""
    _none_is_made_where_it_is_lost(gateway)
    _that_of_another_machine_does_not_open_the_vault(gateway)
    _an_image_with_the_machine_id_says_cloned_on_other_hardware(gateway, tmp_path)
    _an_image_without_the_machine_id_says_cloned(gateway, tmp_path)


def _that_of_another_machine_does_not_open_the_vault(gateway: Gateway) -> None:
    own, kept = gateway.key(), gateway.box.path(OF_THE_MACHINE).read_bytes()
    gateway.box.path(OF_THE_MACHINE).unlink()
    gateway.systemctl("restart")
    gateway.await_state("sealed")
    gateway.write_key("--with-key=host")
    gateway.systemctl("restart")
    gateway.await_state("sealed")
    assert gateway.counts().get("online", 0) == 0
    assert len(gateway.children()) == CHILDREN

    gateway.box.path(KEY).write_bytes(own)
    gateway.box.path(OF_THE_MACHINE).write_bytes(kept)
    gateway.systemctl("restart")
    gateway.await_online(CHILDREN)


def _none_is_made_where_it_is_lost(gateway: Gateway) -> None:
    key = gateway.key()
    gateway.box.path(KEY).unlink()
    gateway.systemctl("restart")
    gateway.await_state("sealed")
    assert not gateway.box.path(KEY).exists()
    said = gateway.box.journal("--boot", "--unit", KEYGEN)
    assert f"its key {KEY} is missing" in said
    assert gateway.counts().get("online", 0) == 0

    gateway.box.path(KEY).write_bytes(key)
    gateway.systemctl("restart")
    gateway.await_online(CHILDREN)
    assert set(gateway.plant.secrets_issued().values()) == {1}


def _an_image_without_the_machine_id_says_cloned(gateway: Gateway, tmp_path: Path) -> None:
    gateway.box.power_off()
    (gateway.box.changes / "upper/etc/machine-id").write_text("")
    gateway.box.boot(f"--bind-ro={tmp_path}/one:/opt/hardware")
    gateway.await_state("cloned")
    store = gateway.box.run("gatewayctl", "store", "status")
    assert "State: cloned" in store
    assert gateway.counts().get("online", 0) == 0
    assert len(gateway.children()) == CHILDREN


def _an_image_with_the_machine_id_says_cloned_on_other_hardware(
    gateway: Gateway, tmp_path: Path
) -> None:
    """The hardware's id comes from a file here: the kernel of a test machine may show none."""
    gateway.drop_in("hardware", "[Service]\nLoadCredential=hardware:/opt/hardware\n")
    gateway.box.power_off()
    for name, text in (("one", "4c4c4544-0042\n"), ("two", "4c4c4544-0099\n")):
        (tmp_path / name).write_text(text)
    gateway.box.boot(f"--bind-ro={tmp_path}/one:/opt/hardware")
    gateway.await_online(CHILDREN)
    gateway.box.power_off()
    gateway.box.boot(f"--bind-ro={tmp_path}/two:/opt/hardware")
    gateway.await_state("cloned")
    assert gateway.counts().get("online", 0) == 0
    gateway.box.power_off()
    gateway.box.boot(f"--bind-ro={tmp_path}/one:/opt/hardware")
    gateway.await_online(CHILDREN)
    assert set(gateway.plant.secrets_issued().values()) == {1}


def test_machines_of_one_image_have_keys_of_their_own(
    release: str, root: Path, package: Path, memory: Path
) -> None:
    image = Box([root], memory / f"{release}-image")
    image.boot()
    try:
        image.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
        install(image, package)
        image.path("/usr/sbin/policy-rc.d").unlink()
        assert not image.path(KEY).exists()
    finally:
        image.power_off()
    (image.changes / "upper/etc/machine-id").write_text("")

    layers = [image.changes / "upper", root]
    made = {_first_key(Box(layers, memory / f"{release}-machine-{n}")) for n in range(2)}
    shutil.rmtree(image.changes)
    assert len(made) == 2


def _first_key(machine: Box) -> str:
    """Boot a machine for the first time, and power it off; return a digest of its key."""
    machine.boot()
    try:
        machine.until(machine.path(KEY).exists, "the key to be made")
        machine.until(
            lambda: "Data key: number 1" in machine.run("gatewayctl", "store", "status"),
            "the vault to be open",
        )
        script = f"systemd-creds --name=vault.key decrypt {KEY} - | sha256sum"
        return machine.run("sh", "-c", script)
    finally:
        machine.cut_power()
        shutil.rmtree(machine.changes)
