"""Our signatures are those of the vendor's own SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatewayd.console.access_key import AccessKey
from gatewayd.console.alibaba.signature import (
    common_parameters,
    encoded_query,
    signature,
    string_to_sign,
    timestamp,
)
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.open_api import signature as of_the_cloud

VECTORS = json.loads(Path(__file__).with_name("signature_vectors.json").read_text())["vectors"]
NOW = 1_780_000_000.25


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_signature_is_that_of_the_vendors_sdk(vector: dict[str, Any]) -> None:
    text = string_to_sign(vector["method"], vector["parameters"])
    assert text == vector["string_to_sign"]
    assert signature(Secret(vector["secret"].encode()), text) == vector["signature"]
    assert of_the_cloud.string_to_sign(vector["method"], vector["parameters"]) == text
    assert of_the_cloud.signature(vector["secret"], text) == vector["signature"]


def test_an_older_signature_is_not_signed() -> None:
    assert string_to_sign("POST", {"A": "1", "Signature": "x"}) == "POST&%2F&A%3D1"


def test_what_each_request_has() -> None:
    key = AccessKey("testid", Secret(b"testsecret"))
    assert common_parameters(key, NOW, b"\x01\xff") == {
        "Format": "JSON",
        "Version": "2018-01-20",
        "AccessKeyId": "testid",
        "SignatureMethod": "HMAC-SHA1",
        "Timestamp": "2026-05-28T20:26:40Z",
        "SignatureVersion": "1.0",
        "SignatureNonce": "01ff",
    }
    temporary = AccessKey("STS.testid", Secret(b"testsecret"), Secret(b"CAIS+token"))
    assert common_parameters(temporary, NOW, b"\x01")["SecurityToken"] == "CAIS+token"


def test_encoding() -> None:
    assert encoded_query({"b c": "*~+/", "a": "ü"}) == "b%20c=%2A~%2B%2F&a=%C3%BC"
    assert timestamp(0.999) == "1970-01-01T00:00:00Z"
