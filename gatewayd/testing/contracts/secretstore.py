"""The contract of secret stores, as tests to inherit:

class TestMyStore(SecretStoreContract):
    def open(self, directory: Path) -> SecretStore:
        return MyStore(MyStore.Settings(), directory)

    def remove_key(self, directory: Path) -> None:
        (directory / "key").rename(directory / "key.away")

    def restore_key(self, directory: Path) -> None:
        (directory / "key.away").rename(directory / "key")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretNotFound, StoreSealed
from gatewayd.secretstore.store import Protection, SecretStore, StoreState

ONE, TWO = DeviceId("child-1"), DeviceId("child-2")
REF = SecretRef("cloud", ONE, 1)
VALUES = {
    "text": b"vIqp0cGZjbqHPiLoxUYkEKQ5C6p5DwWC",
    "empty": b"",
    "zero": b"\0",
    "no utf-8": bytes(range(256)),
    "64 KiB": bytes(range(256)) * 256,
}
TRIES = 60
STEP = 600.0
"""Seconds between two calls of `tend`: longer than any store waits before it tries again."""
CANARY = b"a-secret-that-must-not-be-found-on-the-disk"


@contextmanager
def group(store: SecretStore) -> Iterator[None]:
    """Commit what the block does to a store as one group; roll it back if the block fails."""
    store.begin()
    try:
        yield
        store.commit()
    except BaseException:
        store.rollback()
        raise


def keep(store: SecretStore, ref: SecretRef, value: bytes) -> None:
    """Put one secret, durably."""
    with group(store):
        store.put(ref, Secret(value))


def tend(store: SecretStore, now: float) -> float:
    """Let a store do one step of what is due, durably."""
    with group(store):
        return store.tend(now)


def tend_until(store: SecretStore, reached: Callable[[], bool]) -> None:
    """Let a store do what is due until a condition holds.  Raises AssertionError."""
    for number in range(TRIES):
        if reached():
            return
        assert tend(store, number * STEP) >= 0
    raise AssertionError(f"it is {store.state}: {store.why}")


class SecretStoreContract(ABC):
    """What holds of every secret store.  Implement `open`, `remove_key` and `restore_key`."""

    @abstractmethod
    def open(self, directory: Path) -> SecretStore:
        """Open the store in a directory, with its key; it may have been there before."""

    @abstractmethod
    def remove_key(self, directory: Path) -> None:
        """Take the key away, so that the next `open` finds none."""

    @abstractmethod
    def restore_key(self, directory: Path) -> None:
        """Bring back the key that `remove_key` took away; a store that is open finds it."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SecretStore]:
        with closing(self.open(tmp_path)) as store:
            yield store

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_what_was_put_is_got(self, store: SecretStore, value: bytes) -> None:
        keep(store, REF, value)
        assert store.get(REF) == Secret(value)

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_it_is_there_after_a_restart(self, tmp_path: Path, value: bytes) -> None:
        with closing(self.open(tmp_path)) as store:
            keep(store, REF, value)
        with closing(self.open(tmp_path)) as store:
            assert store.get(REF) == Secret(value)
            assert list(store.refs()) == [REF]

    def test_a_new_attempt_is_a_new_slot(self, store: SecretStore) -> None:
        keep(store, REF, b"first")
        keep(store, SecretRef("cloud", ONE, 2), b"second")
        assert store.get(REF) == Secret(b"first")

    def test_no_two_names_share_a_slot(self, store: SecretStore) -> None:
        refs = [
            REF,
            SecretRef("cloud2", ONE, 1),
            SecretRef("cloud", TWO, 1),
            SecretRef("cloud", ONE, 11),
            SecretRef("cloud", ONE, 1, "other-kind"),
        ]
        for number, ref in enumerate(refs):
            keep(store, ref, bytes([number]))
        assert [store.get(ref) for ref in refs] == [Secret(bytes([n])) for n in range(len(refs))]

    def test_putting_again_replaces(self, store: SecretStore) -> None:
        keep(store, REF, b"once")
        keep(store, REF, b"again")
        assert store.get(REF) == Secret(b"again")
        assert list(store.refs()) == [REF]

    def test_an_empty_slot_says_so(self, store: SecretStore) -> None:
        with pytest.raises(SecretNotFound):
            store.get(REF)

    def test_deleting_empties_one_slot(self, store: SecretStore) -> None:
        other = SecretRef("cloud", TWO, 1)
        keep(store, REF, b"x")
        keep(store, other, b"y")
        with group(store):
            store.delete(REF)
            store.delete(SecretRef("cloud", ONE, 9))
        with pytest.raises(SecretNotFound):
            store.get(REF)
        assert store.get(other) == Secret(b"y")

    def test_slots_are_listed_in_order(self, store: SecretStore) -> None:
        refs = [SecretRef(p, d, n) for p in ("a", "b") for d in (ONE, TWO) for n in (1, 2, 10)]
        for ref in reversed(refs):
            keep(store, ref, b"x")
        assert list(store.refs()) == refs

    def test_the_slots_of_one_device_are_listed(self, store: SecretStore) -> None:
        for device in (ONE, TWO, DeviceId("child-11"), DeviceId("child")):
            keep(store, SecretRef("cloud", device, 1), b"x")
        keep(store, SecretRef("another", ONE, 2), b"x")
        assert list(store.refs(ONE)) == [SecretRef("another", ONE, 2), REF]

    def test_what_is_quarantined_is_as_if_empty(self, store: SecretStore) -> None:
        keep(store, REF, b"x")
        with group(store):
            store.quarantine(REF)
            store.quarantine(SecretRef("cloud", TWO, 1))
        with pytest.raises(SecretNotFound):
            store.get(REF)
        assert not list(store.refs())
        keep(store, REF, b"y")
        assert store.get(REF) == Secret(b"y")

    def test_there_is_room_on_an_empty_disk(self, store: SecretStore) -> None:
        store.headroom()
        assert store.protection is not Protection.NONE

    def test_without_its_key_it_lists_and_deletes_only(self, tmp_path: Path) -> None:
        with closing(self.open(tmp_path)) as store:
            keep(store, REF, b"x")
        self.remove_key(tmp_path)
        with closing(self.open(tmp_path)) as store:
            assert store.protection is Protection.NONE
            assert store.why
            assert list(store.refs()) == [REF]
            for call in (lambda: store.get(REF), lambda: keep(store, REF, b"y"), store.headroom):
                with pytest.raises(StoreSealed):
                    call()
            with group(store):
                store.delete(REF)
            assert not list(store.refs())

    def test_its_condition_is_one_truth(self, tmp_path: Path) -> None:
        with closing(self.open(tmp_path)) as store:
            assert store.state.value in ("unsealed", "degraded")
            assert bool(store.why) == (store.state is StoreState.DEGRADED)
        assert store.state.value == "sealed"
        self.remove_key(tmp_path)
        with closing(self.open(tmp_path)) as store:
            assert store.state is StoreState.SEALED
            assert store.why

    def test_it_takes_its_key_when_that_comes_back(self, tmp_path: Path) -> None:
        with closing(self.open(tmp_path)) as store:
            keep(store, REF, b"x")
        self.remove_key(tmp_path)
        with closing(self.open(tmp_path)) as store:
            assert tend(store, 0) >= 0
            assert store.state is StoreState.SEALED
            self.restore_key(tmp_path)
            tend_until(store, lambda: store.state is not StoreState.SEALED)
            assert store.protection is not Protection.NONE
            assert store.get(REF) == Secret(b"x")
            keep(store, REF, b"y")

    def test_a_store_with_nothing_to_do_rests(self, store: SecretStore) -> None:
        keep(store, REF, b"x")
        while tend(store, 0) == 0:
            pass
        assert tend(store, 0) > 0
        assert store.get(REF) == Secret(b"x")

    def test_no_secret_is_on_the_disk_in_the_clear(self, tmp_path: Path) -> None:
        with closing(self.open(tmp_path)) as store:
            keep(store, REF, CANARY)
            assert not _found(tmp_path)
        assert not _found(tmp_path)

    def test_closing_twice_is_fine(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.close()
        store.close()


def _found(directory: Path) -> list[Path]:
    return [p for p in directory.rglob("*") if p.is_file() and CANARY in p.read_bytes()]
