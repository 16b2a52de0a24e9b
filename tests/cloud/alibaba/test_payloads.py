"""What a gateway says of a child, by vectors on which other implementations agree; replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.settings import SIGN_METHODS
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]
NAME = CloudName("cloud", "a1Gt7n5yTt8", "gw-child_01")
SUB = SubName("a1Gt7n5yTt8", "gw-child_01")
TOLD = {"productKey": SUB.product, "deviceName": SUB.device}


CLIENT = "a1Gt7n5yTt8.gw-child_01"
ATTACHED = [
    vector
    for vector in VECTORS
    if vector["kind"] == "topo_add" and vector["inputs"]["clientId"] == CLIENT
]
"""Those with the client id that we choose; a login signs the same."""


@pytest.mark.parametrize("vector", ATTACHED, ids=lambda vector: str(vector["name"]))
def test_one_that_is_attached_and_logged_in(vector: dict[str, Any]) -> None:
    key, timestamp = Secret(vector["key"].encode()), vector["inputs"]["timestamp"]
    method = vector["algorithm"]
    both = TOLD | {
        "clientId": CLIENT,
        "timestamp": timestamp,
        "sign": vector["digest_hex_lower"],
    }
    spelled = payloads.SPELLING[method]
    assert payloads.to_attach(NAME, key, method, timestamp) == both | {"signmethod": spelled}
    expected = both | {"signMethod": spelled, "cleanSession": "true"}
    assert payloads.to_log_in(NAME, key, method, timestamp) == expected


def test_one_whose_product_vouches_for_it() -> None:
    vector = next(one for one in VECTORS if one["name"] == "V03-dynreg-register-hmacsha256")
    key, random = Secret(vector["key"].encode()), vector["inputs"]["random"]
    assert payloads.with_product_secret(NAME, key, "hmacsha256", random) == TOLD | {
        "random": random,
        "signMethod": "hmacSha256",
        "sign": vector["digest_hex_lower"],
    }


def test_every_method_can_be_spelled() -> None:
    assert ATTACHED
    assert {*payloads.SPELLING} == {*SIGN_METHODS}


def test_secrets_are_found_by_name_never_by_position() -> None:
    other = {"productKey": SUB.product, "deviceName": "gw-child_02"}
    data = [other | {"deviceSecret": "two"}, TOLD | {"deviceSecret": "one"}]
    assert payloads.issued(data) == {
        SubName(SUB.product, "gw-child_02"): Secret(b"two"),
        SUB: Secret(b"one"),
    }


@pytest.mark.parametrize(
    "data",
    [
        None, "", {}, [], [None], "text", [TOLD], [TOLD | {"deviceSecret": ""}],
        [TOLD | {"deviceSecret": 7}], [TOLD | {"deviceSecret": "a b"}], [{"deviceSecret": "x"}],
        [TOLD | {"deviceSecret": "x" * 65}], [{"deviceName": 1} | {"deviceSecret": "x"}],
    ],
)  # fmt: skip
def test_a_reply_without_a_secret(data: object) -> None:
    assert not payloads.issued(data)


@pytest.mark.parametrize(
    ("told", "codes"),
    [
        ([TOLD | {"errorDetail": {"code": 6619}}], {SUB: 6619}),
        ([TOLD | {"errorDetail": {"code": "6619"}}], {SUB: 6619}),
        ([TOLD | {"errorDetail": {"code": "x"}}], {}),
        ([TOLD | {"errorDetail": {"code": None}}], {}),
        ([TOLD | {"errorDetail": []}], {}),
        ([TOLD], {}),
        ([{"errorDetail": {"code": 6619}}], {}),
        (None, {}),
    ],
)
def test_failures(told: object, codes: dict[SubName, int]) -> None:
    assert payloads.failures(told) == codes


@pytest.mark.parametrize(("data", "part"), [({"a": 1}, 1), ({}, None), ([], None), (None, None)])
def test_a_part_of_a_reply(data: object, part: object) -> None:
    assert payloads.part(data, "a") == part
