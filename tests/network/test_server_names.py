"""Which hosts the certificate of a server lists."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from gatewayd.network.tls import names_host
from gatewayd.simulator import pki

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mqtt.example.com", True), ("MQTT.Example.com", True), ("mqtt.example.com.", True),
        ("one.st1.example.com", True), ("192.0.2.7", True), ("2001:db8::7", True),
        ("example.com", False), ("a.mqtt.example.com", False), ("st1.example.com", False),
        ("a.b.st1.example.com", False), ("192.0.2.8", False), ("", False), ("com", False),
    ],
)  # fmt: skip
def test_the_hosts_that_a_certificate_lists(host: str, *, named: bool) -> None:
    issued = pki.make_ca("test", NOW - pki.LIFE, NOW + pki.LIFE).issue(
        ["mqtt.example.com", "*.st1.example.com"], ["192.0.2.7", "2001:db8::7"],
        NOW - pki.LIFE, NOW + pki.LIFE,
    )  # fmt: skip
    assert names_host(ssl.PEM_cert_to_DER_cert(issued.certificate_pem), host) is named


@pytest.mark.parametrize("der", [b"", b"\x30\x03\x02\x01\x00"])
def test_a_certificate_that_cannot_be_read_lists_no_host(der: bytes) -> None:
    assert not names_host(der, "localhost")
