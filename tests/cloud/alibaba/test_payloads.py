"""What is signed and sent, by vectors on which other implementations agree; and replies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.settings import (
    SIGN_METHODS,
    AlibabaGateway,
    AlibabaProduct,
    AlibabaSettings,
    client_id_template,
)
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls

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
        return payloads.register_content(name_in(vector), inputs["random"])
    timestamp = inputs["timestamp"] or ""
    return payloads.connect_content(name_in(vector), inputs["clientId"], timestamp)


KINDS = ("dynreg_mqtt", "device_connect", "topo_add", "combine_login", "https_register")


@pytest.mark.parametrize("vector", [vector for kind in KINDS for vector in of_kind(kind)])
def test_content_and_sign(vector: dict[str, Any]) -> None:
    content = content_of(vector)
    assert content == vector["sign_content"]
    digest = payloads.sign(vector["algorithm"], Secret(vector["key"].encode()), content)
    assert digest == vector["digest_hex_lower"]


def test_no_vector_is_left_out() -> None:
    assert {vector["kind"] for vector in VECTORS["vectors"]} == set(KINDS)


@pytest.mark.parametrize("vector", VECTORS["negative"], ids=lambda v: str(v["name"]))
def test_what_others_got_wrong(vector: dict[str, Any]) -> None:
    assert content_of(BY_NAME[vector["base"]]) != vector["sign_content"]
    digest = payloads.sign(
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
        AlibabaSettings(sign_method=vector["algorithm"]),
        vector["inputs"]["timestamp"] or "",
    )
    assert login.client_id == vector["mqtt_client_id"].removesuffix("|") + ",ext=1|"
    assert login.user_name == vector["mqtt_username"]
    assert login.password.reveal().decode() == vector["mqtt_password"]


NAME = CloudName("cloud", "a1Gt7n5yTt8", "gw-child_01")
SUB = SubName("a1Gt7n5yTt8", "gw-child_01")
ENTRY = {"productKey": SUB.product, "deviceName": SUB.device}


CLIENT = "a1Gt7n5yTt8.gw-child_01"
ATTACHED = [
    vector
    for vector in VECTORS["vectors"]
    if vector["kind"] == "topo_add" and vector["inputs"]["clientId"] == CLIENT
]
"""Those with the client id that we choose; a login signs the same."""


@pytest.mark.parametrize("vector", ATTACHED, ids=lambda vector: str(vector["name"]))
def test_one_that_is_attached_and_logged_in(vector: dict[str, Any]) -> None:
    key, timestamp = Secret(vector["key"].encode()), vector["inputs"]["timestamp"]
    method = vector["algorithm"]
    both = ENTRY | {
        "clientId": CLIENT,
        "timestamp": timestamp,
        "sign": vector["digest_hex_lower"],
    }
    spelled = payloads.SPELLING[method]
    login = payloads.ChildLogin(CLIENT, method, timestamp)
    assert payloads.to_attach(NAME, key, login) == both | {"signmethod": spelled}
    expected = both | {"signMethod": spelled, "cleanSession": "true"}
    assert payloads.to_log_in(NAME, key, login) == expected
    lasting = payloads.to_log_in(NAME, key, replace(login, clean_session=False))
    assert lasting == expected | {"cleanSession": "false"}


def test_one_whose_product_vouches_for_it() -> None:
    vector = next(
        one for one in VECTORS["vectors"] if one["name"] == "V03-dynreg-register-hmacsha256"
    )
    key, random = Secret(vector["key"].encode()), vector["inputs"]["random"]
    assert payloads.with_product_secret(NAME, key, "hmacsha256", random) == ENTRY | {
        "random": random,
        "signMethod": "hmacSha256",
        "sign": vector["digest_hex_lower"],
    }


def test_every_method_can_be_spelled() -> None:
    assert ATTACHED
    assert {*payloads.SPELLING} == {*SIGN_METHODS}


def test_secrets_are_found_by_name_never_by_position() -> None:
    other = {"productKey": SUB.product, "deviceName": "gw-child_02"}
    data = [other | {"deviceSecret": "two"}, ENTRY | {"deviceSecret": "one"}]
    assert payloads.issued(data) == {
        SubName(SUB.product, "gw-child_02"): Secret(b"two"),
        SUB: Secret(b"one"),
    }


@pytest.mark.parametrize(
    "data",
    [
        None, "", {}, [], [None], "text", [ENTRY], [ENTRY | {"deviceSecret": ""}],
        [ENTRY | {"deviceSecret": 7}], [ENTRY | {"deviceSecret": "a b"}], [{"deviceSecret": "x"}],
        [ENTRY | {"deviceSecret": "x" * 65}], [{"deviceName": 1} | {"deviceSecret": "x"}],
    ],
)  # fmt: skip
def test_a_reply_without_a_secret(data: object) -> None:
    assert not payloads.issued(data)


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        ([ENTRY | {"errorDetail": {"code": 6619}}], {SUB: 6619}),
        ([ENTRY | {"errorDetail": {"code": "6619"}}], {SUB: 6619}),
        ([ENTRY | {"errorDetail": {"code": "x"}}], {}),
        ([ENTRY | {"errorDetail": {"code": None}}], {}),
        ([ENTRY | {"errorDetail": []}], {}),
        ([ENTRY], {}),
        ([{"errorDetail": {"code": 6619}}], {}),
        (None, {}),
    ],
)
def test_failures(data: object, codes: dict[SubName, int]) -> None:
    assert payloads.failures(data) == codes


@pytest.mark.parametrize(("data", "part"), [({"a": 1}, 1), ({}, None), ([], None), (None, None)])
def test_a_part_of_a_reply(data: object, part: object) -> None:
    assert payloads.part(data, "a") == part


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


def test_the_password_is_not_shown() -> None:
    login = payloads.connect_login(NAME, Secret(SECRET.encode()), AlibabaSettings())
    assert login.password.reveal().decode() not in repr(login)


def test_the_longest_names_make_a_client_id_the_cloud_takes() -> None:
    name = CloudName("cloud", "p" * 20, "d" * 32)
    assert len(payloads.client_id_of(name, AlibabaSettings())) <= 64


def test_a_client_id_is_as_the_settings_say_and_is_signed() -> None:
    """As a MAC, where rules name devices so; and of the gateway as its operator likes."""
    gateway = AlibabaGateway("a1Gt7n5yTt8", "gw", client_id="00:1A:2B:3C:4D:5E")
    settings = AlibabaSettings(client_id="{device}", gateway=gateway, clean_session=False)
    child = CloudName("cloud", "a1Gt7n5yTt8", "00:1a:2b:00:00:01")
    for name, client in ((child, child.device), (CloudName("cloud", "a1Gt7n5yTt8", "gw"),
                                                 gateway.client_id)):  # fmt: skip
        login = payloads.connect_login(name, Secret(b"secret"), settings)
        assert login.client_id.split("|")[0] == client
        assert not login.clean_session
        content = payloads.connect_content(name, client)
        assert login.password.reveal().decode() == payloads.sign(
            "hmacsha256", Secret(b"secret"), content
        )
        random = payloads.register_login(name, Secret(b"secret"), settings, "00ff")
        assert random.client_id.split("|")[0] == client
        assert random.clean_session


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{serial}", "unknown field"),
        ("fixed", "must have {device}"),
        ("{device}|x", "without spaces and |"),
        ("a b{device}", "without spaces"),
        ("{device}" + "x" * 60, "1 to 64"),
        ("{device}ü", "printable ASCII"),
        ("gw:{product}/{device}", ""),
    ],
)
def test_a_template_of_client_ids_has_bounds(template: str, says: str) -> None:
    fault = client_id_template(template)
    assert says in fault
    assert bool(fault) == bool(says)


def test_a_child_whose_client_id_would_be_too_long_is_named() -> None:
    settings = AlibabaSettings(
        client_id="site-0001-building-0002:{product}:{device}",
        products={"a1Gt7n5yTt8": AlibabaProduct()},
    )
    account = AlibabaAccount(settings, lambda *_: Secret(b""), tls.TrustStore(None))
    assert account.check_name(CloudName("cloud", "a1Gt7n5yTt8", "d" * 4)) is None
    assert (
        account.check_name(CloudName("cloud", "a1Gt7n5yTt8", "d" * 32))
        == reasons.CLIENT_ID_TOO_LONG
    )
