"""Keys and certificates that were made elsewhere: by OpenSSL, as operators have them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from gatewayd.ca import certificates
from gatewayd.ca.authority import Authority
from gatewayd.ca.bundle import Bundle, client_fault, needs_passphrase, read_bundle
from gatewayd.ca.certificates import Validity, to_pem
from gatewayd.ca.keys import Key, key_pem, make_key
from gatewayd.errors import InvalidArgs
from tests.cloud.guarded import device_ca, subject

NOW = time.time()
PASSPHRASE = b"open sesame"


def authority_below(
    above: Authority, name: str, *, is_ca: bool = True, days: int = 20
) -> Authority:
    """Make an authority that another one has signed."""
    key, span = make_key("ec-p256"), Validity.days(days, NOW - 86400 * 2)
    signer = above._key
    made = (
        x509.CertificateBuilder()
        .subject_name(subject(common_name=name))
        .issuer_name(above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(span.starts)
        .not_valid_after(span.ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return Authority(made, key)


def signed(authority: Authority, key: Key, days: int = 10, now: float = NOW) -> x509.Certificate:
    return authority.sign(subject(common_name="device"), key.public_key(), days, now)


def text(*found: x509.Certificate) -> bytes:
    return "".join(map(to_pem, found)).encode()


def locked(key: Key, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(PASSPHRASE)
    )


ROOT = device_ca("root")
MIDDLE = authority_below(ROOT, "middle")
KEY = make_key("ec-p256")
LEAF = signed(MIDDLE, KEY)
FULL = text(LEAF, MIDDLE.certificate, ROOT.certificate)


def same(one: Bundle) -> None:
    assert one.certificate == LEAF
    assert list(one.chain) == [MIDDLE.certificate, ROOT.certificate]
    assert client_fault(one, NOW) == ""
    assert read_bundle(one.pem.reveal()).pem == one.pem


def test_the_chain_is_put_in_order_wherever_its_parts_stand() -> None:
    mixed = text(ROOT.certificate, LEAF, MIDDLE.certificate)
    same(read_bundle(mixed, key_pem(KEY)))
    same(read_bundle(key_pem(KEY) + mixed))
    assert not needs_passphrase(mixed, key_pem(KEY))


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_an_encrypted_key_is_opened(form: serialization.PrivateFormat) -> None:
    key = locked(KEY, form)
    assert needs_passphrase(FULL, key)
    same(read_bundle(FULL, key, PASSPHRASE))
    for wrong in (b"other", None):
        with pytest.raises(InvalidArgs, match="passphrase"):
            read_bundle(FULL, key, wrong)


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None])
def test_pkcs12_is_opened(passphrase: bytes | None) -> None:
    assert isinstance(KEY, ec.EllipticCurvePrivateKey)
    data = pkcs12.serialize_key_and_certificates(
        b"device", KEY, LEAF, [ROOT.certificate, MIDDLE.certificate],
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )  # fmt: skip
    assert needs_passphrase(data, b"")
    same(read_bundle(data, b"", passphrase))
    with pytest.raises(InvalidArgs, match="passphrase is wrong"):
        read_bundle(data, b"", b"other")
    with pytest.raises(InvalidArgs, match="leave out the other key"):
        read_bundle(data, key_pem(KEY), passphrase)


def test_what_openssl_of_this_machine_writes_is_opened(tmp_path: Path) -> None:
    """Its own encodings of a key with a passphrase, and PKCS #12 in the old way, with RC2."""
    (tmp_path / "key").write_bytes(key_pem(KEY))
    (tmp_path / "all").write_bytes(key_pem(KEY) + FULL)

    def openssl(*words: str) -> bytes:
        return subprocess.run(
            ["openssl", *words], cwd=tmp_path, check=True, capture_output=True, timeout=60
        ).stdout

    secret = f"pass:{PASSPHRASE.decode()}"
    for cipher in ("-aes256", "-des3"):
        legacy = openssl("ec", "-in", "key", cipher, "-passout", secret)
        assert b"DEK-Info" in legacy
        same(read_bundle(FULL, legacy, PASSPHRASE))
    pkcs8 = openssl("pkcs8", "-topk8", "-in", "key", "-v2", "aes-256-cbc", "-passout", secret)
    same(read_bundle(FULL, pkcs8, PASSPHRASE))
    same(
        read_bundle(openssl("pkcs12", "-export", "-in", "all", "-passout", secret), b"", PASSPHRASE)
    )
    old = openssl("pkcs12", "-export", "-legacy", "-in", "all", "-passout", secret)
    try:
        same(read_bundle(old, b"", PASSPHRASE))
    except InvalidArgs as refused:  # where OpenSSL has no provider of old ciphers
        assert "RC2" in str(refused)  # noqa: PT017  # both are right: it depends on the machine


@pytest.mark.parametrize(
    ("certificate", "key", "says"),
    [
        (FULL, key_pem(make_key("ec-p256")), "does not belong to the certificate"),
        (b"", key_pem(KEY), "no certificate"),
        (FULL, b"", "One private key"),
        (FULL, key_pem(KEY) * 2, "One private key in PEM form is needed, not 2"),
        (text(LEAF, ROOT.certificate), key_pem(KEY), "not above it in its chain"),
        (text(LEAF, device_ca("other").certificate), key_pem(KEY), "not above it"),
        (text(LEAF, authority_below(ROOT, "middle").certificate), key_pem(KEY), "not signed by"),
        (text(LEAF) + b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----",
         key_pem(KEY), "cannot be read"),
        (b"\x30\x82" + bytes(100), b"", "cannot be opened"),
        (bytes(70_000), key_pem(KEY), "at most"),
        (text(*[MIDDLE.certificate] * 10), key_pem(KEY), "more than 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "pem",  # keys are other ones each time
)  # fmt: skip
def test_what_does_not_fit_is_refused(certificate: bytes, key: bytes, says: str) -> None:
    with pytest.raises(InvalidArgs, match=says) as refused:
        read_bundle(certificate, key)
    assert "-----" not in str(refused.value)


def fault(authority: Authority, key: Key = KEY, **more: float) -> str:
    leaf = signed(authority, key, **more)  # type: ignore[arg-type]  # days or now
    return client_fault(read_bundle(text(leaf, authority.certificate), key_pem(key)), NOW)


def test_what_a_device_cannot_log_in_with_is_named() -> None:
    assert fault(ROOT) == ""
    assert "has expired (2" in fault(ROOT, days=1, now=NOW - 3 * 86400)
    assert "is not valid yet" in fault(ROOT, now=NOW + 3600)
    old = authority_below(ROOT, "middle", days=1)
    assert "above it has expired" in client_fault(Bundle(KEY, LEAF, (old.certificate,)), NOW)
    assert "above it is not that of a CA" in fault(authority_below(ROOT, "leaf", is_ca=False))
    own = Bundle(ROOT._key, ROOT.certificate)
    assert "is that of a CA" in client_fault(own, NOW)
    server = certificates.server_leaf(
        ["gateway"], KEY.public_key(), Validity.days(5, NOW), ROOT.certificate, ROOT._key
    )
    assert "not for clients" in client_fault(Bundle(KEY, server), NOW)
