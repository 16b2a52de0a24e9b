"""The cloud's commands as they are read, and the answers as they are written."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba.alink import MAX_MESSAGE, SubName
from gatewayd.cloud.alibaba.commanding import commands
from gatewayd.cloud.alibaba.commanding.commands import AlibabaCommands
from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.command_json import MAX_BRACKETS, MAX_MEMBERS
from gatewayd.cloud.command_router import NoCommand
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome

CHILD, RRPC = SubName("a1Child", "child-1"), "1213074105461474816"
OWN = f"{CHILD.product}/{CHILD.device}"
FORM = AlibabaCommands()
DONE = CommandAnswer(CommandOutcome.DONE, result={"done": 1})
FAILED = CommandAnswer(CommandOutcome.NO_ANSWER, "gatewayd: the child did not answer")


def alink(method: str, params: object, number: object = "42") -> bytes:
    return json.dumps({"id": number, "version": "1.0", "params": params, "method": method}).encode()


def read(topic: str, payload: bytes) -> ChildCommand:
    found = FORM.read(topic, payload)
    assert found is not None
    assert found[0] == CHILD
    return found[1]


def written(command: ChildCommand, answer: CommandAnswer) -> tuple[str, Any]:
    mapped = FORM.write(CHILD, command, answer)
    assert mapped is not None
    return mapped.topic, json.loads(mapped.payload)


def test_a_service_that_is_invoked_asynchronously() -> None:
    payload = alink("thing.service.Calibrate", {"Offset": 1.5})
    command = read(f"/sys/{OWN}/thing/service/Calibrate", payload)
    assert command == ChildCommand(
        "42",
        CommandKind.SERVICE,
        "Calibrate",
        {"Offset": 1.5},
        "thing/service/Calibrate",
        payload,
        "thing/service/Calibrate_reply",
        commands.ASYNCHRONOUS,
    )
    topic = f"/sys/{OWN}/thing/service/Calibrate_reply"
    assert written(command, DONE) == (topic, {"id": "42", "code": 200, "data": {"done": 1}})
    body = {"id": "42", "code": 100_004, "data": {}, "message": FAILED.text}
    assert written(command, FAILED) == (topic, body)


def test_properties_are_set() -> None:
    payload = alink("thing.service.property.set", {"Light": 1}, number=42)
    command = read(f"/sys/{OWN}/thing/service/property/set", payload)
    assert (command.kind, command.name, command.identifier) == (CommandKind.SET, "", "42")
    assert command.arguments == {"Light": 1}
    assert written(command, DONE)[0] == f"/sys/{OWN}/thing/service/property/set_reply"


def test_properties_are_read() -> None:
    payload = alink("thing.service.property.get", ["Light", "Height"])
    command = read(f"/sys/{OWN}/thing/service/property/get", payload)
    assert (command.kind, list(command.arguments)) == (CommandKind.GET, ["Light", "Height"])


@pytest.mark.parametrize("module", ["Calibrate", "module:Calibrate"])
def test_a_service_that_is_invoked_synchronously(module: str) -> None:
    topic = f"/ext/rrpc/{RRPC}/sys/{OWN}/thing/service/{module}"
    command = read(topic, alink(f"thing.service.{module}", {}))
    assert (command.kind, command.name, command.identifier) == (CommandKind.SERVICE, module, RRPC)
    assert command.topic == command.reply_topic == f"ext/rrpc/{RRPC}/thing/service/{module}"
    assert command.seconds == 8.0
    assert written(command, DONE) == (topic, {"id": "42", "code": 200, "data": {"done": 1}})


@pytest.mark.parametrize(
    ("method", "kind", "name"),
    [
        ("thing.service.Calibrate", CommandKind.SERVICE, "Calibrate"),
        ("thing.service.property.set", CommandKind.SET, ""),
    ],
)
def test_a_service_on_the_general_topic_of_rrpcs(method: str, kind: CommandKind, name: str) -> None:
    command = read(f"/sys/{OWN}/rrpc/request/{RRPC}", alink(method, {"a": 1}))
    assert (command.kind, command.name, command.arguments) == (kind, name, {"a": 1})
    topic, body = written(command, FAILED)
    assert topic == f"/sys/{OWN}/rrpc/response/{RRPC}"
    assert (body["id"], body["code"]) == ("42", 100_004)


@pytest.mark.parametrize(
    "payload", [b"", b"hello world", b"\xff", b"{}", b'{"method": "thing.service.x"}']
)
@pytest.mark.parametrize(
    ("topic", "reply"),
    [
        (f"/sys/{OWN}/rrpc/request/{RRPC}", f"/sys/{OWN}/rrpc/response/{RRPC}"),
        (f"/ext/rrpc/{RRPC}/{OWN}/user/get", f"/ext/rrpc/{RRPC}/{OWN}/user/get"),
    ],
)
def test_an_rrpc_of_any_bytes(topic: str, reply: str, payload: bytes) -> None:
    command = read(topic, payload)
    assert (command.kind, command.identifier) == (CommandKind.REQUEST, RRPC)
    assert (command.seconds, command.payload) == (8.0, payload)
    raw = CommandAnswer(CommandOutcome.DONE, raw=b"\x00any")
    mapped = FORM.write(CHILD, command, raw)
    assert mapped is not None
    assert (mapped.topic, mapped.payload) == (reply, b"\x00any")
    assert written(command, DONE) == (reply, {"done": 1})
    assert FORM.write(CHILD, command, FAILED) is None, "the cloud knows no negative answer"


def test_a_message_on_a_topic_of_a_user() -> None:
    command = read(f"/{OWN}/user/a/b_reply", b"\x00")
    assert (command.kind, command.topic, command.name) == (
        CommandKind.MESSAGE,
        "user/a/b_reply",
        "a/b_reply",
    )
    assert (command.identifier, command.seconds) == ("", 0.0)
    assert FORM.write(CHILD, command, DONE) is None


@pytest.mark.parametrize(
    "topic",
    [
        "",
        f"/sys/{OWN}/thing/service/Calibrate_reply",
        f"/sys/{OWN}/thing/service/property/set_reply",
        f"/sys/{OWN}/thing/service/property/desired/get",
        f"/sys/{OWN}/thing/event/property/post_reply",
        f"/sys/{OWN}/thing/disable",
        f"/sys/{OWN}/rrpc/response/{RRPC}",
        f"/sys/{OWN}/rrpc/request/a/b",
        f"/sys/{OWN}/rrpc/request/",
        f"/ext/rrpc/{RRPC}/sys/{OWN}/rrpc/request/1",
        f"/ext/rrpc/{'1' * 65}/{OWN}/user/get",
        "/sys/a1Child/user/x",
        "/ext/error/user/x",
        f"/{OWN}/user/",
        f"/{OWN}/user/a\nb",
        f"/{CHILD.product}/x y z/user/get",
    ],
)
def test_another_topic_is_none_of_commands(topic: str) -> None:
    assert FORM.read(topic, b"{}") is None


def test_a_device_gets_no_commands_of_another() -> None:
    topic, payload = f"/sys/{OWN}/thing/service/x", alink("thing.service.x", {})
    assert AlibabaCommands(SubName("a1Child", "child-2")).read(topic, payload) is None
    assert AlibabaCommands(CHILD).read(topic, payload) is not None


@pytest.mark.parametrize("params", [None, [], "x", 1])
def test_what_cannot_be_read_is_answered_where_its_id_is_legible(params: object) -> None:
    with pytest.raises(NoCommand) as raised:
        read(f"/sys/{OWN}/thing/service/property/set", alink("m", params))
    answer = raised.value.answer
    assert answer is not None
    assert answer.topic == f"/sys/{OWN}/thing/service/property/set_reply"
    assert json.loads(answer.payload)["code"] == commands.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"id": "1", "id": "2", "params": {}}',
        b'{"id": "1", "params": {"x": 1e999}}',
        alink("m", {}, number=""),
        alink("m", {}, number=None),
        alink("m", {}, number=1 << 40),
        alink("m", {}, number="a\nb"),
        alink("m", {}, number="\u202e1"),
        alink("m", {"x": "y" * MAX_MESSAGE}),
    ],
)
def test_without_a_legible_id_nothing_is_answered(payload: bytes) -> None:
    with pytest.raises(NoCommand) as raised:
        read(f"/sys/{OWN}/thing/service/Calibrate", payload)
    assert raised.value.answer is None


def test_an_answer_that_does_not_fit() -> None:
    large = CommandAnswer(CommandOutcome.DONE, raw=b"x" * (MAX_MESSAGE + 1))
    broken = CommandAnswer(CommandOutcome.DONE, result={"x": float("inf")})
    service = read(f"/sys/{OWN}/thing/service/x", alink("thing.service.x", {}))
    request = read(f"/sys/{OWN}/rrpc/request/{RRPC}", b"x")
    for answer in (large, broken):
        assert written(service, answer)[1]["code"] == commands.CODES[CommandOutcome.FAILED]
        assert FORM.write(CHILD, request, answer) is None


def test_all_codes_are_of_the_range_for_devices() -> None:
    assert set(commands.CODES) == set(CommandOutcome)
    own = [commands.MALFORMED, *commands.CODES.values()]
    assert [code for code in own if not 100_000 <= code <= 110_000] == [200]
    assert len(set(own)) == len(own)


TOPICS = st.sampled_from(
    [
        f"/sys/{OWN}/thing/service/x",
        f"/sys/{OWN}/thing/service/property/set",
        f"/sys/{OWN}/thing/service/property/get",
        f"/sys/{OWN}/rrpc/request/{RRPC}",
        f"/ext/rrpc/{RRPC}/sys/{OWN}/thing/service/x",
        f"/ext/rrpc/{RRPC}/{OWN}/user/x",
        f"/{OWN}/user/x",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
MEMBERS = st.fixed_dictionaries({}, optional={"id": JSON, "params": JSON, "method": JSON})


@given(TOPICS, st.binary() | MEMBERS.map(lambda body: json.dumps(body).encode()))
def test_any_bytes_are_a_command_or_none(topic: str, payload: bytes) -> None:
    try:
        command = read(topic, payload)
    except NoCommand:
        return
    assert command.payload == payload
    if command.kind not in (CommandKind.REQUEST, CommandKind.MESSAGE):
        assert written(command, FAILED)[1]["code"] == 100_004


@given(st.text() | st.text("/sysexrpc123userthing_reply", max_size=80), st.binary(max_size=20))
def test_any_topic_is_read_without_an_error(topic: str, payload: bytes) -> None:
    with suppress(NoCommand):
        FORM.read(topic, payload)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("thing/service/reboot_reply", True),
        ("thing/service/property/set_reply", True),
        ("rrpc/response/123", True),
        ("ext/rrpc/123/thing/service/reboot", True),
        ("ext/rrpc/123/user/get", True),
        ("thing/event/property/post", False),
        ("thing/service/reboot", False),
        ("sys/commands/response/request_id=1", False),
        ("user/answer", False),
        ("properties", False),
    ],
)
def test_what_only_an_answer_has_as_its_topic(topic: str, expected: bool) -> None:
    assert Alibaba.is_answer(topic) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"id":"1","code":200,"data":{}}', True),
        (b'{"id":"1","code":100001}', False),
        (b'{"code":"200"}', False),
        (b'{"code":null}', False),
        (b"{}", True),
        (b"\xff", True),
    ],
)
def test_whether_an_answer_is_a_success(payload: bytes, expected: bool) -> None:
    service = read(f"/sys/{OWN}/thing/service/Calibrate", alink("thing.service.Calibrate", {}))
    assert Alibaba.is_success(service, payload) is expected
    assert Alibaba.is_answer(service.reply_topic)
    request = read(f"/sys/{OWN}/rrpc/request/{RRPC}", b"any bytes")
    assert Alibaba.is_success(request, payload), "they have no code"


@pytest.mark.parametrize(
    "params",
    [
        {"": 1},
        {"x" * 129: 1},
        {"a\nb": 1},
        {str(number): 1 for number in range(MAX_MEMBERS + 1)},
    ],
    ids=["empty", "long", "line", "many"],
)
@pytest.mark.parametrize("method", ["property/set", "property/get", "Calibrate"])
def test_what_cannot_be_the_names_of_arguments(method: str, params: dict[str, int]) -> None:
    sent = list(params) if method == "property/get" else params
    with pytest.raises(NoCommand) as raised:
        FORM.read(f"/sys/{OWN}/thing/service/{method}", alink("m", sent))
    assert (raised.value.kind, raised.value.child) == ("malformed", CHILD)
    assert raised.value.answer is not None, "it is refused at once"


def test_a_small_payload_that_is_large_in_memory_is_not_read() -> None:
    topic, most = f"/sys/{OWN}/thing/service/Calibrate", MAX_BRACKETS - 3
    assert read(topic, alink("m", {"a": [[]] * most})).arguments
    with pytest.raises(NoCommand):
        FORM.read(topic, alink("m", {"a": [[]] * (most + 1)}))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"id":"7","code":200}', "7"),
        (b'{"id":7}', "7"),
        (b'{"id":null}', ""),
        (b'{"id":[7]}', ""),
        (b'{"id":"a b"}', ""),
        (b"{}", ""),
        (b"[7]", ""),
        (b"\xff", ""),
    ],
)
def test_an_answer_shows_its_identifier(payload: bytes, expected: str) -> None:
    assert Alibaba.identifier_in(payload) == expected
