"""Signatures, by vectors on which other implementations agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba import payloads as signing
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
BY_NAME = {vector["name"]: vector for vector in VECTORS["vectors"]}


def of_kind(kind: str) -> list[Any]:
    found = [vector for vector in VECTORS["vectors"] if vector["kind"] == kind]
    return [pytest.param(vector, id=vector["name"]) for vector in found]


def name_in(vector: dict[str, Any]) -> CloudName:
    return CloudName("cloud", vector["inputs"]["productKey"], vector["inputs"]["deviceName"])


def content_of(vector: dict[str, Any]) -> str:
    inputs = vector["inputs"]
    if "random" in inputs:
        return signing.register_content(name_in(vector), inputs["random"])
    timestamp = inputs["timestamp"] or ""
    return signing.connect_content(name_in(vector), inputs["clientId"], timestamp)


KINDS = ("dynreg_mqtt", "device_connect", "topo_add", "combine_login", "https_register")


@pytest.mark.parametrize("vector", [vector for kind in KINDS for vector in of_kind(kind)])
def test_content_and_sign(vector: dict[str, Any]) -> None:
    content = content_of(vector)
    assert content == vector["sign_content"]
    digest = signing.sign(vector["algorithm"], Secret(vector["key"].encode()), content)
    assert digest == vector["digest_hex_lower"]


def test_no_vector_is_left_out() -> None:
    assert {vector["kind"] for vector in VECTORS["vectors"]} == set(KINDS)


@pytest.mark.parametrize("vector", VECTORS["negative"], ids=lambda v: str(v["name"]))
def test_what_others_got_wrong(vector: dict[str, Any]) -> None:
    assert content_of(BY_NAME[vector["base"]]) != vector["sign_content"]
    digest = signing.sign(
        vector["algorithm"], Secret(vector["key"].encode()), vector["sign_content"]
    )
    assert digest == vector["digest_hex_lower"] != BY_NAME[vector["base"]]["digest_hex_lower"]


@pytest.mark.parametrize("name", ["V01-dynreg-register-hmacmd5", "V03-dynreg-register-hmacsha256"])
def test_the_connect_of_a_registration(name: str) -> None:
    vector = BY_NAME[name]
    settings = AlibabaSettings(sign_method=vector["algorithm"])
    login = payloads.register_login(
        name_in(vector), Secret(vector["key"].encode()), settings, vector["inputs"]["random"]
    )
    assert login.client_id == vector["mqtt_client_id"]
    assert login.user_name == vector["mqtt_username"]
    assert login.password.reveal().decode() == vector["mqtt_password"]


@pytest.mark.parametrize(
    "name", ["V07-connect-hmacsha256-fixed-ts", "V08-connect-hmacmd5-no-timestamp"]
)
def test_the_connect_of_a_login(name: str) -> None:
    vector = BY_NAME[name]
    login = payloads.connect_login(
        name_in(vector),
        Secret(vector["key"].encode()),
        vector["algorithm"],
        vector["inputs"]["timestamp"] or "",
    )
    assert login.client_id == vector["mqtt_client_id"]
    assert login.user_name == vector["mqtt_username"]
    assert login.password.reveal().decode() == vector["mqtt_password"]
