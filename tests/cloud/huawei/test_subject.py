"""The subject of certificates."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from gatewayd.cloud.huawei.subject import (
    ATTRIBUTES,
    MAX_BYTES,
    PREFIX,
    full_name,
    read_certificate,
    subject_of,
    x509_name,
)
from gatewayd.errors import ConfigError
from tests.cloud.huawei import vectors


def test_the_seven_parameters() -> None:
    oids = {name: attribute.oid.dotted_string for name, attribute in ATTRIBUTES.items()}
    assert oids == vectors.SELF_REGISTRATION["rules"]["attribute_oids"]


def test_a_subject_is_read() -> None:
    subject = subject_of(read_certificate(vectors.certificate("D1_full")).subject)
    assert {name.removeprefix(PREFIX): values for name, values in subject.items()} == {
        "country": ("CN",),
        "organization": ("642bf260f2f9030e44210d8d",),
        "organizational_unit": ("plant-7",),
        "distinguished_name_qualifier": ("edge-gw-0001",),
        "state_name": ("GuangDong",),
        "common_name": ("gateway-0001",),
        "serial_number": ("SN20260001",),
    }


def test_all_repeated_attributes_are_reported() -> None:
    subject = subject_of(read_certificate(vectors.certificate("D4_two_ou")).subject)
    assert sorted(subject[f"{PREFIX}organizational_unit"]) == ["plant-7", "second"]


def test_the_first_of_a_chain_counts() -> None:
    chain = vectors.certificate("D2_cn_only") + vectors.SELF_REGISTRATION["ca_pem"].encode()
    subject = subject_of(read_certificate(chain).subject)
    assert subject[f"{PREFIX}common_name"] == ("gateway-0002",)


def _der() -> bytes:
    return ssl.PEM_cert_to_DER_cert(vectors.certificate("D2_cn_only").decode())


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _der(),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n",
        _pem(_der()[:-1]),
        _pem(_der().replace(b"gateway-0002", b"\xff" * 12)),  # no UTF-8
        _pem(_der().replace(b"\x0c\x0cgateway", b"\x03\x0c\0ateway")),  # a BIT STRING
    ],
    ids=["empty", "der", "no-certificate", "no-text", "cut", "no-utf8", "no-string"],
)
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ConfigError, match="BEGIN CERTIFICATE"):
        read_certificate(data)


def test_a_huge_file_is_not_looked_at() -> None:
    with pytest.raises(ConfigError, match="has at most 65536 bytes"):
        read_certificate(vectors.certificate("D2_cn_only") + b" " * MAX_BYTES)


def test_names_are_completed() -> None:
    assert full_name("country") == full_name(f"{PREFIX}country") == f"{PREFIX}country"
    with pytest.raises(KeyError):
        full_name("email")


def test_a_name_is_built() -> None:
    name = x509_name({f"{PREFIX}common_name": "网关", f"{PREFIX}country": "CN"})
    assert name == x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.COMMON_NAME, "网关"),
        ]
    )


@pytest.mark.parametrize(
    ("word", "text", "fault"),
    [
        ("country", "CHN", "must be exactly 2 bytes long"),
        ("common_name", "a" * 65, "must be 1 to 64 bytes long"),
        ("common_name", "", "must be 1 to 64 bytes long"),
        ("state_name", "a" * 129, "must be 1 to 128 bytes long"),
        ("common_name", "é" * 33, "must be 1 to 64 bytes long"),
        ("common_name", "a\0", "printable"),
        ("common_name", "\ud800", "printable"),
        ("serial_number", "SN_1", "PrintableString"),
        ("distinguished_name_qualifier", "网关", "PrintableString"),
    ],
)
def test_what_an_attribute_does_not_hold(word: str, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"{PREFIX}{word} .*{fault}"):
        x509_name({PREFIX + word: text})


@pytest.mark.parametrize("word", ["common_name", "organization", "organizational_unit"])
def test_the_longest_values(word: str) -> None:
    for text in ("a" * 64, "é" * 32):
        (attribute,) = x509_name({PREFIX + word: text})
        assert attribute.value == text
