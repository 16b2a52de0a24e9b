"""A keyring as the secret store: the laws of every store, then what keyrings do wrong."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from keyring.errors import KeyringLocked

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import (
    PluginError,
    SecretCorrupt,
    SecretNotFound,
    StoreError,
    StoreFull,
    StoreSealed,
    StoreUnavailable,
)
from gatewayd.secretstore.keyring import store as keyring_store
from gatewayd.secretstore.keyring.store import KeyringSettings, KeyringStore
from gatewayd.secretstore.store import QUARANTINE, Protection, SecretStore
from gatewayd.testing.contracts.secretstore import (
    CANARY,
    REF,
    SecretStoreContract,
    group,
    keep,
    tend,
)
from tests.support.keyrings import LEFT_OPEN, PASSWORD, FaultyKeyring, SecretService, secret_service

__all__ = ["secret_service"]

OTHER = SecretRef("cloud", DeviceId("child-2"), 1)
NAMES = ("gatewayd/cloud", "child-1/device-secret#1")


class TestFileKeyring(SecretStoreContract):
    def open(self, directory: Path) -> SecretStore:
        ring = directory / "ring"
        if not ring.exists():
            ring.mkdir()
            (ring / "opener").write_text(PASSWORD)
        backend = "tests.support.keyrings.FileKeyring"
        properties = {"file_path": str(ring / "ring.cfg")}
        return KeyringStore(KeyringSettings(backend, properties), directory)

    def remove_key(self, directory: Path) -> None:
        (directory / "ring/opener").unlink()

    def restore_key(self, directory: Path) -> None:
        (directory / "ring/opener").write_text(PASSWORD)


@pytest.mark.integration
@LEFT_OPEN
class TestSecretService(SecretStoreContract):
    @pytest.fixture(autouse=True)
    def serve(self, secret_service: SecretService) -> None:
        self.service = secret_service

    def open(self, directory: Path) -> SecretStore:
        return KeyringStore(KeyringSettings("SecretService"), directory)

    def remove_key(self, directory: Path) -> None:
        self.service.lock()

    def restore_key(self, directory: Path) -> None:
        self.service.stop()
        self.service.start()


@pytest.mark.integration
@LEFT_OPEN
def test_a_service_that_vanishes_and_returns_has_lost_nothing(
    secret_service: SecretService, tmp_path: Path
) -> None:
    with closing(KeyringStore(KeyringSettings("SecretService"), tmp_path)) as store:
        keep(store, REF, b"kept")
        secret_service.stop()
        with pytest.raises(StoreUnavailable, match="SecretService"):
            store.get(REF)
        assert str(store.protection) == "none"
        with pytest.raises(StoreUnavailable):
            keep(store, OTHER, b"x")
        secret_service.start()
        assert store.get(REF) == Secret(b"kept")
        assert store.protection == Protection.KEYRING
        keep(store, OTHER, b"x")
        assert list(store.refs()) == [REF, OTHER]


@pytest.mark.integration
@LEFT_OPEN
def test_a_service_whose_keyring_stays_locked_seals(
    secret_service: SecretService, tmp_path: Path
) -> None:
    with closing(KeyringStore(KeyringSettings("SecretService"), tmp_path)) as store:
        keep(store, REF, b"kept")
    secret_service.stop()
    secret_service.start("wrong")
    with closing(KeyringStore(KeyringSettings("SecretService"), tmp_path)) as store:
        assert "locked" in store.why
        assert list(store.refs()) == [REF]
        with pytest.raises(StoreSealed):
            store.headroom()


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultyKeyring]:
    monkeypatch.setattr(FaultyKeyring, "entries", {})
    monkeypatch.setattr(FaultyKeyring, "raises", None)
    monkeypatch.setattr(FaultyKeyring, "waits", None)
    monkeypatch.setattr(FaultyKeyring, "forgets", False)
    return FaultyKeyring


def opened(directory: Path) -> KeyringStore:
    return KeyringStore(KeyringSettings("tests.support.keyrings.FaultyKeyring"), directory)


@pytest.fixture
def store(faulty: type[FaultyKeyring], tmp_path: Path) -> Iterator[KeyringStore]:
    with closing(opened(tmp_path)) as store:
        yield store


def test_an_entry_has_the_names_an_operator_would_type(
    store: KeyringStore, faulty: type[FaultyKeyring]
) -> None:
    keep(store, REF, b"\x00secret")
    assert faulty.entries[NAMES] == "AHNlY3JldA=="


@pytest.mark.parametrize(
    ("fault", "error", "why"),
    [
        (KeyringLocked("x"), StoreSealed, "locked"),
        (ConnectionError("x"), StoreUnavailable, "ConnectionError"),
        (RuntimeError(CANARY.decode()), StoreUnavailable, "RuntimeError"),
        (OSError(errno.ENOSPC, "x"), StoreFull, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_fault_is_reported_and_ends(
    store: KeyringStore,
    faulty: type[FaultyKeyring],
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    error: type[Exception],
    why: str,
) -> None:
    keep(store, REF, b"kept")
    monkeypatch.setattr(faulty, "raises", fault)
    for call in (lambda: store.get(REF), lambda: keep(store, OTHER, CANARY)):
        with pytest.raises(error) as caught:
            call()
        assert CANARY.decode() not in str(caught.value)
    assert why in store.why
    assert (store.protection == Protection.NONE) == bool(why)
    monkeypatch.setattr(faulty, "raises", None)
    assert store.get(REF) == Secret(b"kept")
    assert store.protection == Protection.KEYRING
    keep(store, OTHER, b"x")


def test_a_keyring_that_does_not_keep_is_found_out(
    store: KeyringStore, faulty: type[FaultyKeyring], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faulty, "forgets", True)
    with pytest.raises(StoreUnavailable, match="does not keep"):
        keep(store, REF, b"x")


def test_another_keyring_is_found_out(
    store: KeyringStore, faulty: type[FaultyKeyring], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, REF, b"x")
    was = faulty.entries
    monkeypatch.setattr(faulty, "entries", {})
    with pytest.raises(StoreSealed):
        store.get(REF)
    monkeypatch.setattr(faulty, "entries", was)
    assert store.get(REF) == Secret(b"x")


def test_an_entry_that_was_deleted_is_empty(
    store: KeyringStore, faulty: type[FaultyKeyring]
) -> None:
    keep(store, REF, b"x")
    keep(store, OTHER, b"y")
    del faulty.entries[NAMES]
    with pytest.raises(SecretNotFound):
        store.get(REF)
    assert store.get(OTHER) == Secret(b"y")


def test_a_damaged_entry_is_quarantined(
    store: KeyringStore, faulty: type[FaultyKeyring], caplog: pytest.LogCaptureFixture
) -> None:
    keep(store, REF, CANARY)
    faulty.entries[NAMES] = "!" + CANARY.decode()
    with pytest.raises(SecretCorrupt):
        store.get(REF)
    assert not list(store.refs())
    assert CANARY.decode() not in caplog.text
    assert faulty.entries[NAMES], "it can still be rescued"


def test_what_is_aside_is_not_overwritten_and_goes_after_thirty_days(
    store: KeyringStore, faulty: type[FaultyKeyring]
) -> None:
    keep(store, REF, b"old")
    with group(store):
        store.quarantine(REF)
    keep(store, REF, b"new")
    for now, held in ((5, 3), (QUARANTINE + 4, 3), (QUARANTINE + 5, 2)):
        with group(store):
            store.purge(now)
        assert len(faulty.entries) == held  # one of them is the witness
    assert store.get(REF) == Secret(b"new")
    assert NAMES not in faulty.entries


def test_what_replaces_is_written_beside_until_it_is_there(
    store: KeyringStore, faulty: type[FaultyKeyring]
) -> None:
    keep(store, REF, b"old")
    store.begin()
    store.put(REF, Secret(b"new"))
    assert len(faulty.entries) == 3
    store.commit()
    assert store.get(REF) == Secret(b"new")
    assert len(faulty.entries) == 2


def test_a_group_that_is_taken_back_deletes_nothing(store: KeyringStore) -> None:
    keep(store, REF, b"x")
    for back in (store.undo, store.rollback):
        store.begin()
        store.mark()
        store.delete(REF)
        assert not list(store.refs())
        back()
        assert store.get(REF) == Secret(b"x")
        store.rollback()


def test_what_could_not_be_deleted_is_deleted_later(
    store: KeyringStore, faulty: type[FaultyKeyring], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, REF, b"x")
    monkeypatch.setattr(faulty, "raises", KeyringLocked("x"))
    with group(store):
        store.delete(REF)
    assert not list(store.refs())
    assert NAMES in faulty.entries
    monkeypatch.setattr(faulty, "raises", None)
    keep(store, OTHER, b"y")
    assert NAMES not in faulty.entries


@pytest.mark.parametrize("reached_the_keyring", [True, False])
def test_a_write_that_a_crash_interrupted_is_settled(
    store: KeyringStore, tmp_path: Path, faulty: type[FaultyKeyring], *, reached_the_keyring: bool
) -> None:
    keep(store, OTHER, b"y")
    store._index.intend(*NAMES)
    store.close()
    if reached_the_keyring:
        faulty.entries[NAMES] = "eA=="
    with closing(opened(tmp_path)) as again:
        assert list(again.refs()) == ([REF, OTHER] if reached_the_keyring else [OTHER])
        if reached_the_keyring:
            assert again.get(REF) == Secret(b"x")


def test_a_keyring_that_is_gone_at_the_start_is_waited_for(
    store: KeyringStore,
    tmp_path: Path,
    faulty: type[FaultyKeyring],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep(store, REF, b"x")
    store.close()
    monkeypatch.setattr(faulty, "raises", ConnectionError())
    with closing(opened(tmp_path)) as again:
        assert str(again.protection) == "none"
        assert list(again.refs()) == [REF]
        with pytest.raises(StoreUnavailable):
            again.headroom()
        monkeypatch.setattr(faulty, "raises", None)
        again.headroom()
        assert again.protection == Protection.KEYRING


def test_a_keyring_that_hangs_is_reported_and_waited_for(
    faulty: type[FaultyKeyring], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring_store, "TIMEOUT", 0.05)
    with closing(opened(tmp_path)) as store:
        monkeypatch.setattr(keyring_store, "TIMEOUT", 30)
        keep(store, REF, b"x")
        answer = threading.Event()
        monkeypatch.setattr(faulty, "waits", answer)
        for call in (lambda: store.get(REF), lambda: keep(store, OTHER, b"y"), store.headroom):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                call()
            assert store.protection is Protection.NONE
            assert list(store.refs()) == [REF]
        (hanging,) = [t for t in threading.enumerate() if t.name == "timeout-call"]
        answer.set()
        hanging.join(30)
        assert store.get(REF) == Secret(b"x")
        keep(store, OTHER, b"y")
        assert store.protection is Protection.KEYRING


def test_what_seals_it_and_its_end_are_logged_once(
    store: KeyringStore,
    faulty: type[FaultyKeyring],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = ((None, 0, 0), (KeyringLocked("x"), 1, 0), (None, 1, 1), (ConnectionError("x"), 2, 1))
    for fault, sealed, unsealed in faults:
        monkeypatch.setattr(faulty, "raises", fault)
        with suppress(StoreError):
            keep(store, REF, b"x")
        for now in range(3):
            tend(store, now)
        assert caplog.text.count("The keyring is sealed") == sealed
        assert caplog.text.count("The keyring is unsealed now") == unsealed


def test_the_environment_does_not_steer(
    faulty: type[FaultyKeyring], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setenv("KEYRING_PROPERTY_FORGETS", "yes")
    with closing(opened(tmp_path)) as store:
        keep(store, REF, b"x")
        assert store.get(REF) == Secret(b"x")


def test_a_backend_that_is_refused_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="PlaintextKeyring"):
        KeyringStore(KeyringSettings("keyrings.alt.file.PlaintextKeyring"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_settings_are_judged_before_anything_is_loaded() -> None:
    found = KeyringSettings("keyring.backends.null.Keyring", {"keyring_key": "x"}).problems()
    assert [text.rpartition(": ")[0] for text in found] == [
        "the keyring backend keyring.backends.null.Keyring is refused: it keeps nothing",
        "the property 'keyring_key' must not be a secret",
    ]
