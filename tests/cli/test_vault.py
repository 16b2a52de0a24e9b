"""gatewayctl vault, as a process of its own."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.gatewayctl import GATEWAYCTL
from tests.support.pem_keys import private_pem, public_pem

pytestmark = pytest.mark.integration

PAIR = X25519PrivateKey.generate()
KIND = RecoveryKey(private_pem(PAIR)).kind
PASSPHRASE = b"correct horse"
CONFIG = '[gateway]\nstate_directory = "{0}/state"\n[secretstore.vault]\n{1}\n'


class Operator:
    """An operator who works in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = os.environ | {"TSS2_LOG": "all+none"}  # the TPM library would log to stderr
        self.state = directory / "state"
        self.configure('key = "development-file"')
        (directory / "public.pem").write_bytes(public_pem(PAIR))
        (directory / "private.pem").write_bytes(
            private_pem(PAIR, BestAvailableEncryption(PASSPHRASE))
        )
        (directory / "passphrase").write_bytes(PASSPHRASE + b"\n")
        self.opener = ("--recovery-key", str(directory / "private.pem"),
                       "--passphrase-file", str(directory / "passphrase"))  # fmt: skip

    def configure(self, settings: str) -> None:
        (self.directory / "gatewayd.toml").write_text(CONFIG.format(self.directory, settings))

    def succeeds(self, *words: str, stdin: int = subprocess.DEVNULL) -> str:
        """Run a command that succeeds; return its output."""
        done = self._run(words, stdin)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def fails(self, *words: str) -> str:
        """Run a command that fails with one line; return that line."""
        done = self._run(words, subprocess.DEVNULL)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        return done.stderr

    def ends(self, *words: str) -> tuple[int, str, str]:
        """Run a command; return its exit status, its output and its errors."""
        done = self._run(words, subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the words of a command."""
        config = ("--config", str(self.directory / "gatewayd.toml"))
        return (*GATEWAYCTL, "vault", *words, *config)

    def _run(self, words: tuple[str, ...], stdin: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            stdin=stdin, capture_output=True, text=True, check=False, env=self.environ,
        )  # fmt: skip


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_without_a_vault_the_remedy_is_named(operator: Operator) -> None:
    for words in (("status",), ("rotate",), ("reseal", "tpm2"), ("remove-slot", "tpm2")):
        assert "gatewayctl vault init" in operator.fails(*words)
    assert not operator.state.exists()


def test_without_a_terminal_the_choice_must_be_given(operator: Operator) -> None:
    assert "--recovery FILE" in operator.fails("init")
    assert not operator.state.exists()


@pytest.mark.parametrize("answer", ["", "public.pem"])
def test_a_terminal_is_asked_for_a_recovery_key(operator: Operator, answer: str) -> None:
    ours, theirs = pty.openpty()
    try:
        line = f"{operator.directory / answer if answer else ''}\n"
        os.write(ours, line.encode())
        printed = operator.succeeds("init", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "recovery" in printed
    assert (KIND in printed) is bool(answer)


def test_a_vault_through_its_life(operator: Operator) -> None:
    pem = str(operator.directory / "public.pem")
    assert "Key slots: development-file\n" in operator.succeeds("init", "--no-recovery")
    assert operator.succeeds("add-recovery", pem) == f"Added the key slot {KIND}.\n"
    assert "Data key: number 1, created 2" in operator.succeeds("status")
    operator.succeeds("rotate")
    assert "Data key: number 2, created 2" in operator.succeeds("status")
    assert "'development-file'" in operator.fails("remove-slot", "development-file")
    operator.succeeds("remove-slot", KIND)
    assert "recovery key" in operator.fails("export", "--output", "whole")
    assert "nonsense" in operator.fails("reseal", "nonsense")
    assert "another gatewayd" not in operator.succeeds("status")


def test_a_key_that_is_gone_is_made_good_by_recovery(operator: Operator) -> None:
    operator.succeeds("init", "--recovery", str(operator.directory / "public.pem"))
    (operator.state / "development.key").unlink()
    printed = operator.succeeds("status")
    assert "State: sealed\nWhy: " in printed
    assert "Protected: there is no key here" in printed
    assert "development.key" in operator.fails("rotate")
    whole = operator.directory / "whole"
    operator.succeeds("export", "--output", str(whole), *operator.opener)
    assert stat.S_IMODE(whole.stat().st_mode) == 0o600
    operator.succeeds("reseal", "development-file", *operator.opener)
    assert "State: unsealed" in operator.succeeds("status")
    (operator.directory / "passphrase").write_text("wrong")
    assert "pass" in operator.fails("status", *operator.opener)


def test_a_slot_that_cannot_be_read_is_dropped(operator: Operator, chip: EmulatedTpm) -> None:
    tpm = f'tcti = "{chip.tcti}"\ntpm2_emulated = true\ntpm2_counter = false'
    operator.configure(f'key = "development-file"\n{tpm}')
    operator.succeeds("init", "--no-recovery")
    operator.succeeds("reseal", "tpm2")
    chip.stop()
    assert "tpm2" in operator.fails("rotate")
    operator.succeeds("rotate", "--drop", "tpm2")
    assert "Key slots: development-file\n" in operator.succeeds("status")


def test_an_owner_gets_what_to_sign(operator: Operator, chip: EmulatedTpm) -> None:
    operator.configure(f'tcti = "{chip.tcti}"\ntpm2_emulated = true')
    policy = operator.directory / "pcr.policy"
    operator.succeeds("boot-policy", "--output", str(policy))
    assert len(policy.read_bytes()) == 32
    chip.stop()
    assert "TPM" in operator.fails("boot-policy", "--output", str(policy))


def test_files_that_are_not_there_are_named(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    nowhere = str(operator.directory / "nowhere/file")
    for words in (("add-recovery", nowhere), ("init", "--recovery", nowhere),
                  ("status", "--recovery-key", nowhere)):  # fmt: skip
        assert f"{nowhere} cannot be read: No such file" in operator.fails(*words)
    operator.succeeds("add-recovery", str(operator.directory / "public.pem"))
    assert f"{nowhere} cannot be written" in operator.fails("export", "--output", nowhere)
    assert "/dev/zero" in operator.fails("add-recovery", "/dev/zero")


def test_another_store_is_no_vault(operator: Operator) -> None:
    (operator.directory / "gatewayd.toml").write_text(
        '[secretstore]\nbackend = "keyring"\n[secretstore.keyring]\nbackend = "SecretService"\n'
    )
    assert "'keyring'" in operator.fails("status")


def test_a_keyring_is_asked_by_its_owner_alone(operator: Operator) -> None:
    operator.configure('key = "keyring"')
    operator.state.mkdir(mode=0o700)
    os.chown(operator.state, 65534, 65534)
    assert "runuser -u nobody -- before it" in operator.fails("init", "--no-recovery")
