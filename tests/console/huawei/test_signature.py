"""Our signatures are those that the vendor's SDK made for the same requests at the same time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatewayd.console.access_key import AccessKey
from gatewayd.console.client import ApiRequest
from gatewayd.console.huawei.dialect import HuaweiDialect, device_host, region_of
from gatewayd.console.huawei.signature import authorization, segment, target
from gatewayd.device.secret import Secret
from gatewayd.simulator.huawei.management.signature import SignatureChecker, SignedMessage
from tests.simulator.huawei.rest import ACCESS_KEY, SECRET_KEY

VECTORS: list[dict[str, Any]] = [
    vector
    for vector in json.loads(
        (Path(__file__).parents[2] / "simulator/huawei/signature_vectors.json").read_text()
    )
    if "X-Sdk-Content-Sha256" not in vector["headers"]  # of what is no JSON, which is never sent
]
KEY = AccessKey(ACCESS_KEY, Secret(SECRET_KEY.encode()))
NOW = 1_767_323_045.0
DIALECT = HuaweiDialect(KEY, "", "")
OWN = "east.st1.iotda-app.cn-north-4.myhuaweicloud.com"


@pytest.mark.parametrize("vector", VECTORS)
def test_a_signature_is_that_of_the_sdk(vector: dict[str, Any]) -> None:
    fields = dict(vector["headers"])
    expected = fields.pop("Authorization")
    made = authorization(
        vector["method"], vector["target"], fields, vector["body"].encode(), KEY,
        region_of(fields["Host"]),
    )  # fmt: skip
    assert made == expected


def test_both_ways_of_signing_have_vectors() -> None:
    words = {vector["headers"]["Authorization"].split()[0] for vector in VECTORS}
    assert words == {"SDK-HMAC-SHA256", "V11-HMAC-SHA256"}


def test_a_target_is_encoded_as_the_sdk_does() -> None:
    query = {"limit": "50", "device_name": "a b~'ü/+", "is_cascade_query": "true"}
    assert target("/v5/iot/p1/devices", query) == VECTORS[0]["target"]
    assert f"/v5/iot/p1/devices/{segment('a b~c')}/freeze" == VECTORS[4]["target"]
    assert target("/a", {}) == "/a"


def test_a_slash_in_a_name_is_signed_as_the_vendor_reads_it() -> None:
    path = f"/v5/iot/p/devices/{segment('a/b c')}"
    signed = DIALECT.sign(ApiRequest("GET", path, ""), "localhost", NOW, b"")
    headers = {name.lower(): value for name, value in signed.fields.items()}
    message = SignedMessage("GET", path, headers | {"host": "localhost"}, b"")
    SignatureChecker({ACCESS_KEY: SECRET_KEY}, None).check(message, frozenset(), NOW)


@pytest.mark.parametrize("host", ["iotda.cn-north-4.myhuaweicloud.com", OWN])
def test_the_simulated_platform_accepts_what_the_dialect_signs(host: str) -> None:
    key = AccessKey(ACCESS_KEY, Secret(SECRET_KEY.encode()), Secret(b"a token"))
    dialect = HuaweiDialect(key, region_of(host), "east")
    signed = dialect.sign(ApiRequest("POST", "/v5/iot/p/apps", "", body=b"{}"), host, NOW, b"")
    headers = {name.lower(): value for name, value in signed.fields.items()} | {"host": host}
    assert headers["x-security-token"] == "a token"
    assert SECRET_KEY not in str(signed)
    message = SignedMessage(signed.method, signed.target, headers, signed.body)
    keeper = SignatureChecker({ACCESS_KEY: SECRET_KEY}, None)
    keeper.check(message, frozenset({"cn-north-4"}), NOW)


def test_an_own_host_says_region_and_the_host_of_devices() -> None:
    assert (region_of(OWN), region_of("iotda.cn-north-4.myhuaweicloud.com")) == ("cn-north-4", "")
    assert device_host(OWN) == "east.st1.iotda-device.cn-north-4.myhuaweicloud.com"
    assert device_host("localhost") == ""
