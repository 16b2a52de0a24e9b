"""Root certificates in a file."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatewayd.cloud.ca.certificates import MAX_ROOTS_BYTES, read_roots
from gatewayd.errors import ConfigError
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
        (huge, "too large"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_roots(path)
