"""What a device's certificate says is read, or refused, whatever is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.proofs.certificate import (
    MAX_CERTIFICATE,
    MAX_IDENTITY,
    MAX_SHOWN,
    UnreadableDeviceCertificate,
    read_certificate,
)
from gatewayd.proofs.settings import CertificateField
from tests.support.device_certificates import (
    BEGUN,
    NO_END,
    DeviceCertificate,
    Vendor,
    issue,
    vendor,
)

AXIS = vendor()
GENUINE = AXIS.device("ACCC8E000001", name="axis-accc8e000001")
SERIAL, NAME, DNS, URI = CertificateField


def of(*attributes: tuple[x509.ObjectIdentifier, str], by: Vendor = AXIS) -> DeviceCertificate:
    """Issue a certificate with this subject."""
    text = _ASN1Type.UTF8String  # X.520 has a PrintableString for some, which devices exceed
    subject = x509.Name([x509.NameAttribute(oid, value, text) for oid, value in attributes])
    return issue(subject, by.line, BEGUN, NO_END, [])


def named(*names: x509.GeneralName) -> DeviceCertificate:
    return AXIS.device("1", extensions=[x509.SubjectAlternativeName(names)])


def test_an_idevid_has_its_identity_its_key_its_signer_and_its_number() -> None:
    facts = read_certificate(GENUINE.der, SERIAL)
    assert facts.identity == "accc8e000001"
    assert facts.signer == "CN=Axis device CA"
    assert int(facts.serial, 16) == GENUINE.certificate.serial_number
    public = GENUINE.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert facts.key == f"sha256:{hashlib.sha256(public).hexdigest()}"


def test_a_key_is_the_same_in_another_certificate() -> None:
    again = AXIS.device("ACCC8E000001", key=GENUINE.key)
    assert again.der != GENUINE.der
    assert read_certificate(again.der, SERIAL).key == read_certificate(GENUINE.der, SERIAL).key


@pytest.mark.parametrize(
    ("certificate", "field", "identity"),
    [
        (GENUINE, NAME, "axis-accc8e000001"),
        (named(x509.DNSName("cam1.example")), DNS, "cam1.example"),
        (named(x509.UniformResourceIdentifier("urn:PLC:7731")), URI, "urn:plc:7731"),
        (of((NameOID.SERIAL_NUMBER, "PID:M-1 SN:FX")), SERIAL, "pid:m-1 sn:fx"),
        (of((NameOID.SERIAL_NUMBER, " AB-1 ")), SERIAL, "ab-1"),
        (of((NameOID.COMMON_NAME, "x")), SERIAL, ""),
        (of((NameOID.SERIAL_NUMBER, "1"), (NameOID.SERIAL_NUMBER, "2")), SERIAL, ""),
        (of((NameOID.SERIAL_NUMBER, "00000000")), SERIAL, ""),
        (of((NameOID.SERIAL_NUMBER, "none")), SERIAL, ""),
        (of((NameOID.SERIAL_NUMBER, "AB\u0130")), SERIAL, ""),
        (of((NameOID.SERIAL_NUMBER, "AB\x1b[31m")), SERIAL, ""),
        (of((NameOID.COMMON_NAME, "ab" * 32)), NAME, "ab" * 32),
        (named(x509.DNSName("a.example"), x509.DNSName("b.example")), DNS, ""),
        (named(x509.DNSName("a.example")), URI, ""),
        (GENUINE, DNS, ""),
        (named(*(x509.DNSName(f"n{n}.example") for n in range(65))), DNS, ""),
        (of(), SERIAL, ""),
    ],
)
def test_an_identity_is_one_that_can_be_compared_or_none(
    certificate: DeviceCertificate, field: CertificateField, identity: str
) -> None:
    assert read_certificate(certificate.der, field).identity == identity


def test_what_is_shown_of_a_signer_prints_and_is_bounded() -> None:
    evil = vendor("\x1b]0;owned\x07" + "A" * 30)
    facts = read_certificate(evil.device("1").der, SERIAL)
    assert facts.signer.isprintable()
    assert facts.signer.isascii()
    many = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "o" * 60)] * 80)
    root = issue(many, None, BEGUN, NO_END, [])
    assert len(read_certificate(root.der, SERIAL).signer) == MAX_SHOWN


def _element(tag: int, content: bytes) -> bytes:
    """Return a DER element (X.690, 8.1)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


DER = GENUINE.der
BROKEN: Mapping[str, bytes] = {
    "nothing": b"",
    "one byte": b"\x30",
    "text": b"-----BEGIN CERTIFICATE-----\nMIIB",
    "cut short": DER[:-1],
    "half of it": DER[: len(DER) // 2],
    "more behind it": DER + b"\x00",
    "twice": DER + DER,
    "indefinite length": b"\x30\x80" + DER[4:] + b"\x00\x00",
    "length of a gigabyte": b"\x30\x84\x40\x00\x00\x00" + DER[4:],
    "length of its length": b"\x30\xff" + DER[2:],
    "an empty sequence": _element(0x30, b""),
    "a sequence of empties": _element(0x30, _element(0x30, b"") * 3),
    "nested too deep": b"\x30\x82" * 4000,
    "a set": b"\x31" + DER[1:],
    "a key": GENUINE.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    "no numbers": DER.replace(b"\x02\x01\x02", b"\x04\x01\x02", 1),
    "a version of the future": DER.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1),
    "too large": DER + bytes(MAX_CERTIFICATE),
    "time of no date": DER.replace(b"200101000000Z", b"201399000000Z", 1),
    "a curve that there is not": DER.replace(
        bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030163"), 1
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("field", CertificateField)
def test_what_is_no_certificate_is_refused(name: str, field: CertificateField) -> None:
    assert BROKEN[name] != DER
    with pytest.raises(UnreadableDeviceCertificate) as refused:
        read_certificate(BROKEN[name], field)
    assert "ACCC8E" not in str(refused.value)


def damaged(data: st.DataObject) -> bytes:
    """Return the certificate with a few bytes that are others."""
    octets = bytearray(DER)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    return bytes(octets)


HOSTILE: Mapping[str, Callable[[st.DataObject], bytes]] = {
    "any": lambda data: data.draw(st.binary(max_size=400)),
    "damaged": damaged,
    "cut": lambda data: DER[: data.draw(st.integers(0, len(DER)))],
}


@given(
    data=st.data(), kind=st.sampled_from(sorted(HOSTILE)), field=st.sampled_from(CertificateField)
)
def test_whatever_comes_is_read_or_refused(
    data: st.DataObject, kind: str, field: CertificateField
) -> None:
    try:
        facts = read_certificate(HOSTILE[kind](data), field)
    except UnreadableDeviceCertificate:
        return
    assert len(facts.identity) <= MAX_IDENTITY
    for text in (facts.identity, facts.signer, facts.serial):
        assert text.isascii()
        assert text.isprintable()
    assert facts.key.startswith("sha256:")
