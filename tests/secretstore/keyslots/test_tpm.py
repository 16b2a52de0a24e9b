"""A key in a TPM: sealed, given back, refused, and never locked out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatewayd.secretstore.keyslots.slots import KeyUnavailable
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm import nv_counter
from gatewayd.secretstore.tpm.esapi import HANDLE, OTHER_TPM, TpmError, open_tpm
from gatewayd.secretstore.tpm.policy import SignedPolicy
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.policy_signer import PolicySigner


@pytest.fixture(scope="module")
def emulated_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedTpm]:
    emulated_tpm = EmulatedTpm(tmp_path_factory.mktemp("chip") / "state")
    emulated_tpm.start()
    yield emulated_tpm
    emulated_tpm.close()


@pytest.fixture(params=["ecc", "rsa"])
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> PolicySigner:
    if request.param == "rsa":
        return PolicySigner(tmp_path, rsa.generate_private_key(65537, 2048))
    return PolicySigner(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def test_a_key_is_given_back_and_nothing_stays_in_the_tpm(emulated_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(emulated_tpm.tcti)
    offer = slot.enroll(os.urandom)
    assert len(offer.secret) == 32
    assert offer.secret not in offer.material
    for _ in range(5):  # more often than a TPM has room for
        assert slot.unseal(offer.material) == offer.secret
    assert emulated_tpm.loaded() == 0


def test_each_key_is_another(emulated_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(emulated_tpm.tcti, with_counter=False)
    assert slot.enroll(os.urandom).secret != slot.enroll(os.urandom).secret


def test_another_tpm_does_not_give_it(emulated_tpm: EmulatedTpm, tmp_path: Path) -> None:
    material = TpmSlot(emulated_tpm.tcti).enroll(os.urandom).material
    other = EmulatedTpm(tmp_path / "other")
    other.start()
    try:
        with pytest.raises(KeyUnavailable, match=OTHER_TPM):
            TpmSlot(other.tcti).unseal(material)
    finally:
        other.close()


@pytest.mark.parametrize("what", [b"", b"{}", b"nonsense", b'{"counter": 1}', b"[]"])
def test_damaged_material_is_told(emulated_tpm: EmulatedTpm, what: bytes) -> None:
    with pytest.raises(KeyUnavailable, match="damaged"):
        TpmSlot(emulated_tpm.tcti).unseal(what)


def test_a_sealed_key_that_was_bent_is_refused(emulated_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(emulated_tpm.tcti)
    material = slot.enroll(os.urandom).material
    at = material.index(b'"private": "') + 80
    damaged = material[:at] + (b"A" if material[at : at + 1] != b"A" else b"B") + material[at + 1 :]
    with pytest.raises(KeyUnavailable, match="refuses the sealed key"):
        slot.unseal(damaged)


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
    for call in (lambda: slot.enroll(os.urandom), lambda: slot.unseal(b"{}")):
        with pytest.raises(KeyUnavailable, match="recovery key"):
            call()
    with pytest.raises(TpmError, match=why):
        slot.boot_policy()


def test_a_device_of_others_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tpmrm0").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read anything
    with pytest.raises(TpmError, match="by this user"):
        TpmSlot(f"device:{tmp_path}/tpmrm0").boot_policy()


def test_without_the_library_the_package_is_named(
    emulated_tpm: EmulatedTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = TpmSlot(emulated_tpm.tcti).enroll(os.urandom).material
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(KeyUnavailable, match="python3-tpm2-pytss"):
        TpmSlot(emulated_tpm.tcti).unseal(material)


def test_a_signed_policy_lets_the_next_boot_in(
    emulated_tpm: EmulatedTpm, owner: PolicySigner
) -> None:
    slot = TpmSlot(emulated_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    offer = slot.enroll(os.urandom)
    assert slot.unseal(offer.material) == offer.secret
    before = emulated_tpm.lockouts()
    emulated_tpm.extend(os.urandom(32))
    for _ in range(8):  # more often than a TPM bears a wrong PIN
        with pytest.raises(KeyUnavailable, match="measured boot"):
            slot.unseal(offer.material)
    assert emulated_tpm.lockouts() == before
    owner.sign(slot.boot_policy())
    assert slot.unseal(offer.material) == offer.secret


def test_a_public_key_that_begins_with_zeros_serves(
    emulated_tpm: EmulatedTpm, tmp_path: Path
) -> None:
    keys = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 10_000))
    key = next(key for key in keys if key.public_key().public_numbers().x >> 248 == 0)
    owner = PolicySigner(tmp_path, key)
    slot = TpmSlot(emulated_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    offer = slot.enroll(os.urandom)
    assert slot.unseal(offer.material) == offer.secret


def test_a_policy_that_somebody_else_signed_is_refused(
    emulated_tpm: EmulatedTpm, owner: PolicySigner
) -> None:
    slot = TpmSlot(emulated_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    material = slot.enroll(os.urandom).material
    owner.files.policy.write_bytes(os.urandom(32))
    with pytest.raises(KeyUnavailable, match="signature does not fit"):
        slot.unseal(material)


def test_a_key_under_a_policy_needs_its_files(
    emulated_tpm: EmulatedTpm, owner: PolicySigner
) -> None:
    owner.sign(TpmSlot(emulated_tpm.tcti).boot_policy())
    material = TpmSlot(emulated_tpm.tcti, owner.files).enroll(os.urandom).material
    with pytest.raises(KeyUnavailable, match="tpm2_policy"):
        TpmSlot(emulated_tpm.tcti).unseal(material)
    owner.files.signature.unlink()
    with pytest.raises(KeyUnavailable, match=r"pcr\.signature cannot be read"):
        TpmSlot(emulated_tpm.tcti, owner.files).unseal(material)


def test_a_signature_that_is_none_is_told(emulated_tpm: EmulatedTpm, owner: PolicySigner) -> None:
    slot = TpmSlot(emulated_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    material = slot.enroll(os.urandom).material
    owner.files.signature.write_bytes(b"nonsense")
    with pytest.raises(KeyUnavailable):
        slot.unseal(material)


def test_a_key_that_cannot_sign_a_policy_is_told(emulated_tpm: EmulatedTpm, tmp_path: Path) -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    files = SignedPolicy(tmp_path / "key.pem", tmp_path / "policy", tmp_path / "signature")
    files.key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyUnavailable, match="no public key, RSA or ECC"):
        TpmSlot(emulated_tpm.tcti, files).enroll(os.urandom)


def test_the_counter_counts_up_for_who_has_the_key(emulated_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(emulated_tpm.tcti)
    offer = slot.enroll(os.urandom)
    counter = slot.counter(offer.material, offer.secret)
    assert counter is not None
    first = counter.read()
    counter.increment()
    assert counter.read() == first + 1
    stranger = slot.counter(offer.material, bytes(32))
    assert stranger is not None
    before = emulated_tpm.lockouts()
    for call in (stranger.increment, stranger.read):
        with pytest.raises(TpmError):
            call()
    assert (emulated_tpm.lockouts(), counter.read()) == (before, first + 1)


def test_a_counter_that_is_given_up_is_gone(
    emulated_tpm: EmulatedTpm, caplog: pytest.LogCaptureFixture
) -> None:
    slot = TpmSlot(emulated_tpm.tcti)
    offer = slot.enroll(os.urandom)
    counter = slot.counter(offer.material, offer.secret)
    assert counter is not None
    slot.discard(offer.material)
    with pytest.raises(TpmError) as caught:
        counter.read()
    assert caught.value.code == HANDLE
    assert not caplog.text
    slot.discard(offer.material)
    assert "counter" in caplog.text


def test_a_new_counter_takes_no_index_that_is_taken(emulated_tpm: EmulatedTpm) -> None:
    numbers = iter([bytes(4), bytes(4), b"\0\0\0\1"])
    with open_tpm(emulated_tpm.tcti) as tpm:
        first = nv_counter.define(tpm, b"x" * 32, lambda _: next(numbers))
        second = nv_counter.define(tpm, b"x" * 32, lambda _: next(numbers))
        assert (first, second) == (nv_counter.FIRST, nv_counter.FIRST + 1)
        with pytest.raises(TpmError):
            nv_counter.define(tpm, b"x" * 32, bytes)
        for index in (first, second):
            nv_counter.undefine(tpm, index)
