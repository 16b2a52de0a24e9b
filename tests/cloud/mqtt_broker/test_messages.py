"""What a child says to its broker, and what it receives: topics and payloads."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.command_router import NoCommand
from gatewayd.cloud.mqtt_broker.messages import (
    MAX_ANSWER,
    MAX_COMMAND,
    TopicCommands,
    is_answer,
    is_success,
    mapped,
)
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage

OWN = BrokerIdentity("meter-1", "meter-1", "d/meter/1/up/", "d/meter/1/down/")
FORM = TopicCommands(OWN)
AT = 1_790_000_000_000


def test_a_value_has_its_time_and_its_topic() -> None:
    said = mapped(Message("properties", b'{"temperature":21.5}', AT), OWN)
    assert said.topic == "d/meter/1/up/properties"
    assert json.loads(said.payload) == {"temperature": 21.5, "time": AT}


@pytest.mark.parametrize(
    ("topic", "payload", "at"),
    [
        ("properties", b'{"a":1,"time":1700000000000}', AT),  # the child knows better
        ("properties", b'{ "a": 1 }', 0),  # the clock was not right
        ("user/raw", b"\x00\xff not JSON", AT),
        ("events", b"x", AT),
    ],
)
def test_what_has_its_form_passes_unchanged(topic: str, payload: bytes, at: int) -> None:
    assert mapped(Message(topic, payload, at), OWN).payload == payload


@pytest.mark.parametrize(
    "topic", ["", "a/+/b", "#", "a//b", "/a", "a/", "$SYS/a", "a b", "ä", "a\0", "x/" * 9 + "x",
              "x" * 300],
)  # fmt: skip
def test_no_topic_leads_elsewhere(topic: str) -> None:
    if topic == "$SYS/a":
        assert mapped(Message(topic, b"", 0), OWN).topic == "d/meter/1/up/$SYS/a"
        return
    with pytest.raises(UnfitMessage) as refused:
        mapped(Message(topic, b"", 0), OWN)
    assert refused.value.reason.code == "message-topic-unknown"


@given(st.text(max_size=40), st.binary(max_size=40))
def test_what_is_published_stays_below_the_child(topic: str, payload: bytes) -> None:
    try:
        said = mapped(Message(topic, payload, AT), OWN)
    except UnfitMessage:
        return
    assert said.topic.startswith(OWN.up)
    assert not set(said.topic) & set("+#\0")


def read(use: str, payload: bytes = b"") -> ChildCommand:
    found = FORM.read(OWN.down + use, payload)
    assert found is not None
    child, command = found
    assert child == OWN.user
    return command


def test_commands_have_a_kind_an_identifier_and_a_place_for_the_answer() -> None:
    one = read("set/77", b'{"limit": 5}')
    assert (one.kind, one.identifier, one.arguments) == (CommandKind.SET, "77", {"limit": 5})
    assert (one.reply_topic, one.topic) == ("answer/77", "set/77")
    assert one.seconds > 0
    assert read("get/7", b'["a","b"]').arguments == {"a": None, "b": None}
    assert read("get/7").arguments == {}
    called = read("call/reboot/x-1", b"{}")
    assert (called.kind, called.name) == (CommandKind.SERVICE, "reboot")
    message = read("anything/else", b"\xff")
    assert (message.kind, message.reply_topic) == (CommandKind.MESSAGE, "")


@pytest.mark.parametrize(
    ("use", "payload"),
    [("set/1", b"[1]"), ("set/1", b"\xff"), ("get/1", b'{"a":1}'), ("get/1", b"[1]"),
     ("get/1", b'],"names":["a"'), ("call/x/1", b"1"), ("set/1", b'{"a":1,"a":2}')],
)  # fmt: skip
def test_a_malformed_command_is_answered_as_failed(use: str, payload: bytes) -> None:
    with pytest.raises(NoCommand) as none:
        FORM.read(OWN.down + use, payload)
    answer = none.value.answer
    assert answer is not None
    assert answer.topic == "d/meter/1/up/answer/1"
    assert json.loads(answer.payload)["ok"] is False


def test_answers() -> None:
    command = read("call/reboot/9")
    done = FORM.write(OWN.user, command, CommandAnswer(CommandOutcome.DONE, result={"a": 1}))
    assert done is not None
    assert done == ("d/meter/1/up/answer/9", b'{"ok":true,"result":{"a":1}}')
    assert is_answer("answer/9")
    assert is_success(command, done.payload)
    refused = FORM.write(OWN.user, command, CommandAnswer(CommandOutcome.NO_ANSWER, "why"))
    assert refused is not None
    assert json.loads(refused.payload) == {"ok": False, "error": "why", "result": {}}
    assert not is_success(command, refused.payload)
    raw = FORM.write(OWN.user, command, CommandAnswer(CommandOutcome.DONE, raw=b"own"))
    assert raw is not None
    assert raw.payload == b"own"
    large = CommandAnswer(CommandOutcome.DONE, raw=b"x" * (MAX_ANSWER + 1))
    cut = FORM.write(OWN.user, command, large)
    assert cut is not None
    assert json.loads(cut.payload)["ok"] is False
    assert FORM.write(OWN.user, read("a/b"), CommandAnswer(CommandOutcome.DONE)) is None


def test_what_is_too_large_or_of_another_topic_is_no_command() -> None:
    assert FORM.read("d/meter/2/down/set/1", b"{}") is None
    assert FORM.read(OWN.down, b"{}") is None
    with pytest.raises(NoCommand):
        FORM.read(f"{OWN.down}set/1", b"x" * (MAX_COMMAND + 1))


@given(st.text(max_size=30), st.binary(max_size=60))
def test_nothing_that_comes_breaks_the_reader(use: str, payload: bytes) -> None:
    with suppress(NoCommand):
        found = FORM.read(OWN.down + use, payload)
        assert (found is None) == (not use)
