"""A key in a TPM: sealed, given back, refused, and never locked out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatewayd.secretstore.keyslots import tpm as tpmcounter
from gatewayd.secretstore.keyslots.base import NoKey
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm.esapi import HANDLE, TpmError, opened
from gatewayd.secretstore.tpm.policy import SignedPolicy
from tests.secretstore.chip import Chip
from tests.secretstore.owner import Owner


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chip]:
    chip = Chip(tmp_path_factory.mktemp("chip") / "state")
    chip.start()
    yield chip
    chip.close()


@pytest.fixture(params=["ecc", "rsa"])
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> Owner:
    if request.param == "rsa":
        return Owner(tmp_path, rsa.generate_private_key(65537, 2048))
    return Owner(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def test_a_key_is_given_back_and_nothing_stays_in_the_tpm(chip: Chip) -> None:
    slot = TpmSlot(chip.tcti)
    offer = slot.provide(os.urandom)
    assert len(offer.secret) == 32
    assert offer.secret not in offer.material
    for _ in range(5):  # more often than a TPM has room for
        assert slot.read(offer.material) == offer.secret
    assert chip.loaded() == 0


def test_each_key_is_another(chip: Chip) -> None:
    slot = TpmSlot(chip.tcti, with_counter=False)
    assert slot.provide(os.urandom).secret != slot.provide(os.urandom).secret


def test_another_tpm_does_not_give_it(chip: Chip, tmp_path: Path) -> None:
    material = TpmSlot(chip.tcti).provide(os.urandom).material
    other = Chip(tmp_path / "other")
    other.start()
    try:
        with pytest.raises(NoKey, match="not the TPM that has sealed the key"):
            TpmSlot(other.tcti).read(material)
    finally:
        other.close()


@pytest.mark.parametrize("what", [b"", b"{}", b"nonsense", b'{"counter": 1}', b"[]"])
def test_damaged_material_is_told(chip: Chip, what: bytes) -> None:
    with pytest.raises(NoKey, match="damaged"):
        TpmSlot(chip.tcti).read(what)


def test_a_sealed_key_that_was_bent_is_refused(chip: Chip) -> None:
    slot = TpmSlot(chip.tcti)
    material = slot.provide(os.urandom).material
    at = material.index(b'"private": "') + 80
    bent = material[:at] + (b"A" if material[at : at + 1] != b"A" else b"B") + material[at + 1 :]
    with pytest.raises(NoKey, match="refuses the sealed key"):
        slot.read(bent)


@pytest.mark.parametrize(
    ("tcti", "why"),
    [
        ("swtpm:path=/nowhere/tpm", "does not answer"),
        ("device:/nowhere/tpmrm0", "/nowhere/tpmrm0 does not exist"),
        ("nonsense:x", "does not answer"),
    ],
)
def test_a_tpm_that_is_not_there_is_told(tcti: str, why: str) -> None:
    slot = TpmSlot(tcti)
    for call in (lambda: slot.provide(os.urandom), lambda: slot.read(b"{}")):
        with pytest.raises(NoKey, match="recovery key"):
            call()
    with pytest.raises(TpmError, match=why):
        slot.boot_policy()


def test_a_device_of_others_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tpmrm0").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read anything
    with pytest.raises(TpmError, match="cannot be used by this user"):
        TpmSlot(f"device:{tmp_path}/tpmrm0").boot_policy()


def test_without_the_library_the_package_is_named(
    chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = TpmSlot(chip.tcti).provide(os.urandom).material
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(NoKey, match="install python3-tpm2-pytss"):
        TpmSlot(chip.tcti).read(material)


def test_a_signed_policy_lets_the_next_boot_in(chip: Chip, owner: Owner) -> None:
    slot = TpmSlot(chip.tcti, owner.files)
    owner.sign(slot.boot_policy())
    offer = slot.provide(os.urandom)
    assert slot.read(offer.material) == offer.secret
    before = chip.lockouts()
    chip.extend(os.urandom(32))
    for _ in range(8):  # more often than a TPM bears a wrong PIN
        with pytest.raises(NoKey, match="measured boot"):
            slot.read(offer.material)
    assert chip.lockouts() == before
    owner.sign(slot.boot_policy())
    assert slot.read(offer.material) == offer.secret


def test_a_public_key_that_begins_with_zeros_serves(chip: Chip, tmp_path: Path) -> None:
    keys = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 10_000))
    key = next(key for key in keys if key.public_key().public_numbers().x >> 248 == 0)
    owner = Owner(tmp_path, key)
    slot = TpmSlot(chip.tcti, owner.files)
    owner.sign(slot.boot_policy())
    offer = slot.provide(os.urandom)
    assert slot.read(offer.material) == offer.secret


def test_a_policy_that_somebody_else_signed_is_refused(chip: Chip, owner: Owner) -> None:
    slot = TpmSlot(chip.tcti, owner.files)
    owner.sign(slot.boot_policy())
    material = slot.provide(os.urandom).material
    owner.files.policy.write_bytes(os.urandom(32))
    with pytest.raises(NoKey, match="signature does not fit"):
        slot.read(material)


def test_a_key_under_a_policy_needs_its_files(chip: Chip, owner: Owner) -> None:
    owner.sign(TpmSlot(chip.tcti).boot_policy())
    material = TpmSlot(chip.tcti, owner.files).provide(os.urandom).material
    with pytest.raises(NoKey, match="tpm2_policy"):
        TpmSlot(chip.tcti).read(material)
    owner.files.signature.unlink()
    with pytest.raises(NoKey, match=r"pcr\.signature cannot be read"):
        TpmSlot(chip.tcti, owner.files).read(material)


def test_a_signature_that_is_none_is_told(chip: Chip, owner: Owner) -> None:
    slot = TpmSlot(chip.tcti, owner.files)
    owner.sign(slot.boot_policy())
    material = slot.provide(os.urandom).material
    owner.files.signature.write_bytes(b"nonsense")
    with pytest.raises(NoKey):
        slot.read(material)


def test_a_key_that_cannot_sign_a_policy_is_told(chip: Chip, tmp_path: Path) -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    files = SignedPolicy(tmp_path / "key.pem", tmp_path / "policy", tmp_path / "signature")
    files.key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(NoKey, match="no public key, RSA or ECC"):
        TpmSlot(chip.tcti, files).provide(os.urandom)


def test_the_counter_counts_up_for_who_has_the_key(chip: Chip) -> None:
    slot = TpmSlot(chip.tcti)
    offer = slot.provide(os.urandom)
    counter = slot.counter(offer.material, offer.secret)
    assert counter is not None
    first = counter.read()
    counter.step()
    assert counter.read() == first + 1
    stranger = slot.counter(offer.material, bytes(32))
    assert stranger is not None
    before = chip.lockouts()
    for call in (stranger.step, stranger.read):
        with pytest.raises(TpmError):
            call()
    assert (chip.lockouts(), counter.read()) == (before, first + 1)


def test_a_counter_that_is_given_up_is_gone(chip: Chip, caplog: pytest.LogCaptureFixture) -> None:
    slot = TpmSlot(chip.tcti)
    offer = slot.provide(os.urandom)
    counter = slot.counter(offer.material, offer.secret)
    assert counter is not None
    slot.discard(offer.material)
    with pytest.raises(TpmError) as caught:
        counter.read()
    assert caught.value.code == HANDLE
    assert not caplog.text
    slot.discard(offer.material)
    assert "stays behind" in caplog.text


def test_a_new_counter_takes_no_index_that_is_taken(chip: Chip) -> None:
    numbers = iter([bytes(4), bytes(4), b"\0\0\0\1"])
    with opened(chip.tcti) as tpm:
        first = tpmcounter.define(tpm, b"x" * 32, lambda _: next(numbers))
        second = tpmcounter.define(tpm, b"x" * 32, lambda _: next(numbers))
        assert (first, second) == (tpmcounter.FIRST, tpmcounter.FIRST + 1)
        with pytest.raises(TpmError):
            tpmcounter.define(tpm, b"x" * 32, bytes)
        for index in (first, second):
            tpmcounter.remove(tpm, index)
