"""What an operator does with the keys of a vault."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, StoreError, StoreSealed, StoreUnavailable
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.keyslots.table import MAX_SLOTS
from gatewayd.secretstore.store import NO_RECOVERY, Protection, StoreState
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.offline import group, open_offline
from gatewayd.secretstore.vault.sealed_database import EXPOSED, MAX_WRITES, WORN
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, keep, tend
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.pem_keys import private_pem, public_pem
from tests.support.vaults import VaultDirectory, do

PRIVATE = X25519PrivateKey.generate()
OTHERS = [public_pem(X25519PrivateKey.generate()) for _ in range(MAX_SLOTS)]


def test_a_report_shows_what_is_there(vault: Vault) -> None:
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    found = admin.report(vault)
    kind = RecoveryKey(private_pem(PRIVATE)).kind
    assert found.made > 1_700_000_000
    assert dataclasses.replace(found, made=0) == admin.VaultReport(
        state=StoreState.UNSEALED, protection=Protection.CREDENTIAL, why="",
        slots=(kind, "systemd-credential"), generation=1, generations=1, made=0,
        rotating=False, secrets=1, quarantined=0, writes=1, counter=False,
    )  # fmt: skip


def test_a_sealed_vault_reports_too(vault: Vault, vault_directory: VaultDirectory) -> None:
    vault.close()
    with closing(Vault(VaultSettings(), vault_directory.directory)) as sealed:
        found = admin.report(sealed)
        assert (found.state, found.secrets, found.slots) == (
            StoreState.SEALED,
            1,
            ("systemd-credential",),
        )
        assert "credential" in found.why
        for call in (
            lambda: admin.rotate(sealed), lambda: admin.reseal(sealed, "keyring"),
            lambda: admin.add_recovery(sealed, public_pem(PRIVATE)),
            lambda: admin.remove_slot(sealed, "systemd-credential"),
        ):  # fmt: skip
            with pytest.raises(StoreSealed):
                call()


def test_another_slot_opens_the_same_vault(vault: Vault, vault_directory: VaultDirectory) -> None:
    do(vault, admin.reseal, "keyring")
    vault.close()
    assert vault_directory.opens("keyring")
    assert vault_directory.opens("credential")
    assert not vault_directory.opens("development-file")


def test_the_protection_is_that_of_the_weakest_slot(vault: Vault) -> None:
    assert (vault.protection, vault.why) == (Protection.CREDENTIAL, NO_RECOVERY)
    do(vault, admin.reseal, "development-file")
    assert (vault.protection, vault.why) == (Protection.KEY_ON_DISK, EXPOSED)
    do(vault, admin.remove_slot, "development-file")
    assert (vault.protection, vault.why) == (Protection.CREDENTIAL, NO_RECOVERY)
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    assert (vault.state, vault.why) == (StoreState.UNSEALED, "")


def test_a_slot_that_was_removed_opens_nothing(
    vault: Vault, vault_directory: VaultDirectory
) -> None:
    do(vault, admin.reseal, "keyring")
    do(vault, admin.remove_slot, "keyring")
    assert vault_directory.ring.read_text() == "{}"
    vault.close()
    assert not vault_directory.opens("keyring")
    assert vault_directory.opens("credential")


@pytest.mark.parametrize("act", [admin.reseal, admin.remove_slot])
def test_nothing_of_a_slot_that_is_given_up_is_left_on_the_disk(
    vault: Vault, vault_directory: VaultDirectory, act: Callable[[Vault, str], None]
) -> None:
    do(vault, admin.reseal, "keyring")
    (held,) = vault.query("SELECT ciphertext FROM key_slot WHERE kind = 'keyring'")[0]
    copy = vault_directory.directory / "vault.db.v1"
    copy.write_bytes(held)
    do(vault, act, "keyring")
    assert not any(held in file.read_bytes() for file in vault_directory.directory.iterdir())


def test_a_slot_is_resealed_with_another_key(vault: Vault, vault_directory: VaultDirectory) -> None:
    do(vault, admin.reseal, "keyring")
    before = vault_directory.ring.read_text()
    do(vault, admin.reseal, "keyring")
    after = vault_directory.ring.read_text()
    assert before != after
    assert after.count("gatewayd-vault") == 1
    vault.close()
    vault_directory.ring.write_text(before)
    assert not vault_directory.opens("keyring")
    vault_directory.ring.write_text(after)
    assert vault_directory.opens("keyring")


def test_a_reseal_that_is_taken_back_leaves_the_old_key(
    vault: Vault, vault_directory: VaultDirectory
) -> None:
    do(vault, admin.reseal, "keyring")
    vault.begin()
    admin.reseal(vault, "keyring")
    vault.rollback()
    vault.close()
    assert vault_directory.opens("keyring")


@pytest.mark.parametrize("kind", ["systemd-credential", "nonsense"])
def test_the_last_slot_and_one_that_is_not_there_are_not_removed(vault: Vault, kind: str) -> None:
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    with pytest.raises(StoreUnavailable):
        do(vault, admin.remove_slot, kind)
    assert len(admin.report(vault).slots) == 2


def test_there_is_room_for_a_few_slots(vault: Vault) -> None:
    for pem in OTHERS[: MAX_SLOTS - 1]:
        do(vault, admin.add_recovery, pem)
    do(vault, admin.add_recovery, OTHERS[0])  # it is there already
    with pytest.raises(StoreError, match=str(MAX_SLOTS)):
        do(vault, admin.add_recovery, OTHERS[-1])


def test_what_is_no_public_key_is_refused(vault: Vault) -> None:
    with pytest.raises(ConfigError):
        do(vault, admin.add_recovery, private_pem(PRIVATE))
    assert vault.why == NO_RECOVERY


def test_each_slot_opens_the_key_after_a_rotation(
    vault: Vault, vault_directory: VaultDirectory
) -> None:
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    do(vault, admin.reseal, "keyring")
    do(vault, admin.rotate)
    steps: list[tuple[int, int]] = []
    offline.finish_rotation(vault, at=lambda *step: steps.append(step))
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    vault.close()
    assert vault_directory.opens("keyring")
    assert vault_directory.opens("credential")
    key = RecoveryKey(private_pem(PRIVATE))
    with open_offline(
        vault_directory.settings, vault_directory.directory, recovery_key=key
    ) as again:
        assert again.get(REF) == Secret(b"x")


def test_a_slot_added_during_a_rotation_opens_both_keys(
    vault: Vault, vault_directory: VaultDirectory
) -> None:
    do(vault, admin.rotate)
    do(vault, admin.reseal, "keyring")
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    vault.close()
    assert vault_directory.opens("keyring")


def test_a_slot_that_cannot_be_read_stops_a_rotation(
    vault: Vault, vault_directory: VaultDirectory
) -> None:
    do(vault, admin.reseal, "keyring")
    locked = Path(f"{vault_directory.ring}.locked")
    locked.touch()
    with pytest.raises(StoreUnavailable, match="locked"):
        do(vault, admin.rotate)
    assert not vault.rotating
    with group(vault):
        admin.rotate(vault, drop=["keyring"])
    assert admin.report(vault).slots == ("systemd-credential",)
    offline.finish_rotation(vault)
    with (
        pytest.raises(StoreUnavailable, match="no key slot would be left"),
        group(vault),
    ):
        admin.rotate(vault, drop=["systemd-credential"])


def test_a_slot_with_another_key_stops_a_rotation(
    vault: Vault, vault_directory: VaultDirectory
) -> None:
    (vault_directory.credentials / "vault.key").write_bytes(bytes(32))
    with pytest.raises(StoreUnavailable, match="'systemd-credential' does not open"):
        do(vault, admin.rotate)


def test_a_planted_recovery_key_gets_no_data_key(vault: Vault) -> None:
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    stranger = RecoveryKey(private_pem(X25519PrivateKey.generate()))
    vault.query("UPDATE slot SET material = ? WHERE kind LIKE 'recovery%'", stranger.public)
    with pytest.raises(StoreError, match="recovery-"):
        do(vault, admin.rotate)


def test_the_recovery_key_reseals_a_slot(vault: Vault, vault_directory: VaultDirectory) -> None:
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    vault.close()
    (vault_directory.credentials / "vault.key").write_bytes(os.urandom(32))
    assert not vault_directory.opens("credential")
    key = RecoveryKey(private_pem(PRIVATE))
    with open_offline(
        vault_directory.settings, vault_directory.directory, vault_directory.credentials, key
    ) as opened:
        do(opened, admin.reseal, "credential")
    assert vault_directory.opens("credential")


@pytest.mark.parametrize("which", ["no slot", "another key"])
def test_a_recovery_key_of_another_vault_is_refused(
    vault: Vault, vault_directory: VaultDirectory, which: str
) -> None:
    do(vault, admin.add_recovery, OTHERS[0])
    vault.close()
    stranger = RecoveryKey(private_pem(PRIVATE))
    with (
        pytest.raises(StoreSealed, match=r"no recovery key of this vault.*recovery-"),
        open_offline(vault_directory.settings, vault_directory.directory, recovery_key=stranger),
    ):
        pass


@pytest.mark.root
def test_what_root_makes_belongs_to_whom_the_directory_belongs_to(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 12345, 12345)
    with open_offline(VaultSettings(key="development-file"), state) as vault:
        keep(vault, REF, b"x")
        vault.headroom()
        assert {(f.stat().st_uid, f.stat().st_gid) for f in state.iterdir()} == {(12345, 12345)}


def test_a_vault_moves_into_a_tpm(
    vault: Vault, vault_directory: VaultDirectory, tmp_path: Path
) -> None:
    with closing(EmulatedTpm(tmp_path / "chip")) as emulated_tpm:
        emulated_tpm.start()
        vault_directory.settings = dataclasses.replace(
            vault_directory.settings, tcti=emulated_tpm.tcti
        )
        vault.close()
        with open_offline(
            vault_directory.settings, vault_directory.directory, vault_directory.credentials
        ) as opened:
            do(opened, admin.reseal, "tpm2")
            do(opened, admin.rotate)
            offline.finish_rotation(
                opened
            )  # the number is authenticated again, though no guard is here
        with closing(vault_directory.open("tpm2")) as moved:
            assert (moved.state, moved.protection) == (
                StoreState.DEGRADED,
                Protection.CREDENTIAL,
            )
            do(moved, admin.remove_slot, "systemd-credential")
            assert moved.protection is Protection.TPM2
            assert admin.report(moved).slots == ("tpm2",)
            assert admin.report(moved).counter
        assert vault_directory.opens("tpm2")
        assert not vault_directory.opens("credential")


def test_a_vault_moves_out_of_a_tpm(vault_directory: VaultDirectory, tmp_path: Path) -> None:
    with closing(EmulatedTpm(tmp_path / "chip")) as emulated_tpm:
        emulated_tpm.start()
        vault_directory.settings = dataclasses.replace(
            vault_directory.settings, tcti=emulated_tpm.tcti
        )
        with closing(vault_directory.open("tpm2")) as vault:
            keep(vault, REF, b"x")
            do(vault, admin.reseal, "credential")
            do(vault, admin.remove_slot, "tpm2")
            assert vault.protection is Protection.CREDENTIAL
            assert not admin.report(vault).counter
            keep(vault, REF, b"x")
        assert vault_directory.opens("credential")
        assert not vault_directory.opens("tpm2")


def test_a_vault_is_made_with_its_recovery_key(vault_directory: VaultDirectory) -> None:
    found = offline.init(
        vault_directory.settings,
        vault_directory.directory,
        vault_directory.credentials,
        public_pem(PRIVATE),
    )
    assert (found.state, found.protection) == (StoreState.UNSEALED, Protection.CREDENTIAL)
    assert len(found.slots) == 2
    with open_offline(
        vault_directory.settings, vault_directory.directory, vault_directory.credentials
    ) as vault:
        keep(vault, REF, b"x")
    with pytest.raises(StoreUnavailable, match="already"):
        offline.init(
            vault_directory.settings, vault_directory.directory, vault_directory.credentials
        )


def test_no_vault_is_made_without_its_slot(vault_directory: VaultDirectory) -> None:
    with pytest.raises(StoreSealed, match=r"vault\.key"):
        offline.init(vault_directory.settings, vault_directory.directory)
    with closing(vault_directory.open()) as vault:
        assert admin.report(vault).secrets == 0


def test_a_worn_data_key_is_reported(vault: Vault) -> None:
    do(vault, admin.add_recovery, public_pem(PRIVATE))
    vault.query("UPDATE writes SET count = count + ?", MAX_WRITES)
    tend(vault, 0)
    assert (vault.state, vault.why) == (StoreState.DEGRADED, WORN)
    do(vault, admin.rotate)
    offline.finish_rotation(vault)
    tend(vault, 0)
    assert vault.state is StoreState.UNSEALED


def test_a_slot_of_an_unknown_kind_is_shown_and_removed(vault: Vault) -> None:
    vault.query("INSERT INTO slot VALUES ('from-the-future', x'00')")
    with pytest.raises(StoreUnavailable, match="unknown kind"):
        do(vault, admin.reseal, "nonsense")
    with pytest.raises(StoreUnavailable, match="unknown kind"):
        do(vault, admin.rotate)
    do(vault, admin.remove_slot, "from-the-future")
    do(vault, admin.rotate)
    assert vault.rotating
