"""Hexadecimal digits of others count in either case, wherever they are compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatewayd.cloud.alibaba.preflight import configured_secrets
from gatewayd.cloud.alibaba.settings import PRIVATE, AlibabaProduct, AlibabaSettings, root_of
from gatewayd.device.identity import claim
from gatewayd.device.secret import Secret
from gatewayd.runtime.text import plain_hex
from gatewayd.simulator.huawei import x509
from tests.cloud.guarded import device_ca

SPELLINGS = (str.lower, str.upper, str.title)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("7CA438A3", "7ca438a3"),
        ("7c:A4:38:a3", "7ca438a3"),
        ("7C-A4-38-A3", "7ca438a3"),
        (" 7ca4 38A3\n", "7ca438a3"),
        ("", ""),
        (":", ""),
        ("7cg4", ""),
        ("0x7c", ""),
        ("\uff17\uff23", ""),  # digits of full width are none
    ],
)
def test_digits_have_one_spelling(text: str, digits: str) -> None:
    assert plain_hex(text) == digits


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_what_is_compared_counts_in_either_case(spelled: Callable[[str], str]) -> None:
    mac, uuid = "00:1a:2b:3c:4d:5e", "00112233-4455-6677-8899-aabbccddeeff"
    assert claim("mac", "", spelled(mac)) == claim("mac", "", mac)
    assert claim("uuid", "", spelled(uuid)) == claim("uuid", "", uuid)
    assert root_of(spelled(PRIVATE.sha256)) is PRIVATE
    secret = Secret(spelled("7f3c9a1e5b2d4860a7c1e9f3b5d20846").encode())
    (configured,) = configured_secrets(AlibabaSettings(products={"p": AlibabaProduct("product")}))
    doubt = configured.doubt(secret)
    assert doubt is not None
    assert "looks like that of a device" in doubt.text
    certificate = x509.read_pem(device_ca().pem)
    assert certificate.matches(spelled(certificate.sha256))
    assert certificate.matches(spelled(certificate.sha1))
