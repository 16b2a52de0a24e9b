"""An import that was cut off: done, or as if it had never begun."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Admission, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.errors import StoreUnavailable
from gatewayd.messages.broker.access import FILE as USERS
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.import_staging import (
    BESIDE,
    STAGED,
    beside,
    finish_import,
    recover_import,
    stage_records,
)
from gatewayd.storage.records import RecordDatabase
from gatewayd.testing.contracts.secretstore import REF, keep

THEIRS, OURS = DeviceId("theirs"), DeviceId("ours")


def records(directory: Path, device: DeviceId) -> bytes:
    with closing(RecordDatabase(directory)) as state:
        state.begin()
        state.write(Record(device, frozenset(), "", Verdict.REJECTED, Admission.OPERATOR, "", "",
                           None, 0, 0))  # fmt: skip
        state.commit()
        return state.snapshot()


def known(directory: Path) -> list[DeviceId]:
    """Return the children on record, as a gatewayd that starts finds them."""
    with closing(RecordDatabase(directory)) as state:
        return [record.device for record in state.all()]


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A directory where records are staged, beside others, and the vault is empty."""
    theirs = records(tmp_path / "other", THEIRS)
    records(tmp_path / "state", OURS)
    Vault(VaultSettings(key="development-file"), tmp_path / "state").close()
    stage_records(tmp_path / "state", theirs, {USERS: b"{}", "../escape": b"x"})
    return tmp_path / "state"


def commit(directory: Path) -> None:
    with closing(Vault(VaultSettings(key="development-file"), directory)) as vault:
        keep(vault, REF, b"x")


def test_the_users_of_the_broker_move_with_the_records(ready: Path) -> None:
    assert BESIDE == (USERS,)
    assert not (ready / USERS).exists()
    commit(ready)
    assert known(ready) == [THEIRS]
    assert beside(ready) == {USERS: b"{}"}
    assert not list(ready.parent.rglob("*escape*")), "of other names, nothing is written"
    assert not list(ready.glob("*.imported"))


def test_what_cannot_be_read_is_not_left_out_in_silence(ready: Path) -> None:
    (ready / USERS).mkdir()
    with pytest.raises(StoreUnavailable, match=USERS):
        beside(ready)


def test_before_the_secrets_are_there_nothing_has_happened(ready: Path) -> None:
    assert known(ready) == [OURS]
    assert not list(ready.glob("*.imported"))
    assert not (ready / USERS).exists()


def test_without_a_vault_nothing_has_happened(ready: Path) -> None:
    (ready / "vault.db").unlink()
    assert known(ready) == [OURS]


def test_what_is_not_committed_does_not_count(ready: Path) -> None:
    with closing(Vault(VaultSettings(key="development-file"), ready)) as vault:
        vault.begin()
        vault.put(REF, Secret(b"x"))
        recover_import(ready)
        vault.rollback()
    assert known(ready) == [OURS]


def test_when_the_secrets_are_there_the_records_follow(ready: Path) -> None:
    commit(ready)
    assert known(ready) == [THEIRS]
    assert not (ready / STAGED).exists()
    recover_import(ready)
    assert known(ready) == [THEIRS]


def test_done_is_done(ready: Path) -> None:
    commit(ready)
    finish_import(ready)
    assert known(ready) == [THEIRS]


def test_a_vault_that_cannot_be_read_keeps_the_staged_records(ready: Path) -> None:
    (ready / "vault.db").write_bytes(b"no database at all")
    with pytest.raises(StoreUnavailable, match=r"vault\.db"):
        RecordDatabase(ready)
    assert (ready / STAGED).exists()
    RecordDatabase(ready.parent / "other").close()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"):
        stage_records(tmp_path / "nowhere", b"x", {})
    with pytest.raises(StoreUnavailable, match="No such file"):
        finish_import(tmp_path)
