"""Root certificates in a file."""

from __future__ import annotations

import base64
import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gatewayd.ca.certificates import MAX_ROOTS_BYTES, read_request, read_roots
from gatewayd.ca.keys import pem_blocks, read_key
from gatewayd.errors import ConfigError, InvalidArgs
from gatewayd.simulator import pki

NOW = datetime.now(UTC).replace(microsecond=0)


def test_roots_are_distinguished(tmp_path: Path, certificate: pki.KeyedCertificate) -> None:
    one = pki.make_ca("one\n\x1b[31m", NOW - pki.LIFE, NOW + pki.LIFE)
    two = pki.make_ca("two", NOW + pki.LIFE, NOW + 2 * pki.LIFE)
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    file = tmp_path / "ca.pem"
    file.write_text("# ü\n" + one.pem + broken + certificate.certificate_pem + two.pem)
    first, second = read_roots(file)
    assert (first.name, second.name) == ("one[31m", "two")
    der = ssl.PEM_cert_to_DER_cert(one.pem)
    assert first.sha256 == hashlib.sha256(der).hexdigest().upper()
    assert (first.starts, first.ends) == (
        (NOW - pki.LIFE).timestamp(),
        (NOW + pki.LIFE).timestamp(),
    )
    assert first.valid(NOW.timestamp())
    assert not second.valid(NOW.timestamp())


def test_a_file_that_is_of_no_use(tmp_path: Path, certificate: pki.KeyedCertificate) -> None:
    leaf, huge = tmp_path / "leaf.pem", tmp_path / "huge.pem"
    leaf.write_text(certificate.certificate_pem)
    with huge.open("wb") as file:
        file.truncate(MAX_ROOTS_BYTES + 1)
    for path, words in (
        (leaf, "holds no root certificate"),
        (huge, "larger than"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_roots(path)


# PEM texts of hostile shape.


class Searched(bytes):
    """Bytes that count how much of them was searched."""

    steps = 0

    def find(self, part: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(part, start)
        Searched.steps += (found if found >= 0 else len(self)) - start
        return found


@pytest.mark.parametrize(
    "text",
    [
        b"-----BEGIN CERTIFICATE-----\n" * 2000,
        b"-----BEGIN CERTIFICATE-----x" * 2000,
        b"-----BEGIN CERTIFICATE-----\nx-----END CERTIFICATE-----" * 1000,
        b"-----END CERTIFICATE-----" * 2000,
    ],
)
def test_a_text_is_searched_once_however_often_a_block_begins(text: bytes) -> None:
    Searched.steps = 0
    list(pem_blocks(Searched(text), b"CERTIFICATE"))
    assert Searched.steps <= 2 * len(text)


def test_blocks_are_found_where_they_are() -> None:
    text = b"-----BEGIN X-----no\n-----BEGIN X-----\nA\n-----END X-----\n-----BEGIN X-----\n"
    (block,) = pem_blocks(text, b"X")
    assert text[block] == b"-----BEGIN X-----\nA\n-----END X-----"


@pytest.mark.parametrize("label", ["PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
def test_keys_that_begin_and_do_not_end_are_none(label: str) -> None:
    with pytest.raises(InvalidArgs, match="not 0"):
        read_key(f"-----BEGIN {label}-----\n".encode() * 2000)


ODD = (
    "MIHmMIGNAgEAMAwxCjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQm7869DunjSmaRh+GLOpEisvcz"
    "lFtknMn5+SHp+drYEpAji96cx7szDRUMZ3BN0lrnBVIFdEtvMb9AcHRYctDmoB8wHQYJKoZIhvcNAQkOMRAwDjAMBgNV"
    "HREEBTADggFhMAoGCCqGSM49BAMCA0gAMEUCIQDxY7XG5sU1lWUyooBiJjCmQ7Jfxg2UKvWWM4aE1rvJpQIgbmvwKCLZ"
    "Iv8bsU3p4apoTfW6iO9tYHDyNvgmpj62Bj4="
)
"""A request of one common name and one further name, DER."""


@pytest.mark.parametrize(("place", "octet"), [(16, 1), (20, 4), (20, 23), (131, 1), (131, 48)])
def test_a_request_that_openssl_alone_cannot_read_is_refused(place: int, octet: int) -> None:
    """One octet differs: the library parses these itself, OpenSSL does not (found by fuzzing)."""
    whole = bytearray(base64.b64decode(ODD))
    is_whole = whole[place] == octet
    whole[place] = octet
    label = b"CERTIFICATE REQUEST"
    pem = b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, base64.encodebytes(whole), label)
    if is_whole:
        assert read_request(pem).subject.rfc4514_string() == "CN=x"
    else:
        with pytest.raises(InvalidArgs):
            read_request(pem)
