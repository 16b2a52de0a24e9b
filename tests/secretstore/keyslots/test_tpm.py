"""A key in a TPM: sealed, given back, refused, and never locked out."""

from __future__ import annotations

import os
import sys
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


@pytest.fixture(params=["ecc", "rsa"])
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> PolicySigner:
    if request.param == "rsa":
        return PolicySigner(tmp_path, rsa.generate_private_key(65537, 2048))
    return PolicySigner(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def test_a_key_is_given_back_and_nothing_stays_in_the_tpm(running_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(running_tpm.tcti)
    offer = slot.enroll(os.urandom)
    assert len(offer.secret) == 32
    assert offer.secret not in offer.material
    for _ in range(5):  # more often than a TPM has room for
        assert slot.unseal(offer.material) == offer.secret
    assert running_tpm.loaded() == 0


def test_each_key_is_another(running_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(running_tpm.tcti, with_counter=False)
    assert slot.enroll(os.urandom).secret != slot.enroll(os.urandom).secret


def test_another_tpm_does_not_give_it(running_tpm: EmulatedTpm, tmp_path: Path) -> None:
    material = TpmSlot(running_tpm.tcti).enroll(os.urandom).material
    other = EmulatedTpm(tmp_path / "other")
    other.start()
    try:
        with pytest.raises(KeyUnavailable, match=OTHER_TPM):
            TpmSlot(other.tcti).unseal(material)
    finally:
        other.close()


@pytest.mark.parametrize("what", [b"", b"{}", b"nonsense", b'{"counter": 1}', b"[]"])
def test_damaged_material_is_refused(running_tpm: EmulatedTpm, what: bytes) -> None:
    with pytest.raises(KeyUnavailable, match="damaged"):
        TpmSlot(running_tpm.tcti).unseal(what)


def test_a_sealed_key_that_was_bent_is_refused(running_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(running_tpm.tcti)
    material = slot.enroll(os.urandom).material
    at = material.index(b'"private": "') + 80
    damaged = material[:at] + (b"A" if material[at : at + 1] != b"A" else b"B") + material[at + 1 :]
    with pytest.raises(KeyUnavailable, match="refuses the sealed key"):
        slot.unseal(damaged)


@pytest.mark.parametrize(
    ("tcti", "why"),
    [
        ("swtpm:path=/nowhere/tpm", "does not answer"),
        ("device:/dev/tpmrm9999", "/dev/tpmrm9999 does not exist"),
        ("nonsense:x", "must be a TPM of this machine"),
        ("cmd:touch /nowhere", "must be a TPM of this machine"),
    ],
)
def test_a_missing_tpm_is_reported(tcti: str, why: str) -> None:
    slot = TpmSlot(tcti)
    for call in (lambda: slot.enroll(os.urandom), lambda: slot.unseal(b"{}")):
        with pytest.raises(KeyUnavailable, match="recovery key"):
            call()
    with pytest.raises(TpmError, match=why):
        slot.boot_policy()


def test_a_device_of_others_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read anything
    with pytest.raises(TpmError, match="by this user"):
        TpmSlot("device:/dev/tpmrm0").boot_policy()


def test_without_the_library_the_package_is_named(
    running_tpm: EmulatedTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = TpmSlot(running_tpm.tcti).enroll(os.urandom).material
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(KeyUnavailable, match="python3-tpm2-pytss"):
        TpmSlot(running_tpm.tcti).unseal(material)


def test_a_signed_policy_lets_the_next_boot_in(
    running_tpm: EmulatedTpm, owner: PolicySigner
) -> None:
    slot = TpmSlot(running_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    offer = slot.enroll(os.urandom)
    assert slot.unseal(offer.material) == offer.secret
    before = running_tpm.lockouts()
    running_tpm.extend(os.urandom(32))
    for _ in range(8):  # more often than a TPM bears a wrong PIN
        with pytest.raises(KeyUnavailable, match="measured boot"):
            slot.unseal(offer.material)
    assert running_tpm.lockouts() == before
    owner.sign(slot.boot_policy())
    assert slot.unseal(offer.material) == offer.secret


def test_a_public_key_that_begins_with_zeros_serves(
    running_tpm: EmulatedTpm, tmp_path: Path
) -> None:
    keys = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 10_000))
    key = next(key for key in keys if key.public_key().public_numbers().x >> 248 == 0)
    owner = PolicySigner(tmp_path, key)
    slot = TpmSlot(running_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    offer = slot.enroll(os.urandom)
    assert slot.unseal(offer.material) == offer.secret


def test_a_policy_that_others_signed_is_refused(
    running_tpm: EmulatedTpm, owner: PolicySigner
) -> None:
    slot = TpmSlot(running_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    material = slot.enroll(os.urandom).material
    owner.files.policy.write_bytes(os.urandom(32))
    with pytest.raises(KeyUnavailable, match="signature does not fit"):
        slot.unseal(material)


def test_a_key_under_a_policy_needs_its_files(
    running_tpm: EmulatedTpm, owner: PolicySigner
) -> None:
    owner.sign(TpmSlot(running_tpm.tcti).boot_policy())
    material = TpmSlot(running_tpm.tcti, owner.files).enroll(os.urandom).material
    with pytest.raises(KeyUnavailable, match="tpm2_policy"):
        TpmSlot(running_tpm.tcti).unseal(material)
    owner.files.signature.unlink()
    with pytest.raises(KeyUnavailable, match=r"pcr\.signature cannot be read"):
        TpmSlot(running_tpm.tcti, owner.files).unseal(material)


def test_a_malformed_signature_is_refused(running_tpm: EmulatedTpm, owner: PolicySigner) -> None:
    slot = TpmSlot(running_tpm.tcti, owner.files)
    owner.sign(slot.boot_policy())
    material = slot.enroll(os.urandom).material
    owner.files.signature.write_bytes(b"nonsense")
    with pytest.raises(KeyUnavailable):
        slot.unseal(material)


def test_a_key_that_cannot_sign_a_policy_is_refused(
    running_tpm: EmulatedTpm, tmp_path: Path
) -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    files = SignedPolicy(tmp_path / "key.pem", tmp_path / "policy", tmp_path / "signature")
    files.key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyUnavailable, match="no public key, RSA or ECC"):
        TpmSlot(running_tpm.tcti, files).enroll(os.urandom)


def test_the_counter_counts_up_for_who_has_the_key(running_tpm: EmulatedTpm) -> None:
    slot = TpmSlot(running_tpm.tcti)
    offer = slot.enroll(os.urandom)
    counter = slot.counter(offer.material, offer.secret)
    assert counter is not None
    first = counter.read()
    counter.increment()
    assert counter.read() == first + 1
    stranger = slot.counter(offer.material, bytes(32))
    assert stranger is not None
    before = running_tpm.lockouts()
    for call in (stranger.increment, stranger.read):
        with pytest.raises(TpmError):
            call()
    assert (running_tpm.lockouts(), counter.read()) == (before, first + 1)


def test_a_counter_that_is_given_up_is_gone(
    running_tpm: EmulatedTpm, caplog: pytest.LogCaptureFixture
) -> None:
    slot = TpmSlot(running_tpm.tcti)
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


def test_a_new_counter_takes_no_index_that_is_taken(running_tpm: EmulatedTpm) -> None:
    numbers = iter([bytes(4), bytes(4), b"\0\0\0\1"])
    with open_tpm(running_tpm.tcti) as tpm:
        first = nv_counter.define(tpm, b"x" * 32, lambda _: next(numbers))
        second = nv_counter.define(tpm, b"x" * 32, lambda _: next(numbers))
        assert (first, second) == (nv_counter.FIRST, nv_counter.FIRST + 1)
        with pytest.raises(TpmError):
            nv_counter.define(tpm, b"x" * 32, bytes)
        for index in (first, second):
            nv_counter.undefine(tpm, index)
