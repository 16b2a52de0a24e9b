"""Key slots without a TPM: a credential, a development file, a master key in a keyring."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.errors import PluginError
from gatewayd.secretstore.keyring.client import KeyringClient
from gatewayd.secretstore.keyslots.factory import KeySlotFactory, VaultSettings
from gatewayd.secretstore.keyslots.slots import (
    CredentialSlot,
    DevelopmentSlot,
    KeyringSlot,
    KeySlot,
    KeyUnavailable,
)
from gatewayd.secretstore.vault.crypto import KEY_SIZE
from tests.support.keyrings import LOCKABLE

KEY = bytes(range(32))


def given(size: int) -> bytes:
    return KEY[:size]


def test_a_credential_is_read_and_never_made(tmp_path: Path) -> None:
    slot = CredentialSlot(tmp_path)
    for missing in (slot.unseal, lambda: slot.enroll(given)):
        with pytest.raises(KeyUnavailable, match=r"vault\.key"):
            missing()
    (tmp_path / "vault.key").write_bytes(KEY)
    assert slot.unseal() == slot.enroll(os.urandom).secret == KEY


def test_without_credentials_the_remedy_is_named() -> None:
    with pytest.raises(KeyUnavailable, match=r"gatewayd\(8\)"):
        CredentialSlot(None).unseal()


def test_an_empty_credential_is_one_that_systemd_could_not_open(tmp_path: Path) -> None:
    (tmp_path / "vault.key").touch()
    with pytest.raises(KeyUnavailable, match="empty"):
        CredentialSlot(tmp_path, again=tmp_path / "none").unseal()


@contextlib.contextmanager
def passing(path: Path, *keys: bytes) -> Iterator[None]:
    """Pass these keys at a socket, as gatewayd-vault-key.socket does: one to each who connects."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for key in keys:
                connection, _ = listener.accept()
                with connection:
                    connection.send(key[:1])
                    connection.send(key[1:])

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_a_key_that_could_not_be_opened_at_the_start_is_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "vault.key").touch()
    (tmp_path / "other").touch()
    slot = CredentialSlot(tmp_path, again=tmp_path / "socket")
    with passing(tmp_path / "socket", b"", KEY, bytes(KEY_SIZE + 8)):
        with pytest.raises(KeyUnavailable, match="empty"):
            slot.unseal()  # the TPM does not answer yet
        assert slot.unseal() == KEY
        with pytest.raises(KeyUnavailable, match="no key of 32 bytes"):
            slot.unseal()
        with pytest.raises(KeyUnavailable, match="empty"):  # another credential is not passed there
            CredentialSlot(tmp_path, "other", tmp_path / "socket").unseal()


@pytest.mark.parametrize("size", [1, 31, 33])
def test_a_key_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "vault.key").write_bytes(bytes(size))
    (tmp_path / "vault.key").chmod(0o600)
    for slot in (CredentialSlot(tmp_path), DevelopmentSlot(tmp_path / "vault.key")):
        with pytest.raises(KeyUnavailable, match="no key of 32 bytes"):
            slot.unseal()


def test_a_development_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "development.key"
    slot = DevelopmentSlot(path)
    assert slot.enroll(given).secret == KEY
    assert slot.enroll(os.urandom).secret == slot.unseal() == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_half_made_before_a_power_cut_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "development.key.new").write_bytes(b"half")
    assert DevelopmentSlot(tmp_path / "development.key").enroll(given).secret == KEY
    assert [p.name for p in tmp_path.iterdir()] == ["development.key"]


def test_a_development_key_that_is_gone_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match=r"development\.key cannot be read"):
        DevelopmentSlot(tmp_path / "development.key").unseal()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "development.key"
    DevelopmentSlot(path).enroll(given)
    path.chmod(mode)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        DevelopmentSlot(path).unseal()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(KEY)
    (tmp_path / "development.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyUnavailable):
        DevelopmentSlot(tmp_path / "development.key").unseal()


def test_a_directory_that_is_not_there_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="cannot be made"):
        DevelopmentSlot(tmp_path / "nowhere/development.key").enroll(given)


def test_a_development_key_that_is_given_up_is_gone(tmp_path: Path) -> None:
    slot = DevelopmentSlot(tmp_path / "development.key")
    slot.enroll(given)
    slot.discard(b"")
    slot.discard(b"")
    assert not list(tmp_path.iterdir())


def test_a_development_key_that_cannot_be_removed_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "development.key").mkdir()
    DevelopmentSlot(tmp_path / "development.key").discard(b"")
    assert "development.key" in caplog.text


def test_a_credential_stays_where_systemd_has_it(tmp_path: Path) -> None:
    (tmp_path / "vault.key").write_bytes(KEY)
    CredentialSlot(tmp_path).discard(b"")
    assert CredentialSlot(tmp_path).unseal() == KEY


def test_an_offer_does_not_show_its_secret(tmp_path: Path) -> None:
    offer = DevelopmentSlot(tmp_path / "development.key").enroll(given)
    assert repr(KEY)[2:-1] not in repr(offer)


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    return tmp_path / "ring"


@pytest.fixture
def slot(ring: Path, tmp_path: Path) -> KeySlot:
    settings = VaultSettings(keyring_backend=LOCKABLE, keyring_properties={"file_path": str(ring)})
    return KeySlotFactory(settings, tmp_path, None).make("keyring")


def test_a_key_is_kept_and_found_again(slot: KeySlot, ring: Path) -> None:
    offer = slot.enroll(os.urandom)
    assert slot.unseal(offer.material) == offer.secret
    assert offer.secret not in offer.material
    (entry,) = json.loads(ring.read_text())
    assert entry.startswith("gatewayd-vault ")


def test_two_vaults_in_one_keyring_have_two_keys(slot: KeySlot) -> None:
    one, two = slot.enroll(os.urandom), slot.enroll(os.urandom)
    assert (slot.unseal(one.material), slot.unseal(two.material)) == (one.secret, two.secret)
    slot.discard(one.material)
    assert slot.unseal(two.material) == two.secret
    with pytest.raises(KeyUnavailable, match="no key for this vault"):
        slot.unseal(one.material)


@pytest.mark.parametrize("material", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000])
def test_material_that_names_no_entry_is_damage(slot: KeySlot, material: bytes) -> None:
    with pytest.raises(KeyUnavailable, match="damaged"):
        slot.unseal(material)


def test_a_locked_keyring_is_reported(
    slot: KeySlot, ring: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offer = slot.enroll(os.urandom)
    Path(f"{ring}.locked").touch()
    for call in (lambda: slot.unseal(offer.material), lambda: slot.enroll(os.urandom)):
        with pytest.raises(KeyUnavailable, match="locked"):
            call()
    slot.discard(offer.material)
    assert "locked" in caplog.text


@pytest.mark.parametrize("value", ["", "AAAA", "no base64!", "é" * 44])
def test_what_is_no_key_is_refused(slot: KeySlot, ring: Path, value: str) -> None:
    offer = slot.enroll(os.urandom)
    entries = json.loads(ring.read_text())
    ring.write_text(json.dumps(dict.fromkeys(entries, value)))
    with pytest.raises(KeyUnavailable, match="no key of 32 bytes"):
        slot.unseal(offer.material)


@pytest.mark.parametrize("material", [b"", b"[]", b"{}", b"nonsense"])
def test_damaged_material_is_refused(slot: KeySlot, material: bytes) -> None:
    with pytest.raises(KeyUnavailable, match=r"vault\.db is damaged"):
        slot.unseal(material)


@pytest.mark.parametrize(
    "name", ["keyrings.alt.file.PlaintextKeyring", "keyring.backends.null.Keyring"]
)
def test_an_unsafe_keyring_is_refused_by_name_and_reason(tmp_path: Path, name: str) -> None:
    slot = KeySlotFactory(VaultSettings(keyring_backend=name), tmp_path, None).make("keyring")
    with pytest.raises(KeyUnavailable, match=name):
        slot.enroll(os.urandom)


def test_a_keyring_that_is_not_installed_is_reported() -> None:
    def missing() -> KeyringClient:
        raise PluginError("no keyring backend x is installed")

    with pytest.raises(KeyUnavailable, match="no keyring backend x"):
        KeyringSlot(missing).enroll(os.urandom)
