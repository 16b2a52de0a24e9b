"""The vault: the laws of every secret store, then what was done to its file."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import (
    ConfigError,
    SecretCorrupt,
    SecretNotFound,
    StoreError,
    StoreFull,
    StoreSealed,
    StoreUnavailable,
)
from gatewayd.secretstore.store import QUARANTINE, Protection
from gatewayd.secretstore.vault.data_keys import DAMAGED
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import CANARY, REF, group, keep
from tests.support.vaults import DEVELOPMENT

# ruff: noqa: S608  # the damage is done in SQL, all of it from here


OTHER = SecretRef("cloud", DeviceId("child-2"), 1)
Damage = Callable[[sqlite3.Connection], object]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(DEVELOPMENT, tmp_path / "state")) as vault:
        keep(vault, REF, CANARY)
        keep(vault, OTHER, b"another")
        yield vault


def reopened(vault: Vault, tmp_path: Path, *damages: Damage) -> Vault:
    """Close a vault, do something to its file, and open it again."""
    vault.close()
    with closing(sqlite3.connect(tmp_path / "state/vault.db")) as file, file:
        for damage in damages:
            damage(file)
    return Vault(DEVELOPMENT, tmp_path / "state")


def sql(statement: str) -> Damage:
    return lambda file: file.execute(statement)


def flip(table: str, column: str, where: str = "1") -> Damage:
    """Return what flips the lowest bit of the first byte of a blob."""

    def damage(file: sqlite3.Connection) -> None:
        query = f"SELECT rowid, {column} FROM {table} WHERE {where}"
        row, value = file.execute(query).fetchone()
        damaged = bytes([value[0] ^ 1]) + value[1:]
        file.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (damaged, row))

    return damage


def test_only_the_owner_can_read_it(vault: Vault, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    files = list((tmp_path / "state").iterdir())
    assert {f.name for f in files} >= {"vault.db", "vault.db-wal", "development.key"}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


@pytest.mark.parametrize("columns", [("nonce", "ct"), ("gen", "kid", "nonce", "ct")])
def test_swapped_rows_do_not_open(vault: Vault, tmp_path: Path, columns: tuple[str, ...]) -> None:
    def swap(file: sqlite3.Connection) -> None:
        names = ", ".join(columns)
        one, two = file.execute(f"SELECT {names} FROM secret ORDER BY id").fetchall()
        marks = ", ".join("?" * len(columns))
        for row, values in ((1, two), (2, one)):
            file.execute(f"UPDATE secret SET ({names}) = ({marks}) WHERE id = {row}", values)

    with closing(reopened(vault, tmp_path, swap)) as damaged:
        for ref in (REF, OTHER):
            with pytest.raises(SecretCorrupt):
                damaged.get(ref)


@pytest.mark.parametrize(
    "damage",
    [
        flip("secret", "ct", "id = 1"),
        flip("secret", "nonce", "id = 1"),
        sql("UPDATE secret SET gen = gen + 1 WHERE id = 1"),
        sql("UPDATE secret SET gen = -1 WHERE id = 1"),
        sql("UPDATE secret SET ct = x'00' WHERE id = 1"),
        sql("UPDATE secret SET nonce = x'' WHERE id = 1"),
    ],
)
def test_a_bent_row_is_moved_aside_and_the_others_go_on(
    vault: Vault, tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(reopened(vault, tmp_path, damage)) as damaged:
        damaged.begin()
        damaged.mark()
        with pytest.raises(SecretCorrupt) as caught:
            damaged.get(REF)
        damaged.undo()
        damaged.commit()
        assert CANARY.decode() not in str(caught.value) + caplog.text
        assert [getattr(r, "device", "") for r in caplog.records] == [REF.device]
        assert list(damaged.refs()) == [OTHER]
        assert damaged.get(OTHER) == Secret(b"another")
        with pytest.raises(SecretNotFound):
            damaged.get(REF)
    with closing(sqlite3.connect(tmp_path / "state/vault.db")) as file:
        assert file.execute("SELECT username, why FROM quarantine").fetchall() == [
            ("child-1/device-secret#1", "it does not open")
        ]


def test_a_slot_that_was_rewritten_is_not_quarantined(vault: Vault, tmp_path: Path) -> None:
    with closing(reopened(vault, tmp_path, flip("secret", "ct", "id = 1"))) as damaged:
        with group(damaged):
            with pytest.raises(SecretCorrupt):
                damaged.get(REF)
            damaged.put(REF, Secret(b"new"))
        assert damaged.get(REF) == Secret(b"new")


def test_a_foreign_name_is_not_listed(vault: Vault, tmp_path: Path) -> None:
    rename = sql("UPDATE secret SET username = CAST(x'ff2300' AS TEXT) WHERE id = 1")
    with closing(reopened(vault, tmp_path, rename)) as damaged:
        assert list(damaged.refs()) == [OTHER]


def test_quarantine_ends_after_thirty_days(vault: Vault, tmp_path: Path) -> None:
    def count() -> int:
        with closing(sqlite3.connect(tmp_path / "state/vault.db")) as file:
            return int(file.execute("SELECT count(*) FROM quarantine").fetchone()[0])

    with group(vault):
        vault.quarantine(REF)
    for now, left in ((5, 1), (QUARANTINE + 4, 1), (QUARANTINE + 5, 0)):
        with group(vault):
            vault.purge(now)
        assert count() == left


def test_a_group_is_all_or_nothing_and_a_mark_is_a_way_back(vault: Vault) -> None:
    vault.begin()
    vault.mark()
    vault.put(OTHER, Secret(b"taken back"))
    vault.undo()
    vault.mark()
    vault.put(REF, Secret(b"kept"))
    vault.commit()
    assert (vault.get(REF), vault.get(OTHER)) == (Secret(b"kept"), Secret(b"another"))
    vault.begin()
    vault.put(REF, Secret(b"gone"))
    vault.rollback()
    assert vault.get(REF) == Secret(b"kept")


def test_a_wrong_key_is_distinguished_from_a_damaged_file(vault: Vault, tmp_path: Path) -> None:
    with closing(reopened(vault, tmp_path)) as same:
        assert not same.why
    (tmp_path / "state/development.key").write_bytes(bytes(32))
    with closing(reopened(vault, tmp_path)) as sealed:
        assert "another vault" in sealed.why
        with pytest.raises(StoreSealed):
            sealed.get(REF)


@pytest.mark.parametrize(
    "damage",
    [
        flip("data_key", "store"),
        flip("data_key", "commitment"),
        flip("key_slot", "ciphertext"),
        flip("key_slot", "nonce"),
        sql("UPDATE data_key SET kid = 2"),
        sql("DELETE FROM key_slot"),
        sql("DELETE FROM data_key"),
    ],
)
def test_a_damaged_header_seals(vault: Vault, tmp_path: Path, damage: Damage) -> None:
    with closing(reopened(vault, tmp_path, damage)) as sealed:
        assert sealed.why == DAMAGED
        assert sealed.protection is Protection.NONE
        assert list(sealed.refs()) == [REF, OTHER]


def test_a_bent_fingerprint_does_no_harm(vault: Vault, tmp_path: Path) -> None:
    with closing(reopened(vault, tmp_path, flip("key_slot", "fingerprint"))) as opened:
        assert opened.get(REF) == Secret(CANARY)


def test_another_kind_of_key_is_named(vault: Vault, tmp_path: Path) -> None:
    vault.close()
    with closing(Vault(VaultSettings(), tmp_path / "state", tmp_path)) as sealed:
        assert "it has: development-file" in sealed.why


def test_a_vault_that_never_had_a_key_gets_one_later(tmp_path: Path) -> None:
    with closing(Vault(VaultSettings(), tmp_path)) as sealed:
        assert "gatewayd(8)" in sealed.why
        with pytest.raises(StoreSealed):
            keep(sealed, REF, b"x")
    (tmp_path / "vault.key").write_bytes(bytes(32))
    with closing(Vault(VaultSettings(), tmp_path, tmp_path)) as vault:
        keep(vault, REF, b"x")
        assert vault.protection is Protection.CREDENTIAL


def test_a_truncated_file_is_refused_and_left_alone(vault: Vault, tmp_path: Path) -> None:
    vault.close()
    path = tmp_path / "state/vault.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="damaged"):
        Vault(DEVELOPMENT, tmp_path / "state")
    assert path.read_bytes() == whole[: len(whole) // 2]
    path.write_bytes(b"something else altogether, and long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="restore it from a backup"):
        Vault(DEVELOPMENT, tmp_path / "state")


def test_the_file_of_a_newer_gatewayd_is_refused(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="newer gatewayd"):
        reopened(vault, tmp_path, sql("PRAGMA user_version = 99"))


def test_a_full_disk_ends_the_group_and_harms_nothing(vault: Vault) -> None:
    pages = vault._run("PRAGMA page_count")[0][0]
    vault._run(f"PRAGMA max_page_count = {pages}")
    vault.begin()
    vault.mark()
    with pytest.raises(StoreFull):
        vault.put(SecretRef("cloud", DeviceId("child-3"), 1), Secret(bytes(100_000)))
    with pytest.raises(StoreUnavailable):
        vault.undo()
    vault._run("PRAGMA max_page_count = 100000")
    keep(vault, SecretRef("cloud", DeviceId("child-3"), 1), bytes(100_000))
    assert vault.get(REF) == Secret(CANARY)


def test_the_same_secret_is_never_encrypted_alike(vault: Vault) -> None:
    keep(vault, REF, b"same")
    first = vault._run("SELECT nonce, ct FROM secret WHERE id = 1")
    keep(vault, REF, b"same")
    assert vault._run("SELECT nonce, ct FROM secret WHERE id = 1") != first


def test_neither_vault_nor_settings_show_a_key(vault: Vault, tmp_path: Path) -> None:
    key = (tmp_path / "state/development.key").read_bytes()
    shown = repr(vault) + repr(vars(vault)) + repr(DEVELOPMENT)
    assert key.hex() not in shown
    assert repr(key)[2:-1] not in shown
    assert vault._keys is not None
    assert repr(vault._keys.key(1).tobytes())[2:-1] not in shown


def test_what_is_not_configured_is_not_loaded() -> None:
    code = (
        "import sys, gatewayd.secretstore.vault.vault\n"
        "assert not {'tpm2_pytss', 'keyring'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
