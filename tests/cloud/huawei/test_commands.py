"""The platform's commands as they are read, and the answers as they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.command_json import MAX_MEMBERS
from gatewayd.cloud.command_router import NoCommand
from gatewayd.cloud.huawei.commanding.commands import MAX_COMMAND, HuaweiCommands
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome

GW, CHILD, NUMBER = "p_gw-1", "p_child-1", "9a1b-c"
ROOT = f"$oc/devices/{GW}/sys"
FORM = HuaweiCommands(GW, lambda device_id: "climate" if device_id == CHILD else "")
FAILED = CommandAnswer(CommandOutcome.NO_ANSWER, "gatewayd: the child did not answer")


def read(use: str, body: object, number: str = NUMBER) -> tuple[str, ChildCommand]:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = FORM.read(f"{ROOT}/{use}/request_id={number}", payload)
    assert found is not None
    return found


def written(child: str, command: ChildCommand, answer: CommandAnswer) -> tuple[str, Any]:
    mapped = FORM.write(child, command, answer)
    assert mapped is not None
    return mapped.topic, json.loads(mapped.payload)


def test_a_command_to_a_child() -> None:
    body = {
        "object_device_id": CHILD,
        "service_id": "climate",
        "command_name": "calibrate",
        "paras": {"offset": 1.5, "why": None},
    }
    child, command = read("commands", body)
    assert child == CHILD
    assert command == ChildCommand(
        NUMBER,
        CommandKind.SERVICE,
        "calibrate",
        {"offset": 1.5, "why": None},
        f"sys/commands/request_id={NUMBER}",
        json.dumps(body).encode(),
        f"sys/commands/response/request_id={NUMBER}",
        20.0,
    )
    done = CommandAnswer(CommandOutcome.DONE, result={"offset": 1.5})
    topic = f"{ROOT}/commands/response/request_id={NUMBER}"
    assert written(child, command, done) == (
        topic,
        {"result_code": 0, "response_name": "calibrate", "paras": {"offset": 1.5}},
    )
    paras = {"error": FAILED.text}
    assert written(child, command, FAILED) == (
        topic,
        {"result_code": 1, "response_name": "calibrate", "paras": paras},
    )


@pytest.mark.parametrize("about", [{}, {"object_device_id": None}, {"object_device_id": ""}])
def test_a_command_that_names_no_child_is_for_the_gateway(about: dict[str, object]) -> None:
    body = {"service_id": "radio", "command_name": "scan", **about}
    child, command = read("commands", body)
    assert (child, command.name, command.arguments) == (GW, "radio:scan", {})


def test_a_command_of_a_form_that_the_owner_has_agreed_on() -> None:
    child, command = read("commands", {"object_device_id": CHILD, "paras": {"x": [1, {}]}})
    assert (child, command.name, command.arguments) == (CHILD, "", {"x": [1, {}]})


def test_properties_are_set() -> None:
    services = [
        {"service_id": "climate", "properties": {"target": 21.5}},
        {"service_id": "light", "properties": {"on": True}},
    ]
    child, command = read("properties/set", {"object_device_id": CHILD, "services": services})
    assert (child, command.kind) == (CHILD, CommandKind.SET)
    assert command.arguments == {"target": 21.5, "light:on": True}
    topic = f"{ROOT}/properties/set/response/request_id={NUMBER}"
    done = CommandAnswer(CommandOutcome.DONE)
    assert written(child, command, done) == (topic, {"result_code": 0, "result_desc": "success"})
    assert written(child, command, FAILED)[1] == {"result_code": 1, "result_desc": FAILED.text}


def test_properties_are_read() -> None:
    child, command = read("properties/get", {"object_device_id": CHILD, "service_id": "light"})
    assert (child, command.kind, command.name) == (CHILD, CommandKind.GET, "light")
    done = CommandAnswer(CommandOutcome.DONE, result={"on": True, "climate:target": 21.5})
    assert written(child, command, done) == (
        f"{ROOT}/properties/get/response/request_id={NUMBER}",
        {
            "services": [
                {"service_id": "light", "properties": {"on": True}},
                {"service_id": "climate", "properties": {"target": 21.5}},
            ]
        },
    )
    assert written(child, command, FAILED)[1]["result_code"] == 1


def test_a_message() -> None:
    body = {"object_device_id": CHILD, "name": "hello", "id": "m-1", "content": {"a": 1}}
    found = FORM.read(f"{ROOT}/messages/down", json.dumps(body).encode())
    assert found is not None
    child, command = found
    assert (child, command.kind, command.name) == (CHILD, CommandKind.MESSAGE, "hello")
    assert (command.identifier, command.topic) == ("m-1", "sys/messages/down")
    assert (command.reply_topic, command.seconds) == ("", 0.0)
    assert FORM.write(child, command, FAILED) is None


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"[1]", b'{"a": NaN}', b"on"])
def test_a_message_of_any_bytes_is_for_the_gateway(payload: bytes) -> None:
    found = FORM.read(f"{ROOT}/messages/down", payload)
    assert found is not None
    assert (found[0], found[1].payload) == (GW, payload)


def test_an_answer_in_the_platforms_own_form_passes_unchanged() -> None:
    child, command = read("commands", {"object_device_id": CHILD, "paras": {}})
    raw = b'{ "result_code" : 7 }'
    mapped = FORM.write(child, command, CommandAnswer(CommandOutcome.FAILED, raw=raw))
    assert mapped is not None
    assert mapped.payload == raw


@pytest.mark.parametrize(
    "answer",
    [
        CommandAnswer(CommandOutcome.DONE, raw=b"x" * (256 * 1024 + 1)),
        CommandAnswer(CommandOutcome.DONE, result={"x": float("nan")}),
        CommandAnswer(CommandOutcome.DONE, result={"x": "\ud800"}),
        CommandAnswer(CommandOutcome.DONE, result={"x": object()}),
        CommandAnswer(CommandOutcome.DONE, result={"x": "y" * (256 * 1024)}),
    ],
)
def test_an_answer_that_does_not_fit_is_a_failure(answer: CommandAnswer) -> None:
    child, command = read("commands", {"object_device_id": CHILD, "paras": {}})
    assert written(child, command, answer)[1]["result_code"] == 1


MALFORMED: list[object] = [
    b"",
    b"{",
    b"[]",
    b'{"paras": {}, "paras": {}}',
    b'{"paras": {"x": 1e999}}',
    b"[" * 100_000,
    b'{"paras": {"x": "' + b"y" * MAX_COMMAND + b'"}}',
    {"paras": []},
    {"paras": {}, "service_id": 1},
    {"paras": {}, "command_name": "a\nb"},
    {"paras": {}, "command_name": "x" * 129},
    {"object_device_id": "a/b", "paras": {}},
    {"object_device_id": 7, "paras": {}},
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body)[:30])
def test_what_cannot_be_read_is_answered_as_a_failure(body: object) -> None:
    with pytest.raises(NoCommand) as raised:
        read("commands", body)
    answer = raised.value.answer
    assert answer is not None
    assert answer.topic == f"{ROOT}/commands/response/request_id={NUMBER}"
    assert json.loads(answer.payload)["result_code"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"services": []},
        {"services": {}},
        {"services": [1]},
        {"services": [{"service_id": "a"}]},
        {"services": [{"service_id": 1, "properties": {"b": 1}}]},
        {"services": [{"service_id": "a", "properties": {"": 1}}]},
        {"services": [{"service_id": "a", "properties": {"x" * 129: 1}}]},
    ],
)
def test_properties_that_cannot_be_read(body: object) -> None:
    with pytest.raises(NoCommand):
        read("properties/set", body)


@pytest.mark.parametrize("number", ["", "a/b", "x" * 65, "ä", "a b"])
def test_without_a_legible_request_id_nothing_is_answered(number: str) -> None:
    with pytest.raises(NoCommand) as raised:
        read("commands", {"paras": {}}, number)
    assert raised.value.answer is None


@pytest.mark.parametrize(
    "topic",
    [
        "",
        f"$oc/devices/{GW}2/sys/commands/request_id=1",
        f"{ROOT}/commands/response/request_id=1",
        f"{ROOT}/events/down",
        f"{ROOT}/shadow/get/response/request_id=1",
        f"$oc/devices/{GW}/user/x",
    ],
)
def test_another_topic_is_none_of_commands(topic: str) -> None:
    assert FORM.read(topic, b"{}") is None


USES = st.sampled_from(["commands", "properties/set", "properties/get"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "object_device_id": JSON,
        "paras": JSON,
        "services": JSON,
        "service_id": JSON,
        "command_name": JSON,
    },
)


@given(USES, st.binary() | MEMBERS.map(lambda body: json.dumps(body).encode()))
def test_any_bytes_are_a_command_or_none(use: str, payload: bytes) -> None:
    try:
        child, command = read(use, payload)
    except NoCommand as fault:
        answer: MappedMessage | None = fault.answer
    else:
        answer = FORM.write(child, command, FAILED)
    assert answer is not None
    assert json.loads(answer.payload)["result_code"] == 1


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("sys/commands/response/request_id=1", True),
        ("sys/properties/set/response/request_id=1", True),
        ("sys/properties/get/response/request_id=1", True),
        ("sys/properties/report", False),
        ("sys/messages/up", False),
        ("thing/service/reboot_reply", False),
        ("user/rrpc", False),
        ("properties", False),
    ],
)
def test_what_only_an_answer_has_as_its_topic(topic: str, expected: bool) -> None:
    assert Huawei.is_answer(topic) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"result_code":0,"paras":{}}', True),
        (b'{"result_code":1}', False),
        (b'{"result_code":"0"}', False),
        (b'{"code":500}', True),
        (b'{"services":[]}', True),
        (b"\xff", True),
    ],
)
def test_whether_an_answer_is_a_success(payload: bytes, expected: bool) -> None:
    _, command = read("commands", {"command_name": "calibrate"})
    assert Huawei.is_success(command, payload) is expected
    assert Huawei.is_answer(command.reply_topic)


@pytest.mark.parametrize(
    "members",
    [
        {"": 1},
        {"x" * 129: 1},
        {"a\nb": 1},
        {str(number): 1 for number in range(MAX_MEMBERS + 1)},
    ],
    ids=["empty", "long", "line", "many"],
)
@pytest.mark.parametrize("use", ["commands", "properties/set"])
def test_what_cannot_be_the_names_of_arguments(use: str, members: dict[str, int]) -> None:
    body = {
        "commands": {"command_name": "calibrate", "paras": members},
        "properties/set": {"services": [{"service_id": "climate", "properties": members}]},
    }[use]
    with pytest.raises(NoCommand) as raised:
        read(use, body)
    assert raised.value.answer is not None, "it is refused at once"


def test_properties_of_many_services_are_counted_together() -> None:
    services = [
        {"service_id": f"s{which}", "properties": {str(n): 1 for n in range(MAX_MEMBERS // 2)}}
        for which in range(3)
    ]
    assert read("properties/set", {"services": services[:2]})
    with pytest.raises(NoCommand):
        read("properties/set", {"services": services})
