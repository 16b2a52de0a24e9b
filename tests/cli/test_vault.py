"""gatewayctl vault, as a process of its own."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from tests.secretstore.chip import Chip
from tests.secretstore.pems import private, public
from tests.support.gatewayctl import GATEWAYCTL

pytestmark = pytest.mark.integration

PAIR = X25519PrivateKey.generate()
KIND = RecoveryKey(private(PAIR)).kind
PASSPHRASE = b"correct horse"
CONFIG = '[gateway]\nstate_directory = "{0}/state"\n[secretstore.vault]\n{1}\n'


class Operator:
    """Works in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = os.environ | {"TSS2_LOG": "all+none"}  # what the library itself would say
        self.state = directory / "state"
        self.configure('key = "development-file"')
        (directory / "public.pem").write_bytes(public(PAIR))
        (directory / "private.pem").write_bytes(private(PAIR, BestAvailableEncryption(PASSPHRASE)))
        (directory / "passphrase").write_bytes(PASSPHRASE + b"\n")
        self.opener = ("--recovery-key", str(directory / "private.pem"),
                       "--passphrase-file", str(directory / "passphrase"))  # fmt: skip

    def configure(self, settings: str) -> None:
        (self.directory / "gatewayd.toml").write_text(CONFIG.format(self.directory, settings))

    def says(self, *words: str, stdin: int = subprocess.DEVNULL) -> str:
        """Run a command that goes well; return what it printed."""
        done = self._run(words, stdin)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def is_told(self, *words: str) -> str:
        """Run a command that is refused, in one line; return that."""
        done = self._run(words, subprocess.DEVNULL)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        return done.stderr

    def _run(self, words: tuple[str, ...], stdin: int) -> subprocess.CompletedProcess[str]:
        config = ("--config", str(self.directory / "gatewayd.toml"))
        return subprocess.run(
            (*GATEWAYCTL, "vault", *words, *config),
            stdin=stdin, capture_output=True, text=True, check=False, env=self.environ,
        )  # fmt: skip


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    with closing(Chip(tmp_path / "chip")) as chip:
        chip.start()
        yield chip


def test_where_there_is_no_vault_the_way_to_one_is_told(operator: Operator) -> None:
    for words in (("status",), ("rotate",), ("reseal", "tpm2"), ("remove-slot", "tpm2")):
        assert "gatewayctl vault init" in operator.is_told(*words)
    assert not operator.state.exists()


def test_whoever_cannot_be_asked_has_to_say(operator: Operator) -> None:
    assert "--recovery FILE" in operator.is_told("init")
    assert not operator.state.exists()


@pytest.mark.parametrize("answer", ["", "public.pem"])
def test_a_terminal_is_asked_for_a_recovery_key(operator: Operator, answer: str) -> None:
    ours, theirs = pty.openpty()
    try:
        line = f"{operator.directory / answer if answer else ''}\n"
        os.write(ours, line.encode())
        told = operator.says("init", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "whoever loses this machine loses every secret" in told
    assert (KIND in told) is bool(answer)


def test_a_vault_through_its_life(operator: Operator) -> None:
    pem = str(operator.directory / "public.pem")
    assert "Key slots: development-file\n" in operator.says("init", "--no-recovery")
    assert operator.says("add-recovery", pem) == f"The key slot {KIND} was added.\n"
    assert "Data key: number 1, made 2" in operator.says("status")
    operator.says("rotate")
    assert "Data key: number 2, made 2" in operator.says("status")
    assert "alone opens the vault" in operator.is_told("remove-slot", "development-file")
    operator.says("remove-slot", KIND)
    assert "there is no recovery key" in operator.is_told("export", "--output", "whole")
    assert "no kind of key slot" in operator.is_told("reseal", "nonsense")
    assert "another gatewayd" not in operator.says("status")


def test_a_key_that_is_gone_is_made_good_by_recovery(operator: Operator) -> None:
    operator.says("init", "--recovery", str(operator.directory / "public.pem"))
    (operator.state / "development.key").unlink()
    told = operator.says("status")
    assert "State: sealed\nWhy: " in told
    assert "Protected: by nothing" in told
    assert "development.key cannot be read" in operator.is_told("rotate")
    whole = operator.directory / "whole"
    operator.says("export", "--output", str(whole), *operator.opener)
    assert stat.S_IMODE(whole.stat().st_mode) == 0o600
    operator.says("reseal", "development-file", *operator.opener)
    assert "State: unsealed" in operator.says("status")
    (operator.directory / "passphrase").write_text("wrong")
    assert "password is another" in operator.is_told("status", *operator.opener)


def test_a_slot_that_cannot_be_read_is_dropped(operator: Operator, chip: Chip) -> None:
    operator.configure(f'key = "development-file"\ntcti = "{chip.tcti}"\ntpm2_counter = false')
    operator.says("init", "--no-recovery")
    operator.says("reseal", "tpm2")
    chip.stop()
    assert "tpm2" in operator.is_told("rotate")
    operator.says("rotate", "--drop", "tpm2")
    assert "Key slots: development-file\n" in operator.says("status")


def test_an_owner_gets_what_to_sign(operator: Operator, chip: Chip) -> None:
    operator.configure(f'tcti = "{chip.tcti}"')
    policy = operator.directory / "pcr.policy"
    operator.says("boot-policy", "--output", str(policy))
    assert len(policy.read_bytes()) == 32
    chip.stop()
    assert "TPM" in operator.is_told("boot-policy", "--output", str(policy))


def test_files_that_are_not_there_are_named(operator: Operator) -> None:
    operator.says("init", "--no-recovery")
    nowhere = str(operator.directory / "nowhere/file")
    for words in (("add-recovery", nowhere), ("init", "--recovery", nowhere),
                  ("status", "--recovery-key", nowhere)):  # fmt: skip
        assert f"{nowhere} cannot be read: No such file" in operator.is_told(*words)
    operator.says("add-recovery", str(operator.directory / "public.pem"))
    assert f"{nowhere} cannot be written" in operator.is_told("export", "--output", nowhere)
    assert "is too large" in operator.is_told("add-recovery", "/dev/zero")


def test_another_store_is_no_vault(operator: Operator) -> None:
    (operator.directory / "gatewayd.toml").write_text(
        '[secretstore]\nbackend = "keyring"\n[secretstore.keyring]\nbackend = "SecretService"\n'
    )
    assert "is no vault but 'keyring'" in operator.is_told("status")


def test_a_keyring_is_asked_by_its_owner_alone(operator: Operator) -> None:
    operator.configure('key = "keyring"')
    operator.state.mkdir(mode=0o700)
    os.chown(operator.state, 65534, 65534)
    assert "runuser -u nobody -- gatewayctl vault" in operator.is_told("init", "--no-recovery")
