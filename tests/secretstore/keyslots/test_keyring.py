"""One master key in a keyring: found again, never mixed up, and told of when it is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gatewayd.errors import PluginError
from gatewayd.secretstore.keyring.backends import Entries
from gatewayd.secretstore.keyslots.base import KeySlot, NoKey
from gatewayd.secretstore.keyslots.factory import Slots, VaultSettings
from gatewayd.secretstore.keyslots.keyring import KeyringSlot
from tests.secretstore.locker import NAME


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    return tmp_path / "ring"


@pytest.fixture
def slot(ring: Path, tmp_path: Path) -> KeySlot:
    settings = VaultSettings(keyring_backend=NAME, keyring_properties={"file_path": str(ring)})
    return Slots(settings, tmp_path, None).of("keyring")


def test_a_key_is_kept_and_found_again(slot: KeySlot, ring: Path) -> None:
    offer = slot.provide(os.urandom)
    assert slot.read(offer.material) == offer.secret
    assert offer.secret not in offer.material
    (entry,) = json.loads(ring.read_text())
    assert entry.startswith("gatewayd-vault ")


def test_two_vaults_in_one_keyring_have_two_keys(slot: KeySlot) -> None:
    one, two = slot.provide(os.urandom), slot.provide(os.urandom)
    assert (slot.read(one.material), slot.read(two.material)) == (one.secret, two.secret)
    slot.discard(one.material)
    assert slot.read(two.material) == two.secret
    with pytest.raises(NoKey, match="no key for this vault"):
        slot.read(one.material)


def test_a_locked_keyring_is_told(
    slot: KeySlot, ring: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offer = slot.provide(os.urandom)
    Path(f"{ring}.locked").touch()
    for call in (lambda: slot.read(offer.material), lambda: slot.provide(os.urandom)):
        with pytest.raises(NoKey, match="is locked: unlock it"):
            call()
    slot.discard(offer.material)
    assert "stays behind" in caplog.text


@pytest.mark.parametrize("value", ["", "AAAA", "no base64!", "é" * 44])
def test_what_is_no_key_is_told(slot: KeySlot, ring: Path, value: str) -> None:
    offer = slot.provide(os.urandom)
    entries = json.loads(ring.read_text())
    ring.write_text(json.dumps(dict.fromkeys(entries, value)))
    with pytest.raises(NoKey, match="no key of a vault"):
        slot.read(offer.material)


@pytest.mark.parametrize("material", [b"", b"[]", b"{}", b"nonsense"])
def test_damaged_material_is_told(slot: KeySlot, material: bytes) -> None:
    with pytest.raises(NoKey, match=r"vault\.db is damaged"):
        slot.read(material)


@pytest.mark.parametrize(
    "name", ["keyrings.alt.file.PlaintextKeyring", "keyring.backends.null.Keyring"]
)
def test_an_unsafe_keyring_is_refused_by_name_and_reason(tmp_path: Path, name: str) -> None:
    slot = Slots(VaultSettings(keyring_backend=name), tmp_path, None).of("keyring")
    with pytest.raises(NoKey, match=f"{name} is refused: it"):
        slot.provide(os.urandom)


def test_a_keyring_that_is_not_installed_is_told() -> None:
    def missing() -> Entries:
        raise PluginError("no keyring backend x is installed")

    with pytest.raises(NoKey, match="no keyring backend x"):
        KeyringSlot(missing).provide(os.urandom)
