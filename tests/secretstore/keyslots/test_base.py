"""Where the key comes from, and what is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gatewayd.secretstore.keyslots.base import CredentialSlot, DevelopmentSlot, NoKey

KEY = bytes(range(32))


def given(size: int) -> bytes:
    return KEY[:size]


def test_a_credential_is_read_and_never_made(tmp_path: Path) -> None:
    slot = CredentialSlot(tmp_path)
    for missing in (slot.read, lambda: slot.provide(given)):
        with pytest.raises(NoKey, match="load the systemd credential"):
            missing()
    (tmp_path / "vault.key").write_bytes(KEY)
    assert slot.read() == slot.provide(os.urandom).secret == KEY


def test_without_credentials_the_remedy_is_told() -> None:
    with pytest.raises(NoKey, match=r"gatewayd\(8\)"):
        CredentialSlot(None).read()


def test_an_empty_credential_is_one_that_systemd_could_not_open(tmp_path: Path) -> None:
    (tmp_path / "vault.key").touch()
    with pytest.raises(NoKey, match="cannot open it"):
        CredentialSlot(tmp_path).read()


@pytest.mark.parametrize("size", [1, 31, 33])
def test_a_key_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "vault.key").write_bytes(bytes(size))
    (tmp_path / "vault.key").chmod(0o600)
    for slot in (CredentialSlot(tmp_path), DevelopmentSlot(tmp_path / "vault.key")):
        with pytest.raises(NoKey, match="no key of 32 bytes"):
            slot.read()


def test_a_development_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "development.key"
    slot = DevelopmentSlot(path)
    assert slot.provide(given).secret == KEY
    assert slot.provide(os.urandom).secret == slot.read() == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_half_made_before_a_power_cut_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "development.key.new").write_bytes(b"half")
    assert DevelopmentSlot(tmp_path / "development.key").provide(given).secret == KEY
    assert [p.name for p in tmp_path.iterdir()] == ["development.key"]


def test_a_development_key_that_is_gone_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match="put the key of this vault back"):
        DevelopmentSlot(tmp_path / "development.key").read()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "development.key"
    DevelopmentSlot(path).provide(given)
    path.chmod(mode)
    with pytest.raises(NoKey, match="chmod 600"):
        DevelopmentSlot(path).read()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(KEY)
    (tmp_path / "development.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoKey):
        DevelopmentSlot(tmp_path / "development.key").read()


def test_a_directory_that_is_not_there_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match="cannot be made"):
        DevelopmentSlot(tmp_path / "nowhere/development.key").provide(given)


def test_a_development_key_that_is_given_up_is_gone(tmp_path: Path) -> None:
    slot = DevelopmentSlot(tmp_path / "development.key")
    slot.provide(given)
    slot.discard(b"")
    slot.discard(b"")
    assert not list(tmp_path.iterdir())


def test_a_development_key_that_cannot_be_removed_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "development.key").mkdir()
    DevelopmentSlot(tmp_path / "development.key").discard(b"")
    assert "do it by hand" in caplog.text


def test_a_credential_stays_where_systemd_has_it(tmp_path: Path) -> None:
    (tmp_path / "vault.key").write_bytes(KEY)
    CredentialSlot(tmp_path).discard(b"")
    assert CredentialSlot(tmp_path).read() == KEY


def test_an_offer_does_not_show_its_secret(tmp_path: Path) -> None:
    offer = DevelopmentSlot(tmp_path / "development.key").provide(given)
    assert repr(KEY)[2:-1] not in repr(offer)
