"""An attacker who can write to the disk and has no key: planted and altered data gain nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreError, StoreRolledBack, StoreSealed, StoreUnavailable
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots import table as slottable
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.store import IDLE, StoreState
from gatewayd.secretstore.tpm import nv_counter
from gatewayd.secretstore.tpm.esapi import open_tpm
from gatewayd.secretstore.tpm.nv_counter import FIRST, RANGE, TpmCounter
from gatewayd.secretstore.vault import admin, data_keys, offline
from gatewayd.secretstore.vault.data_keys import DAMAGED, DataKeys, SlotKey
from gatewayd.secretstore.vault.memory import KeyPage
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, group, keep, tend
from tests.support.emulated_tpm import TIMEOUT, EmulatedTpm
from tests.support.pem_keys import private_pem, public_pem
from tests.support.vaults import VaultDirectory, do

OTHER = SecretRef("cloud", DeviceId("child-2"), 1)


def foreign(vault: Vault, kid: int) -> DataKeys:
    """A data key that an attacker has made, for this vault and this number."""
    return DataKeys(vault.keys().store, {kid: KeyPage(os.urandom(32))})


def test_a_planted_slot_is_not_given_the_next_key(
    vault_directory: VaultDirectory, vault: Vault
) -> None:
    """Its key file, and a wrap of any key that this opens, can be made without ours."""
    own = os.urandom(32)
    (vault_directory.directory / "development.key").write_bytes(own)
    (vault_directory.directory / "development.key").chmod(0o600)
    planted = SlotKey("development-file", own)
    with group(vault):
        wrap = slottable.secret_wrapper(planted, os.urandom)
        slottable.put_slot(vault.query, foreign(vault, 1), planted.kind, b"", wrap)
    with pytest.raises(StoreUnavailable, match="'development-file' does not open"):
        do(vault, admin.rotate)
    assert vault.keys().generations == (1,)
    do(vault, admin.remove_slot, planted.kind)
    do(vault, admin.rotate)
    offline.finish_rotation(vault)
    assert vault.get(REF) == Secret(b"x")


def test_a_planted_generation_is_not_used_by_who_has_the_recovery_key(
    vault_directory: VaultDirectory, vault: Vault
) -> None:
    """All that is to be known is the public key, which lies beside."""
    pem = X25519PrivateKey.generate()
    do(vault, admin.add_recovery, public_pem(pem))
    theirs, own = recovery.read_public(public_pem(pem)), os.urandom(32)
    with group(vault):
        page = data_keys.create(vault.query, vault.keys().store, 2, lambda _: own)
        wrap = slottable.recovery_wrapper(theirs, os.urandom)
        slottable.put_key(vault.query, wrap(page.key, vault.keys().store, 2), 2)
    vault.close()
    with closing(vault_directory.open(opener=RecoveryKey(private_pem(pem)))) as opened:
        assert opened.state is StoreState.SEALED
        assert opened.why == DAMAGED
    vault_directory.write("DELETE FROM key_slot WHERE kid = 2")
    vault_directory.write("DELETE FROM data_key WHERE kid = 2")
    with closing(vault_directory.open(opener=RecoveryKey(private_pem(pem)))) as opened:
        assert opened.get(REF) == Secret(b"x")


def test_who_has_the_recovery_key_opens_a_vault_in_the_middle_of_a_rotation(
    vault_directory: VaultDirectory, vault: Vault
) -> None:
    pem = X25519PrivateKey.generate()
    do(vault, admin.add_recovery, public_pem(pem))
    do(vault, admin.rotate)
    vault.close()
    with closing(vault_directory.open(opener=RecoveryKey(private_pem(pem)))) as opened:
        assert opened.get(REF) == Secret(b"x")
        offline.finish_rotation(opened)
        assert opened.keys().generations == (2,)


def test_a_generation_of_another_vault_does_not_become_one_of_this(
    vault_directory: VaultDirectory, vault: Vault, tmp_path: Path
) -> None:
    """Both are opened by one credential, as on gateways that were cloned."""
    vault_directory.directory = tmp_path / "other"
    with closing(vault_directory.open()) as other:
        keep(other, REF, b"of the other")
        do(other, admin.rotate)
        offline.finish_rotation(other)
    vault_directory.directory = tmp_path / "state"
    with closing(sqlite3.connect(vault_directory.directory / "vault.db")) as file:
        file.execute("ATTACH ? AS other", (f"{tmp_path}/other/vault.db",))
        file.execute("INSERT INTO data_key SELECT * FROM other.data_key")
        file.execute("INSERT INTO key_slot SELECT * FROM other.key_slot")
        file.commit()
    vault.close()
    with closing(vault_directory.open()) as again:
        assert (again.state, again.why) == (StoreState.SEALED, DAMAGED)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE {} SET kid = -1",
        "UPDATE {} SET kid = 1099511627776",
        "UPDATE data_key SET store = x''",
        "DELETE FROM writes",
    ],
)
def test_numbers_that_cannot_be_seal_it(
    vault_directory: VaultDirectory, vault: Vault, sql: str
) -> None:
    vault.close()
    for table in ("data_key", "key_slot"):
        vault_directory.write(sql.format(table))
    with closing(vault_directory.open()) as again:
        assert again.state is StoreState.SEALED
        with pytest.raises(StoreSealed):
            again.get(REF)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER one AFTER INSERT ON secret BEGIN DELETE FROM secret; END",
        "CREATE VIEW one AS SELECT * FROM secret",
        "ALTER TABLE counter RENAME TO one",
        "ALTER TABLE slot ADD COLUMN one TEXT",
        "PRAGMA user_version = -2",
    ],
)
def test_tables_that_are_not_ours_are_damage(
    vault_directory: VaultDirectory, vault: Vault, sql: str
) -> None:
    vault.close()
    vault_directory.write(sql)
    with pytest.raises(StoreError, match=r"is damaged .*: nothing was changed"):
        vault_directory.open()


def test_damaged_names_are_no_slots(vault_directory: VaultDirectory, vault: Vault) -> None:
    keep(vault, OTHER, b"y")
    for number, name in enumerate((b"chil\xe4-1/device-secret#1", b"a/b#" + b"1" * 5000)):
        vault_directory.write(
            "INSERT INTO secret SELECT ?, CAST(? AS TEXT), service, gen, kid, nonce, ct "
            "FROM secret WHERE id = 1", 10 + number, name,
        )  # fmt: skip
    vault_directory.write("UPDATE secret SET username = 'child-2/device-secret#01' WHERE id = 2")
    assert list(vault.refs()) == [REF]
    do(vault, admin.rotate)
    offline.finish_rotation(vault)
    assert vault.query("SELECT count(*) FROM secret") == [(1,)]
    assert vault.query("SELECT count(*) FROM quarantine") == [(3,)]


def test_what_finds_a_key_is_bound_to_it(
    vault_directory: VaultDirectory, vault: Vault, tmp_path: Path
) -> None:
    """Another entry of the keyring with the same key is another slot."""
    do(vault, admin.reseal, "keyring")
    (material,) = vault.query("SELECT material FROM slot WHERE kind = 'keyring'")[0]
    name, ring = json.loads(material)["username"], json.loads((tmp_path / "ring").read_text())
    ring["gatewayd-vault copy"] = ring[f"gatewayd-vault {name}"]
    (tmp_path / "ring").write_text(json.dumps(ring))
    vault_directory.write(
        "UPDATE slot SET material = ? WHERE kind = 'keyring'", b'{"username": "copy"}'
    )
    with pytest.raises(StoreUnavailable, match="'keyring' does not open"):
        do(vault, admin.rotate)


@pytest.mark.parametrize("first", ["rotate", "add_recovery", "reseal"])
def test_keys_and_slots_change_one_at_a_time(
    vault_directory: VaultDirectory, vault: Vault, first: str
) -> None:
    """What comes second in a group does not know of the key that the first has made."""
    pem = X25519PrivateKey.generate()
    acts: dict[str, Callable[[], object]] = {
        "rotate": lambda: admin.rotate(vault),
        "add_recovery": lambda: admin.add_recovery(vault, public_pem(pem)),
        "reseal": lambda: admin.reseal(vault, "keyring"),
    }
    with group(vault):
        acts[first]()
        for act in acts.values():
            with pytest.raises(StoreUnavailable, match="are being changed"):
                act()
    for act in acts.values():
        offline.finish_rotation(vault)
        with group(vault):
            act()
    vault.close()
    with closing(vault_directory.open(opener=RecoveryKey(private_pem(pem)))) as opened:
        assert opened.get(REF) == Secret(b"x")


def test_a_rotation_leaves_a_slot_that_opens_the_vault_here(vault: Vault) -> None:
    do(vault, admin.add_recovery, public_pem(X25519PrivateKey.generate()))
    with pytest.raises(StoreUnavailable, match="no key slot would be left"):
        do(vault, admin.rotate, ["systemd-credential"])


class TestTpm:
    """An attacker who cannot turn the counter in the TPM back."""

    @pytest.fixture
    def old(self, emulated_tpm: EmulatedTpm, tmp_path: Path) -> Path:
        """An old copy, after which the counter has gone on."""
        state = tmp_path / "state"
        for copy in (tmp_path / "old", tmp_path / "new"):
            with closing(self.open(emulated_tpm, state)) as vault:
                keep(vault, REF, b"x")
                tend(vault, 0)
            shutil.copytree(state, copy)
        return tmp_path / "old"

    def open(self, emulated_tpm: EmulatedTpm, directory: Path) -> Vault:
        return Vault(VaultSettings(key="tpm2", tcti=emulated_tpm.tcti), directory)

    @pytest.mark.parametrize("counter", [0, 1])
    def test_the_counter_cannot_be_hidden(
        self, emulated_tpm: EmulatedTpm, old: Path, counter: int
    ) -> None:
        with closing(sqlite3.connect(old / "vault.db")) as file:
            found = json.loads(file.execute("SELECT material FROM slot").fetchone()[0])
            damaged = json.dumps(found | {"counter": counter}).encode()
            file.execute("UPDATE slot SET material = ?", (damaged,))
            file.execute("DELETE FROM counter")
            file.commit()
        with closing(self.open(emulated_tpm, old)) as vault:
            assert vault.state is StoreState.SEALED
            assert "damaged" in vault.why

    @pytest.mark.parametrize("index", [FIRST - 1, FIRST + RANGE])
    def test_a_counter_of_others_is_never_touched(
        self, emulated_tpm: EmulatedTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
    ) -> None:
        with monkeypatch.context() as elsewhere, open_tpm(emulated_tpm.tcti) as tpm:
            elsewhere.setattr(nv_counter, "FIRST", index)
            assert nv_counter.define(tpm, b"of others", bytes) == index
        with closing(self.open(emulated_tpm, tmp_path / "state")) as vault:
            found = json.loads(vault.query("SELECT material FROM slot")[0][0])
            vault.key_slots.make("tpm2").discard(json.dumps(found | {"counter": index}).encode())
        assert TpmCounter(emulated_tpm.tcti, index, b"of others").read() == 1

    def test_a_vault_that_opens_late_is_read_only_from_the_first_moment(
        self, emulated_tpm: EmulatedTpm, old: Path
    ) -> None:
        emulated_tpm.stop()
        with closing(self.open(emulated_tpm, old)) as vault:
            assert vault.protection == "none"
            emulated_tpm.start()
            with group(vault):
                vault.unseal(TIMEOUT)
                with pytest.raises(StoreRolledBack):
                    vault.put(REF, Secret(b"y"))
            assert vault.state is StoreState.ROLLBACK_SUSPECTED
            assert tend(vault, 0) == IDLE

    def test_nothing_is_moved_aside_in_an_old_copy(
        self, emulated_tpm: EmulatedTpm, old: Path
    ) -> None:
        with closing(self.open(emulated_tpm, old)) as vault:
            vault.query("UPDATE secret SET ct = x'00'")
            with pytest.raises(StoreError), group(vault):
                vault.get(REF)
            with group(vault):
                pass
            assert vault.query("SELECT count(*) FROM quarantine") == [(0,)]
