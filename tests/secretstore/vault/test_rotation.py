"""The data key is changed while the vault serves; a crash at any moment loses nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, StoreUnavailable
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.rows import ROWS_PER_STEP
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.testing.contracts.secretstore import group, keep, tend
from tests.support.vaults import DEVELOPMENT

MANY = 2 * ROWS_PER_STEP + 7


def ref(number: int) -> SecretRef:
    return SecretRef("cloud", DeviceId(f"child-{number}"), 1)


def secret(number: int) -> Secret:
    return Secret(f"secret of {number}".encode())


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with closing(Vault(DEVELOPMENT, tmp_path / "state")) as vault:
        with group(vault):
            for number in range(MANY):
                vault.put(ref(number), secret(number))
        yield vault


def rotate(vault: Vault) -> None:
    with group(vault):
        admin.rotate(vault)


def generations(vault: Vault) -> dict[int, int]:
    """How many secrets each generation of the key holds."""
    return dict(vault.query("SELECT kid, count(*) FROM secret GROUP BY kid"))


def all_readable(vault: Vault) -> bool:
    return all(vault.get(ref(number)) == secret(number) for number in range(MANY))


def test_every_secret_is_encrypted_again_in_bounded_steps(vault: Vault) -> None:
    rotate(vault)
    seen = [generations(vault)]
    while vault.rotating:
        assert tend(vault, 0) == 0
        assert all_readable(vault)
        seen.append(generations(vault))
    assert seen[0] == {1: MANY}
    assert seen[-1] == {2: MANY}
    moved = [one.get(2, 0) for one in seen]
    assert all(after - before <= ROWS_PER_STEP for before, after in pairwise(moved))
    assert vault.query("SELECT kid FROM data_key") == [(2,)]
    assert vault.query("SELECT DISTINCT kid FROM key_slot") == [(2,)]
    assert vault.keys().generations == (2,)


def test_it_serves_meanwhile(vault: Vault) -> None:
    rotate(vault)
    tend(vault, 0)
    keep(vault, ref(1), b"changed")
    with group(vault):
        vault.delete(ref(2))
        vault.quarantine(ref(3))
    offline.finish_rotation(vault)
    assert vault.get(ref(1)) == Secret(b"changed")
    assert set(vault.refs()) == {ref(n) for n in range(MANY) if n not in (2, 3)}
    assert vault.query("SELECT kid FROM quarantine") == [(2,)]


def test_a_crash_between_any_two_steps_loses_nothing(vault: Vault, tmp_path: Path) -> None:
    copies: list[Path] = []

    def crash() -> None:
        copies.append(tmp_path / f"copy-{len(copies)}")
        shutil.copytree(tmp_path / "state", copies[-1])

    crash()
    rotate(vault)
    crash()
    while vault.rotating:
        tend(vault, 0)
        crash()
    for copy in copies:
        with closing(Vault(DEVELOPMENT, copy)) as after:
            assert all_readable(after)
            offline.finish_rotation(after)
            assert all_readable(after)
            assert len(generations(after)) == 1
            assert len(after.keys().generations) == 1


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_step_that_is_taken_back_is_done_again(vault: Vault, times: int) -> None:
    rotate(vault)
    for _ in range(times):
        vault.begin()
        vault.mark()
        vault.tend(0)
        if times == 2:
            vault.rollback()
        else:
            vault.undo()
            vault.commit()
    assert generations(vault) == {1: MANY}
    offline.finish_rotation(vault)
    assert generations(vault) == {2: MANY}
    assert all_readable(vault)


def test_a_rotation_that_is_taken_back_was_none(vault: Vault) -> None:
    vault.begin()
    admin.rotate(vault)
    vault.rollback()
    vault.begin()
    vault.mark()
    admin.rotate(vault)
    vault.undo()
    vault.commit()
    assert not vault.rotating
    keep(vault, ref(0), b"still the old key")
    assert generations(vault) == {1: MANY}
    rotate(vault)
    offline.finish_rotation(vault)
    assert vault.get(ref(0)) == Secret(b"still the old key")


def test_what_is_written_in_the_group_that_begins_it_is_readable(vault: Vault) -> None:
    with group(vault):
        admin.rotate(vault)
        vault.put(ref(0), secret(0))
    assert all_readable(vault)
    offline.finish_rotation(vault)
    assert all_readable(vault)


def test_one_rotation_at_a_time(vault: Vault) -> None:
    rotate(vault)
    with pytest.raises(StoreUnavailable, match="last rotation"):
        rotate(vault)
    offline.finish_rotation(vault)
    rotate(vault)
    offline.finish_rotation(vault)
    assert generations(vault) == {3: MANY}


def test_a_bent_row_is_moved_aside_and_keeps_its_key(vault: Vault, tmp_path: Path) -> None:
    vault.query("UPDATE secret SET ct = x'00' WHERE id = 5")
    rotate(vault)
    offline.finish_rotation(vault)
    assert vault.query("SELECT kid, why FROM quarantine") == [(1, "it does not open")]
    assert vault.keys().generations == (1, 2)
    with closing(sqlite3.connect(tmp_path / "state/vault.db")) as file:
        assert file.execute("SELECT kid FROM data_key ORDER BY kid").fetchall() == [(1,), (2,)]
    vault.close()
    with closing(Vault(DEVELOPMENT, tmp_path / "state")) as again:
        offline.finish_rotation(again)
        assert set(again.refs()) == {ref(n) for n in range(MANY) if n != 4}


def test_rows_of_two_generations_are_not_swapped(vault: Vault) -> None:
    rotate(vault)
    tend(vault, 0)
    vault.query(
        "UPDATE secret SET (gen, kid, nonce, ct) = (SELECT gen, kid, nonce, ct FROM secret "
        "WHERE id = ?) WHERE id = 1",
        MANY,
    )
    with pytest.raises(SecretCorrupt):
        vault.get(ref(0))


def test_nothing_of_the_old_key_is_left_on_the_disk(vault: Vault, tmp_path: Path) -> None:
    old = vault.query("SELECT ciphertext FROM key_slot")[0][0]
    row = vault.query("SELECT ct FROM secret WHERE id = 1")[0][0]
    files = [tmp_path / "state/vault.db", tmp_path / "state/vault.db-wal"]
    assert any(old in file.read_bytes() for file in files)
    copy = tmp_path / "state/vault.db.v1"
    copy.write_bytes(old)
    rotate(vault)
    offline.finish_rotation(vault)
    left = b"".join(file.read_bytes() for file in files)
    assert old not in left
    assert row not in left
    assert not copy.exists()


def test_the_wiped_key_is_not_in_use(vault: Vault) -> None:
    first = vault.keys().key(1)
    rotate(vault)
    offline.finish_rotation(vault)
    with pytest.raises(ValueError, match="released"):
        first.tobytes()
