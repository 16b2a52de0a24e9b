"""What is sent, and which push holds a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

NAME = CloudName("cloud", "a1Gt7n5yTt8", "gw-child_01")
SECRET = "7f3c9a1e5b2d4860a7c1e9f3b5d20846"
PUSH = {"productKey": NAME.product, "deviceName": NAME.device, "deviceSecret": SECRET}


def parse(push: Any, topic: str = "/ext/register") -> Secret | None:
    payload = push if isinstance(push, bytes) else json.dumps(push).encode()
    return payloads.parse_push(topic, payload, NAME)


def test_the_push_holds_the_secret() -> None:
    assert parse(PUSH) == Secret(SECRET.encode())
    assert parse(PUSH | {"more": [1, {}]}) == Secret(SECRET.encode())
    assert parse(PUSH | {"deviceSecret": "x" * 64}) == Secret(b"x" * 64)


@pytest.mark.parametrize("topic", ["", "/ext/regnwl", "/ext/register/", "/EXT/register"])
def test_another_topic_holds_none(topic: str) -> None:
    assert parse(PUSH, topic) is None


@pytest.mark.parametrize(
    "push",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"productKey":"a1Gt7n5yTt8","deviceName":"gw-child_01","deviceSecret":"\\ud800"}',
        json.dumps(PUSH).encode()[:-3],
        json.dumps(PUSH).encode().ljust(payloads.MAX_ANSWER + 1),
        [],
        [PUSH],
        SECRET,
        None,
        {},
        PUSH | {"deviceName": "gw-child_02"},
        PUSH | {"deviceName": "GW-child_01"},
        PUSH | {"productKey": "a1Gt7n5yTt9"},
        PUSH | {"productKey": None},
        PUSH | {"deviceName": ["gw-child_01"]},
        PUSH | {"deviceSecret": ""},
        PUSH | {"deviceSecret": None},
        PUSH | {"deviceSecret": 7},
        PUSH | {"deviceSecret": [SECRET]},
        PUSH | {"deviceSecret": "x" * 65},
        PUSH | {"deviceSecret": "x y"},
        PUSH | {"deviceSecret": SECRET + "\n"},
        PUSH | {"deviceSecret": "geheim\u00e9"},
        {key: value for key, value in PUSH.items() if key != "deviceSecret"},
    ],
)
def test_anything_else_holds_none(push: Any) -> None:
    assert parse(push) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(payload: bytes) -> None:
    assert parse(payload) is None


def test_the_instance_is_named_where_there_is_one() -> None:
    settings = AlibabaSettings(instance_id="iot-06z00abcdefgh1j", securemode_register=-2)
    login = payloads.register_login(NAME, Secret(b"p5Tq0Zx8Wv3Rk1Ls"), settings, "00ff")
    assert login.client_id == (
        "a1Gt7n5yTt8.gw-child_01|securemode=-2,authType=register,random=00ff,"
        "signmethod=hmacsha256,instanceId=iot-06z00abcdefgh1j|"
    )


def test_the_password_shows_itself_to_nobody() -> None:
    login = payloads.connect_login(NAME, Secret(SECRET.encode()), "hmacsha256")
    assert login.password.reveal().decode() not in repr(login)


def test_the_longest_names_make_a_client_id_the_cloud_takes() -> None:
    assert len(payloads.client_id(CloudName("cloud", "p" * 20, "d" * 32))) <= 64
