"""A device CA: made, read, and what it signs stands before OpenSSL's strict checks."""

from __future__ import annotations

import base64
import random
import shutil
import subprocess
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatewayd.ca.authority import Authority, authority_name, make_authority, read_authority
from gatewayd.ca.certificates import (
    BACKDATED,
    MAX_BYTES,
    Validity,
    fingerprint,
    read_certificates,
    same_key,
    span_of,
    to_pem,
)
from gatewayd.ca.keys import ALGORITHMS, algorithm_of, key_pem, make_key, public_key, read_key
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs
from tests.cloud.guarded import device_ca, identity, subject

NOW = float(int(time.time()))
DAY = 86_400.0
OPENSSL = shutil.which("openssl") or "openssl"


def made(algorithm: str = "ec-p256", days: int = 100) -> Authority:
    return make_authority(subject(common_name="CA", country_name="CN"), algorithm, days, NOW)


def test_an_authority_says_what_is_public_of_it() -> None:
    one = made()
    assert one.subject in {"C=CN,CN=CA", "CN=CA,C=CN"}  # the order of RFC 4514, or as written
    assert one.algorithm == "ec-p256"
    assert one.fingerprint == one.certificate.fingerprint(hashes.SHA256()).hex()
    assert one.span.ends.timestamp() == NOW + 100 * DAY
    assert one.span.starts.timestamp() == NOW - BACKDATED.total_seconds()
    assert "PRIVATE" not in one.pem
    assert "PRIVATE" not in repr(one)
    assert repr(one.secret()) == "Secret(***)"


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ec-p256"])
def test_what_is_kept_can_be_read_again(algorithm: str) -> None:
    one = made(algorithm)
    again = read_authority(one.secret())
    assert again.fingerprint == one.fingerprint
    assert again.algorithm == algorithm
    leaf = again.sign(subject(common_name="d"), make_key("ec-p256").public_key(), 5, NOW)
    assert leaf.issuer == one.certificate.subject


def test_each_algorithm_has_a_word() -> None:
    for word in ("rsa-2048", "rsa-3072", "ec-p256"):
        assert algorithm_of(make_key(word).public_key()) == word
    assert set(ALGORITHMS) == {"rsa-2048", "rsa-3072", "rsa-4096", "ec-p256"}


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ec-p256"])
def test_openssl_verifies_a_leaf_strictly(tmp_path: Path, algorithm: str) -> None:
    one = made(algorithm)
    leaf = one.sign(subject(common_name="d"), make_key(algorithm).public_key(), 5, NOW)
    (tmp_path / "ca.pem").write_text(one.pem)
    (tmp_path / "leaf.pem").write_text(to_pem(leaf))
    verify = (OPENSSL, "verify", "-x509_strict", "-purpose", "sslclient")
    result = subprocess.run(
        [*verify, "-CAfile", "ca.pem", "leaf.pem"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_a_leaf_is_for_clients_and_ends_no_later_than_its_authority() -> None:
    one = made(days=10)
    leaf = one.sign(subject(common_name="d"), make_key("ec-p256").public_key(), 365, NOW)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert Validity.of(leaf).ends == one.span.ends
    assert Validity.of(leaf).starts >= one.span.starts
    later = one.sign(subject(common_name="d"), make_key("ec-p256").public_key(), 2, NOW + DAY)
    assert Validity.of(later).ends.timestamp() == NOW + 3 * DAY
    assert Validity.of(later).starts.timestamp() == NOW + DAY - BACKDATED.total_seconds()


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ec-p256"])
def test_a_proof_has_exactly_the_code_as_its_name(algorithm: str) -> None:
    one, code = made(algorithm), "f2b01e3f-6a1b-4e2a-9a53-0a52b4f6e5b1"
    proof = one.prove(code, NOW)
    assert [(a.oid, a.value) for a in proof.subject] == [(NameOID.COMMON_NAME, code)]
    assert proof.issuer == one.certificate.subject
    key = public_key(proof.public_key())
    assert algorithm_of(key) == algorithm
    assert not same_key(key, public_key(one.certificate.public_key()))


@pytest.mark.parametrize("code", ["", " ", "a b", "x" * 65, "a\n", "ü"])
def test_what_cannot_be_a_code(code: str) -> None:
    with pytest.raises(InvalidArgs, match="code"):
        made().prove(code, NOW)


def _encrypted(authority: Authority) -> bytes:
    key = read_key(authority.secret().reveal())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )


def _self_made(name: x509.Name | None = None, **more: x509.ExtensionType) -> bytes:
    """A key and a certificate with these extensions."""
    key = make_key("ec-p256")
    name = subject(common_name="x") if name is None else name
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(made().span.starts).not_valid_after(made().span.ends)
    )  # fmt: skip
    for extension in more.values():
        builder = builder.add_extension(extension, critical=True)
    return key_pem(key) + to_pem(builder.sign(key, hashes.SHA256())).encode()


def _weak() -> bytes:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # to be refused
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _edwards() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_what_cannot_be_an_authority() -> None:
    one, other = made(), made()
    pem, key = one.pem.encode(), one.secret().reveal().replace(one.pem.encode(), b"")
    ca = x509.BasicConstraints(ca=True, path_length=None)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    for data, words in (
        (b"", "private key"),
        (pem, "private key"),
        (key + key + pem, "private key"),
        (key, "certificate of the CA is missing"),
        (other.secret().reveal().replace(other.pem.encode(), b"") + pem, "does not belong"),
        (identity(one).reveal(), "basicConstraints"),
        (_self_made(), "no readable mark"),
        (_self_made(ca=ca, usage=usage), "sign others"),
        (_encrypted(one) + pem, "encrypted"),
        (_weak() + pem, "2048"),
        (_edwards() + pem, "neither RSA"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (key + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate"),
        (b" " * (MAX_BYTES + 1), "at most"),
    ):
        with pytest.raises(InvalidArgs, match=words):
            read_authority(Secret(data))


def test_an_authority_of_elsewhere_may_have_a_chain_and_no_key_usage() -> None:
    data = _self_made(ca=x509.BasicConstraints(ca=True, path_length=None))
    found = read_authority(Secret(made().pem.encode() + data))
    leaf = found.sign(subject(common_name="d"), make_key("ec-p256").public_key(), 5, NOW)
    assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)


@pytest.mark.parametrize("other", ["edwards", "weak", "curve"])
def test_the_others_of_a_chain_may_be_of_any_kind(other: str) -> None:
    pem = made().pem
    if other == "curve":
        der = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030177")
        data = read_certificates(pem.encode())[0].public_bytes(serialization.Encoding.DER)
        chain = _certificate_pem(data.replace(*der))
    else:
        key = serialization.load_pem_private_key(
            {"edwards": _edwards, "weak": _weak}[other](), None
        )
        assert isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
        chain = _foreign(key)
    one = made()
    assert read_authority(Secret(chain + one.secret().reveal())).fingerprint == one.fingerprint


def _foreign(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    name, one = subject(common_name="other"), made()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(one.span.starts).not_valid_after(one.span.ends)
    )  # fmt: skip
    digest = hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None
    return to_pem(builder.sign(key, digest)).encode()


def _certificate_pem(der: bytes) -> bytes:
    name = b"CERTIFICATE-----\n"
    return b"-----BEGIN " + name + base64.encodebytes(der) + b"-----END " + name


def test_a_ca_that_is_spoiled_anywhere_is_refused_or_can_be_used() -> None:
    """Parts are read by the library only when one asks for them."""
    one, chance = made(), random.Random(7)  # to be the same each time
    key = one.secret().reveal().replace(one.pem.encode(), b"")
    der = one.certificate.public_bytes(serialization.Encoding.DER)
    device = make_key("ec-p256").public_key()
    refused = 0
    for _ in range(1500):
        spoiled = bytearray(der)
        spoiled[chance.randrange(len(der))] = chance.randrange(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of serial numbers
                read = read_authority(Secret(key + _certificate_pem(bytes(spoiled))))
        except InvalidArgs:
            refused += 1
        else:
            assert read.subject
            assert read.sign(subject(common_name="d"), device, 5, read.span.starts.timestamp())
    assert 0 < refused < 1500


def test_a_ca_without_a_name_is_refused() -> None:
    ca = x509.BasicConstraints(ca=True, path_length=None)
    with pytest.raises(InvalidArgs, match="no subject"):
        read_authority(Secret(_self_made(x509.Name([]), ca=ca)))


def test_a_key_is_opened_by_its_passphrase_alone() -> None:
    encrypted = _encrypted(made())
    assert read_key(encrypted, b"open sesame")
    for passphrase in (b"wrong", None):
        with pytest.raises(InvalidArgs):
            read_key(encrypted, passphrase)
    with pytest.raises(InvalidArgs, match="not encrypted"):
        read_key(key_pem(make_key("ec-p256")), b"open sesame")


def test_a_subject_is_made_of_words() -> None:
    words = {"common-name": "CA", "organization": "ACME", "country": "CN"}
    name = authority_name(words)
    assert {(a.oid, a.value) for a in name} == {
        (NameOID.COMMON_NAME, "CA"),
        (NameOID.ORGANIZATION_NAME, "ACME"),
        (NameOID.COUNTRY_NAME, "CN"),
    }
    for bad in ({"country": "cn"}, {"country": "CHN"}, {"common-name": "x" * 65}, {"state": ""}):
        with pytest.raises(InvalidArgs):
            authority_name(bad)


def test_the_span_of_a_secret_is_that_of_its_first_certificate() -> None:
    one = device_ca()
    who = identity(one, days=7)
    leaf = read_certificates(who.reveal())[0]
    assert span_of(who) == Validity.of(leaf)
    assert fingerprint(leaf) != one.fingerprint
    assert span_of(Secret(b"password")) is None
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert span_of(Secret(broken)) is None


def test_a_span_tells_whether_it_is_now() -> None:
    span = Validity.days(1, NOW)
    assert span.fault(NOW) == ""
    assert span.fault(NOW + DAY) == "has expired"
    assert span.fault(NOW - timedelta(hours=1).total_seconds()) == "is not valid yet"


def _openssl_verify(
    tmp_path: Path, authority: Authority, leaf: x509.Certificate, *more: str
) -> str:
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "leaf.pem").write_text(to_pem(leaf))
    command = [OPENSSL, "verify", "-x509_strict", "-CAfile", str(tmp_path / "ca.pem"), *more]
    ran = subprocess.run(
        [*command, str(tmp_path / "leaf.pem")], check=False, capture_output=True, text=True
    )
    return ran.stdout + ran.stderr


def test_a_server_is_known_by_each_of_its_names_and_is_no_client(tmp_path: Path) -> None:
    authority, key = made(), make_key("ec-p256")
    names = ["gateway.local", "192.0.2.7", "fe80::1"]
    leaf = authority.sign_server(names, key.public_key(), 90, NOW)
    for option, name in zip(("-verify_hostname", "-verify_ip", "-verify_ip"), names, strict=True):
        found = _openssl_verify(tmp_path, authority, leaf, "-purpose", "sslserver", option, name)
        assert found.endswith("leaf.pem: OK\n"), found
    assert "leaf.pem: OK" not in _openssl_verify(tmp_path, authority, leaf, "-purpose", "sslclient")
    other = ("-verify_hostname", "other.local")
    assert "leaf.pem: OK" not in _openssl_verify(tmp_path, authority, leaf, *other)
    ends = Validity.of(authority.sign_server(names, key.public_key(), 900, NOW)).ends
    assert ends == authority.span.ends


def test_what_is_revoked_is_refused_and_nothing_else(tmp_path: Path) -> None:
    authority, key = made(), make_key("ec-p256")
    one, other = (
        authority.sign(subject(common_name=name), key.public_key(), 9, NOW) for name in "ab"
    )
    (tmp_path / "crl.pem").write_bytes(authority.revoke([one.serial_number]))
    how = ("-crl_check", "-CRLfile", str(tmp_path / "crl.pem"))
    assert "certificate revoked" in _openssl_verify(tmp_path, authority, one, *how)
    assert "leaf.pem: OK" in _openssl_verify(tmp_path, authority, other, *how)
    (tmp_path / "crl.pem").write_bytes(authority.revoke([]))
    assert "leaf.pem: OK" in _openssl_verify(tmp_path, authority, one, *how)
