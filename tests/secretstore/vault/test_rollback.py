"""An old copy of the vault shows itself, a crash does not look like one."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreRolledBack, StoreUnavailable
from gatewayd.secretstore.store import IDLE, StoreState
from gatewayd.secretstore.tpm.esapi import HANDLE, TpmError
from gatewayd.secretstore.vault import admin, offline, rollback
from gatewayd.secretstore.vault.data_keys import DataKeys
from gatewayd.secretstore.vault.memory import KeyPage
from gatewayd.secretstore.vault.rollback import (
    RETRY,
    WAIT,
    RollbackGuard,
    VaultChange,
    store_count,
    stored_count,
)
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.testing.contracts.secretstore import REF, group, keep, tend
from tests.support.emulated_tpm import EmulatedTpm

OTHER = SecretRef("cloud", DeviceId("child-2"), 1)
HOUR = WAIT[VaultChange.WRITTEN]


class FakeCounter:
    """Implements Counter.  fails: what the next calls raise."""

    def __init__(self, count: int = 7) -> None:
        self.count = count
        self.fails: Exception | None = None

    def read(self) -> int:
        if self.fails:
            raise self.fails
        return self.count

    def increment(self) -> None:
        if self.fails:
            raise self.fails
        self.count += 1


@pytest.fixture
def keys() -> Iterator[DataKeys]:
    keys = DataKeys(bytes(16), {1: KeyPage(bytes(range(32)))})
    yield keys
    keys.wipe()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A file to keep numbers in; its own key is not used here."""
    with closing(Vault(VaultSettings(key="development-file"), tmp_path / "file")) as vault:
        yield vault


def watched(vault: Vault, keys: DataKeys, counter: FakeCounter, number: int = 7) -> RollbackGuard:
    store_count(vault.query, keys, number)
    return RollbackGuard(vault.query, keys, counter, counter.count)


def advance(guard: RollbackGuard, now: float) -> None:
    guard.advance(now)
    guard.settle()


@pytest.mark.parametrize(
    ("number", "trusted"), [(5, False), (6, False), (7, True), (8, True), (9, False)]
)
def test_at_most_one_ahead_is_trusted(
    vault: Vault, keys: DataKeys, number: int, trusted: bool
) -> None:
    guard = watched(vault, keys, FakeCounter(7), number)
    assert bool(guard.suspected) is not trusted


def test_a_crash_before_the_step_is_made_good(vault: Vault, keys: DataKeys) -> None:
    counter = FakeCounter(7)
    advance(watched(vault, keys, counter, 8), 0)
    assert (counter.count, stored_count(vault.query, keys)) == (8, 8)


@pytest.mark.parametrize(
    "bend",
    [
        "DELETE FROM counter",
        "UPDATE counter SET value = 7",
        "UPDATE counter SET stamp = x'00'",
        "INSERT INTO counter SELECT value + 1, stamp FROM counter",
    ],
)
def test_a_number_that_was_bent_is_not_believed(vault: Vault, keys: DataKeys, bend: str) -> None:
    counter = FakeCounter(9)
    store_count(vault.query, keys, 6)
    vault.query(bend)
    assert "old copy" in RollbackGuard(vault.query, keys, counter, 9).suspected


def test_a_counter_that_is_gone_is_suspicious(vault: Vault, keys: DataKeys) -> None:
    store_count(vault.query, keys, 7)
    guard = RollbackGuard(vault.query, keys, FakeCounter(), None)
    assert "is gone" in guard.suspected
    advance(guard, 0)
    assert stored_count(vault.query, keys) == 7


def test_it_is_not_stepped_more_often_than_needed(vault: Vault, keys: DataKeys) -> None:
    counter = FakeCounter()
    guard = watched(vault, keys, counter)
    steps = []
    for step, now in (
        (VaultChange.NONE, 0.0),
        (VaultChange.WRITTEN, 1.0),
        (VaultChange.WRITTEN, HOUR),
        (VaultChange.WRITTEN, HOUR + 1),
        (VaultChange.DELETED, HOUR + 2),
        (VaultChange.WRITTEN, HOUR + 61),
        (VaultChange.ROTATED, HOUR + 62),
    ):
        guard.note(step)
        advance(guard, now)
        steps.append(counter.count - 7)
    assert steps == [0, 1, 1, 2, 2, 3, 4]
    assert stored_count(vault.query, keys) == counter.count


def test_a_counter_that_hangs_keeps_one_thread_and_is_reported(
    vault: Vault, keys: DataKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "TIMEOUT", 0.05)
    answer, counter = threading.Event(), FakeCounter()
    real, reads = counter.read, []

    def slow() -> int:
        reads.append(1)
        assert answer.wait(30)
        return real()

    monkeypatch.setattr(counter, "read", slow)
    guard = watched(vault, keys, counter)
    guard.note(VaultChange.ROTATED)
    for number in range(4):
        advance(guard, number * RETRY)
        assert "does not answer" in guard.fault
    assert reads == [1]
    monkeypatch.setattr(rollback, "TIMEOUT", 30)
    answer.set()
    advance(guard, 4 * RETRY)
    assert (guard.fault, guard.suspected) == ("", "")
    assert counter.count == stored_count(vault.query, keys) == 8


@pytest.mark.parametrize("fault", [TpmError("broken"), TpmError("gone", HANDLE)])
def test_a_counter_that_fails_is_reported_and_tried_again(
    vault: Vault, keys: DataKeys, fault: TpmError
) -> None:
    counter = FakeCounter()
    guard = watched(vault, keys, counter)
    guard.note(VaultChange.ROTATED)
    counter.fails = fault
    advance(guard, 0)
    assert guard.fault
    counter.fails = None
    advance(guard, RETRY - 1)
    assert counter.count == 7
    advance(guard, RETRY)
    assert (guard.fault, counter.count, stored_count(vault.query, keys)) == ("", 8, 8)


def test_a_step_that_was_done_unseen_is_not_done_twice(vault: Vault, keys: DataKeys) -> None:
    counter = FakeCounter()
    guard = watched(vault, keys, counter)
    guard.note(VaultChange.ROTATED)
    guard.advance(0)
    counter.increment()  # by a call that had no answer
    guard.settle()
    assert (counter.count, guard.suspected) == (8, "")


def test_a_counter_that_others_increment_is_suspicious(vault: Vault, keys: DataKeys) -> None:
    counter = FakeCounter()
    guard = watched(vault, keys, counter)
    guard.note(VaultChange.ROTATED)
    counter.count = 20
    advance(guard, 0)
    assert "old copy" in guard.suspected


def test_a_group_that_was_taken_back_steps_nothing(vault: Vault, keys: DataKeys) -> None:
    counter = FakeCounter()
    guard = watched(vault, keys, counter)
    guard.note(VaultChange.ROTATED)
    vault.begin()
    guard.advance(0)
    vault.rollback()
    guard.settle()
    assert (counter.count, guard.fault) == (7, "")


class TpmVault:
    """A vault whose key and counter are in a TPM, opened and closed again and again."""

    def __init__(self, directory: Path, running_tpm: EmulatedTpm) -> None:
        self.directory, self._chip = directory, running_tpm

    def open(self) -> Vault:
        return Vault(VaultSettings(key="tpm2", tcti=self._chip.tcti), self.directory)

    def do(self, act: Callable[[Vault], object], now: float = 0.0) -> StoreState:
        with closing(self.open()) as vault:
            act(vault)
            tend(vault, now)
            return vault.state

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.directory, self.directory.with_name(name)))

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.directory)
        shutil.copytree(copy, self.directory)


@pytest.fixture
def tpm_vault(tmp_path: Path, running_tpm: EmulatedTpm) -> TpmVault:
    return TpmVault(tmp_path / "state", running_tpm)


def put(vault: Vault) -> None:
    keep(vault, REF, b"x")


def nothing(_: Vault) -> None:
    pass


def forget(vault: Vault) -> None:
    with group(vault):
        vault.delete(REF)


def rotate(vault: Vault) -> None:
    with group(vault):
        admin.rotate(vault)


def test_restarts_alone_are_no_rollback(tpm_vault: TpmVault) -> None:
    for act in (put, nothing, forget, nothing, rotate, nothing, put):
        assert tpm_vault.do(act) is StoreState.DEGRADED  # there is no recovery key
    with closing(tpm_vault.open()) as vault:
        offline.finish_rotation(vault)
        assert vault.get(REF) == Secret(b"x")


@pytest.mark.parametrize("act", [put, forget, rotate])
def test_an_old_copy_is_read_only_until_an_operator_decides(
    tpm_vault: TpmVault, act: Callable[[Vault], None]
) -> None:
    tpm_vault.do(put)
    old = tpm_vault.copy("old")
    tpm_vault.do(act, HOUR)
    tpm_vault.put_back(old)
    with closing(tpm_vault.open()) as vault:
        assert (vault.state, tend(vault, 0)) == (StoreState.ROLLBACK_SUSPECTED, IDLE)
        assert "gatewayctl vault accept" in vault.why
        assert vault.get(REF) == Secret(b"x")
        calls: tuple[Callable[[], object], ...] = (
            lambda: vault.put(REF, Secret(b"y")), lambda: vault.delete(REF), vault.headroom,
            lambda: vault.quarantine(REF), lambda: vault.purge(0),
            lambda: admin.rotate(vault),
        )  # fmt: skip
        for call in calls:
            with pytest.raises(StoreRolledBack), group(vault):
                call()
        with group(vault):
            vault.accept()
        assert vault.state is StoreState.DEGRADED
        keep(vault, OTHER, b"z")
    assert tpm_vault.do(nothing) is StoreState.DEGRADED


def test_an_acceptance_that_was_taken_back_is_none(tpm_vault: TpmVault) -> None:
    tpm_vault.do(put)
    old = tpm_vault.copy("old")
    tpm_vault.do(put, HOUR)
    tpm_vault.put_back(old)
    with closing(tpm_vault.open()) as vault:
        vault.begin()
        vault.accept()
        vault.rollback()
        assert vault.state is StoreState.ROLLBACK_SUSPECTED
    assert tpm_vault.do(nothing) is StoreState.ROLLBACK_SUSPECTED


def test_a_counter_that_was_removed_is_replaced_by_reseal(tpm_vault: TpmVault) -> None:
    tpm_vault.do(put)
    with closing(tpm_vault.open()) as vault:
        slot = vault.key_slots.make("tpm2")
        slot.discard(vault.query("SELECT material FROM slot")[0][0])
    with closing(tpm_vault.open()) as vault:
        assert vault.state is StoreState.ROLLBACK_SUSPECTED
        with group(vault):
            vault.accept()
        assert rollback.GONE in vault.why
        with group(vault):
            admin.reseal(vault, "tpm2")
        assert rollback.GONE not in vault.why
        tend(vault, 0)
    assert tpm_vault.do(nothing) is StoreState.DEGRADED


def test_a_tpm_that_goes_while_serving_takes_nothing_with_it(tmp_path: Path) -> None:
    running_tpm = EmulatedTpm(tmp_path / "chip")
    running_tpm.start()
    tpm_vault = TpmVault(tmp_path / "state", running_tpm)
    with closing(running_tpm), closing(tpm_vault.open()) as vault:
        put(vault)
        running_tpm.stop()
        with pytest.raises(StoreUnavailable, match="'tpm2'"):
            rotate(vault)
        keep(vault, OTHER, b"y")
        tend(vault, HOUR)
        assert vault.state is StoreState.DEGRADED
        assert "counter" in vault.why
        assert vault.get(OTHER) == Secret(b"y")
        running_tpm.start()
        tend(vault, HOUR + RETRY)
        assert "counter" not in vault.why
        vault.close()
        assert tpm_vault.do(nothing) is StoreState.DEGRADED
