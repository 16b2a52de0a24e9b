"""A fleet's secrets on their way to another gateway, with the offline key and nothing else."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import ConfigError, StoreError, StoreSealed, StoreUnavailable
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.export import export, import_
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.testing.contracts.secretstore import CANARY, REF, group, keep
from tests.secretstore.vault.test_schema import ENDLESS, TO_THE_FIRST
from tests.support.pem_keys import private_pem, public_pem
from tests.support.vaults import DEVELOPMENT

PRIVATE = X25519PrivateKey.generate()
KEY = RecoveryKey(private_pem(PRIVATE))
REFS = sorted(SecretRef("cloud", DeviceId(f"child-{n}"), n) for n in range(1, 30))
RECORDS = {"state.db": b"the records of the children"}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(DEVELOPMENT, tmp_path / "old")) as vault:
        with group(vault):
            for ref in REFS:
                vault.put(ref, Secret(ref.device.encode()))
            admin.add_recovery(vault, public_pem(PRIVATE))
        yield vault


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(DEVELOPMENT, tmp_path / "new")) as vault:
        yield vault


def moved(vault: Vault) -> bool:
    return list(vault.refs()) == REFS and all(
        vault.get(ref) == Secret(ref.device.encode()) for ref in REFS
    )


def test_the_offline_key_alone_moves_everything(old: Vault, new: Vault, tmp_path: Path) -> None:
    whole = export(old, RECORDS)
    with group(new):
        found = import_(new, whole, KEY)
    assert (found.secrets, found.damaged, found.enclosures) == (len(REFS), 0, RECORDS)
    assert moved(new)
    assert new.keys().store != old.keys().store
    assert KEY.kind in admin.report(new).slots
    new.close()
    with closing(Vault(DEVELOPMENT, tmp_path / "new")) as again:
        assert moved(again)
    assert moved(old)


def test_nothing_else_opens_an_export(old: Vault, tmp_path: Path) -> None:
    whole = export(old, {"canary": CANARY})
    assert CANARY not in whole
    sql = "SELECT ciphertext FROM key_slot WHERE kind NOT LIKE 'recovery-%'"
    wrapped = [row[0] for row in old.query(sql)]
    assert wrapped
    assert not any(one in whole for one in wrapped)
    thief = tmp_path / "thief"
    thief.mkdir()
    (thief / "vault.db").write_bytes(whole)
    (thief / "development.key").write_bytes((tmp_path / "old/development.key").read_bytes())
    (thief / "development.key").chmod(0o600)
    with closing(Vault(DEVELOPMENT, thief)) as sealed, pytest.raises(StoreSealed):
        sealed.get(REFS[0])


def test_an_export_in_the_middle_of_a_rotation_is_whole(old: Vault, new: Vault) -> None:
    with group(old):
        admin.rotate(old)
    keep(old, REFS[0], REFS[0].device.encode())
    with group(new):
        assert import_(new, export(old), KEY).secrets == len(REFS)
    assert moved(new)


def test_what_is_not_durable_is_not_exported(old: Vault, new: Vault) -> None:
    old.begin()
    old.put(SecretRef("cloud", DeviceId("late"), 1), Secret(b"x"))
    whole = export(old)
    old.rollback()
    with group(new):
        import_(new, whole, KEY)
    assert moved(new)


def test_without_a_recovery_key_there_is_no_export(new: Vault) -> None:
    keep(new, REF, b"x")
    with pytest.raises(StoreUnavailable, match="add-recovery"):
        export(new)


def test_a_planted_recovery_key_gets_no_export(old: Vault) -> None:
    stranger = RecoveryKey(private_pem(X25519PrivateKey.generate()))
    old.query("UPDATE slot SET kind = ?, material = ? WHERE kind = ?",
              stranger.kind, stranger.public, KEY.kind)  # fmt: skip
    with pytest.raises(StoreError, match="recovery-"):
        export(old)


def test_another_key_does_not_open_it(old: Vault, new: Vault) -> None:
    whole = export(old)
    stranger = RecoveryKey(private_pem(X25519PrivateKey.generate()))
    with pytest.raises(StoreSealed, match="no recovery key of this vault"), group(new):
        import_(new, whole, stranger)
    assert not list(new.refs())


def test_only_an_empty_vault_takes_one_in(old: Vault, new: Vault) -> None:
    whole = export(old)
    keep(new, REF, b"x")
    with pytest.raises(StoreUnavailable, match="empty"), group(new):
        import_(new, whole, KEY)


def test_a_damaged_secret_is_left_out_and_counted(old: Vault, new: Vault) -> None:
    old.query("UPDATE secret SET ct = x'00' WHERE id = 1")
    with group(new):
        found = import_(new, export(old), KEY)
    assert (found.secrets, found.damaged) == (len(REFS) - 1, 1)


@pytest.mark.parametrize(
    "whole",
    [b"", b"nonsense", b"SQLite format 3\0" + bytes(5000), bytes(4096)],
    ids=["empty", "text", "header", "zeros"],
)
def test_what_is_no_export_is_refused(new: Vault, whole: bytes) -> None:
    with pytest.raises(ConfigError, match="no export"), group(new):
        import_(new, whole, KEY)


@pytest.mark.parametrize("size", [100, 5000, 20_000])
def test_half_an_export_is_refused(old: Vault, new: Vault, size: int) -> None:
    whole = export(old)
    assert size < len(whole)
    with pytest.raises((ConfigError, StoreSealed)), group(new):
        import_(new, whole[:size], KEY)
    assert not list(new.refs())


def test_another_database_is_refused(new: Vault) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (x)")
        whole = db.serialize()
    with pytest.raises(ConfigError, match="no export"), group(new):
        import_(new, whole, KEY)


def test_an_export_of_a_newer_gatewayd_is_refused(old: Vault, new: Vault) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(export(old))
        db.execute("PRAGMA user_version = 99")
        db.commit()
        whole = db.serialize()
    with pytest.raises(ConfigError, match="newer gatewayd"), group(new):
        import_(new, whole, KEY)


def test_no_view_in_an_export_is_read(old: Vault, new: Vault) -> None:
    """A recursive one, in the place of a table that a step reads, would not come back."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(export(old))
        db.executescript(TO_THE_FIRST + ENDLESS.format("key_slot"))
        whole = db.serialize()
    with pytest.raises(ConfigError, match="no export"), group(new):
        import_(new, whole, KEY)


def test_an_import_shows_no_enclosure(old: Vault, new: Vault) -> None:
    with group(new):
        found = import_(new, export(old, {"canary": CANARY}), KEY)
    assert CANARY.decode() not in repr(found)


@settings(max_examples=100)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_an_export_that_was_bent_gives_no_wrong_secret(at: float, bit: int) -> None:
    damaged = bytearray(healthy())
    damaged[int(at * len(damaged))] ^= 1 << bit
    with tempfile.TemporaryDirectory() as name, closing(Vault(DEVELOPMENT, Path(name))) as vault:
        with suppress(ConfigError, StoreError), group(vault):
            import_(vault, bytes(damaged), KEY)
        for ref in vault.refs():
            assert vault.get(ref) == Secret(ref.device.encode())


@cache
def healthy() -> bytes:
    with tempfile.TemporaryDirectory() as name, closing(Vault(DEVELOPMENT, Path(name))) as vault:
        with group(vault):
            for ref in REFS:
                vault.put(ref, Secret(ref.device.encode()))
            admin.add_recovery(vault, public_pem(PRIVATE))
        return export(vault, RECORDS)
