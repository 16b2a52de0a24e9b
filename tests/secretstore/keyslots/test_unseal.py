"""A key slot that is missing, late, locked or hangs: unsealed later without a restart."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd.device.secret import Secret
from gatewayd.errors import StoreSealed
from gatewayd.secretstore.keyslots import unseal
from gatewayd.secretstore.keyslots.slots import EnrolledKey, KeyUnavailable
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.keyslots.unseal import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MAX_ABANDONED,
    POLL,
    Unsealer,
)
from gatewayd.secretstore.store import IDLE, Protection, StoreState
from gatewayd.secretstore.vault import vault as vaults
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, keep, tend, tend_until
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.policy_signer import PolicySigner


class FakeSlot:
    """Implements KeySlot.  act: what `unseal` and `enroll` do."""

    kind = "fake"

    def __init__(self, act: Callable[[], bytes]) -> None:
        self.act = act

    def unseal(self, material: bytes) -> bytes:
        return self.act()

    def enroll(self, random: Callable[[int], bytes]) -> EnrolledKey:
        return EnrolledKey(self.act(), b"material")

    def discard(self, material: bytes) -> None:
        pass


def refuse() -> bytes:
    raise KeyUnavailable("it is not there")


def test_tries_are_further_and_further_apart() -> None:
    tries = Unsealer(FakeSlot(refuse), bytes)
    pauses = []
    for _ in range(12):
        with pytest.raises(KeyUnavailable, match="it is not there"):
            tries.attempt(b"", 10)
        pauses.append(tries.pause)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_an_unforeseen_fault_is_reported_and_tried_again() -> None:
    def broken() -> bytes:
        raise ValueError("this text may hold a secret")

    tries = Unsealer(FakeSlot(broken), bytes)
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=r"^key slot 'fake' failed \(ValueError\): [^:]*$"):
            tries.attempt(b"", 10)
    tries.slot.act = lambda: bytes(32)  # type: ignore[attr-defined]  # it is the fake
    assert tries.attempt(b"", 10).key.secret == bytes(32)


def test_a_try_that_hangs_goes_on_and_is_not_begun_again() -> None:
    answer, calls = threading.Event(), []

    def slow() -> bytes:
        calls.append(1)
        answer.wait(30)
        return bytes(32)

    tries = Unsealer(FakeSlot(slow), bytes)
    for _ in range(3):
        with pytest.raises(KeyUnavailable, match="does not answer"):
            tries.attempt(b"", 0)
        assert tries.pause == POLL
    answer.set()
    assert tries.attempt(b"", 30).key.secret == bytes(32)
    assert calls == [1]


def test_a_try_that_hangs_for_long_is_left_for_a_few_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unseal, "ABANDON_AFTER", 2)
    answer, calls = threading.Event(), []

    def lost() -> bytes:
        calls.append(1)
        assert answer.wait(30)
        return bytes(32)

    tries = Unsealer(FakeSlot(lost), bytes)
    for _ in range(20):
        with pytest.raises(KeyUnavailable, match="does not answer"):
            tries.attempt(b"", 0)
    assert len(calls) == 1 + MAX_ABANDONED
    answer.set()
    assert tries.attempt(b"", 30).key.secret == bytes(32)


def test_a_new_key_is_made_once_however_often_the_disk_refuses_it() -> None:
    made = iter([bytes(32), bytes([1] * 32)])
    tries = Unsealer(FakeSlot(lambda: next(made)), bytes)
    assert tries.attempt(None, 10) == tries.attempt(None, 10)
    tries.succeeded()
    assert tries.attempt(None, 10).key.secret == bytes([1] * 32)


def test_a_tpm_that_is_late_makes_the_key_of_a_new_vault(
    emulated_tpm: EmulatedTpm, tmp_path: Path
) -> None:
    emulated_tpm.stop()
    with closing(
        Vault(VaultSettings(key="tpm2", tcti=emulated_tpm.tcti), tmp_path / "state")
    ) as vault:
        assert "does not answer" in vault.why
        with pytest.raises(StoreSealed):
            keep(vault, REF, b"x")
        emulated_tpm.start()
        tend_until(vault, lambda: vault.state is not StoreState.SEALED)
        keep(vault, REF, b"x")
        assert vault.protection is Protection.TPM2


def test_a_tpm_that_hangs_does_not_hang_the_gateway(
    emulated_tpm: EmulatedTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vaults, "TIMEOUT", 0.1)
    settings = VaultSettings(key="tpm2", tcti=emulated_tpm.tcti)
    with closing(Vault(settings, tmp_path / "state")) as vault:
        tend_until(vault, lambda: vault.state is not StoreState.SEALED)
        keep(vault, REF, b"x")
    emulated_tpm.freeze()
    with closing(Vault(settings, tmp_path / "state")) as vault:
        assert (vault.state, tend(vault, 0)) == (StoreState.SEALED, POLL)
        assert "'tpm2' does not answer" in vault.why
        assert list(vault.refs()) == [REF]
        emulated_tpm.thaw()
        tend_until(vault, lambda: vault.state is not StoreState.SEALED)
        assert vault.get(REF) == Secret(b"x")


def test_another_tpm_is_refused_and_the_right_one_accepted(
    emulated_tpm: EmulatedTpm, tmp_path: Path
) -> None:
    settings = VaultSettings(key="tpm2", tcti=emulated_tpm.tcti)
    with closing(Vault(settings, tmp_path / "state")) as vault:
        keep(vault, REF, b"x")
    with closing(EmulatedTpm(tmp_path / "other")) as other:
        other.start()
        wrong = VaultSettings(key="tpm2", tcti=other.tcti)
        with closing(Vault(wrong, tmp_path / "state")) as vault:
            assert "not the TPM that has sealed the key" in vault.why
            assert "recovery key" in vault.why
    with closing(Vault(settings, tmp_path / "state")) as vault:
        assert vault.get(REF) == Secret(b"x")


def test_a_wrong_key_is_not_tried_without_pause(tmp_path: Path) -> None:
    settings = VaultSettings(key="development-file")
    with closing(Vault(settings, tmp_path)) as vault:
        keep(vault, REF, b"x")
    key = (tmp_path / "development.key").read_bytes()
    (tmp_path / "development.key").write_bytes(bytes(32))
    with closing(Vault(settings, tmp_path)) as vault:
        now, pauses = 0.0, []
        for _ in range(12):
            pauses.append(tend(vault, now))
            now += pauses[-1]
        assert pauses[-1] == LONGEST_PAUSE
        assert tend(vault, now - 10) == 10
        (tmp_path / "development.key").write_bytes(key)
        assert tend(vault, now) == 0
        assert vault.get(REF) == Secret(b"x")
        assert tend(vault, now) == IDLE


def test_sealing_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Vault(VaultSettings(), tmp_path)) as vault:
        for now in range(0, 3000, 600):
            tend(vault, now)
        assert caplog.text.count("The vault is sealed") == 1
    (tmp_path / "vault.key").write_bytes(bytes(32))
    with closing(sqlite3.connect(tmp_path / "vault.db")) as file:
        assert file.execute("SELECT count(*) FROM data_key").fetchone() == (0,)


def test_another_boot_opens_it_as_soon_as_its_policy_is_signed(
    emulated_tpm: EmulatedTpm, tmp_path: Path
) -> None:
    owner = PolicySigner(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    files = owner.files
    settings = VaultSettings(
        key="tpm2", tcti=emulated_tpm.tcti, tpm2_policy_key=files.key,
        tpm2_policy=files.policy, tpm2_signature=files.signature,
    )  # fmt: skip
    boot_policy = TpmSlot(emulated_tpm.tcti).boot_policy
    owner.sign(boot_policy())
    with closing(Vault(settings, tmp_path / "state")) as vault:
        keep(vault, REF, b"x")
    emulated_tpm.extend(bytes(range(32)))
    with closing(Vault(settings, tmp_path / "state")) as vault:
        assert "PCR 7" in vault.why
        tend(vault, 0)
        owner.sign(boot_policy())
        tend_until(vault, lambda: vault.state is not StoreState.SEALED)
        assert vault.get(REF) == Secret(b"x")
