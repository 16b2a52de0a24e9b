"""What an answer of a child says, and which command it is to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.commands.answers import (
    MAX_ANSWER,
    MAX_TEXT,
    MAX_VALUES,
    TOO_LARGE,
    UNREADABLE,
    in_cloud_form,
    in_neutral_form,
)
from gatewayd.commands.door import DoorCommand, answer_topic
from gatewayd.commands.pending import (
    LACKING,
    LACKING_BYTES,
    MOST_BYTES,
    REMEMBERED,
    REMEMBERED_OF_CHILD,
    EndedCommands,
    PendingCommand,
    PendingCommands,
)
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.identity import DeviceId
from tests.commands.doubles import ALICE, FORM, command

DONE, FAILED = CommandOutcome.DONE, CommandOutcome.FAILED


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"", CommandAnswer(DONE)),
        (b" \n", CommandAnswer(DONE)),
        (b"{}", CommandAnswer(DONE)),
        (b' { "a" : 1, "b" : true } ', CommandAnswer(DONE, result={"a": 1, "b": True})),
        (b'{"error":"valve is stuck"}', CommandAnswer(FAILED, "valve is stuck")),
        (b'{"error":"","at":3}', CommandAnswer(FAILED, "the child could not do it", {"at": 3})),
        (b'{"error":5}', CommandAnswer(FAILED, "5")),
        (b'{"error":true}', CommandAnswer(FAILED, "True")),
        (b'{"error":false,"a":1}', CommandAnswer(DONE, result={"a": 1})),
        (b'{"error":null,"a":1}', CommandAnswer(DONE, result={"a": 1})),
        (b'{"error":{"code":1}}', UNREADABLE),
        (b'{"error":"\\u001b[2J\\n"}', CommandAnswer(FAILED, "[2J")),
        (b'{"a":null}', UNREADABLE),
        (b'{"a":[1]}', UNREADABLE),
        (b'{"a":{"b":1}}', UNREADABLE),
        (b'{"a":NaN}', UNREADABLE),
        (b"[]", UNREADABLE),
        (b"null", UNREADABLE),
        (b"done", UNREADABLE),
        (b"\xff", UNREADABLE),
        (b"[" * 100_000, UNREADABLE),
        (json.dumps(dict.fromkeys(map(str, range(MAX_VALUES + 1)), 1)).encode(), UNREADABLE),
        (b" " * (MAX_ANSWER + 1), TOO_LARGE),
    ],
)  # fmt: skip
def test_the_neutral_form(payload: bytes, answer: CommandAnswer) -> None:
    assert in_neutral_form(command(), payload) == answer


def test_a_sentence_of_a_child_is_cut() -> None:
    answer = in_neutral_form(command(), json.dumps({"error": "x" * 1000}).encode())
    assert len(answer.text) == MAX_TEXT


def test_a_request_is_answered_by_bytes_in_any_form() -> None:
    request = command(kind=CommandKind.REQUEST)
    assert in_neutral_form(request, b"\xff\x00") == CommandAnswer(DONE, raw=b"\xff\x00")
    assert in_neutral_form(request, b"x" * (MAX_ANSWER + 1)) == TOO_LARGE


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (b'{"result_code":0,"paras":{}}', DONE),
        (b'{"result_code":1}', FAILED),
        (b'{"services":[]}', DONE),
        (b"\xff", DONE),
    ],
)
def test_the_form_of_a_cloud_passes_unchanged(payload: bytes, outcome: CommandOutcome) -> None:
    assert in_cloud_form(FORM, command(), payload) == CommandAnswer(outcome, raw=payload)


def waiting(*commands: ChildCommand) -> PendingCommands:
    found = PendingCommands()
    for one in commands:
        found.add(PendingCommand(DoorCommand(ALICE, one, 0.0, True, lambda _: None), 0.0))
    return found


def alibaba(identifier: str) -> ChildCommand:
    """Make a command whose identifier is in the payload alone."""
    return command(
        identifier, topic="thing/service/reboot", reply_topic="thing/service/reboot_reply"
    )


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"id":"2","code":200}', "2"),
        (b'{"id":2,"code":200}', "2"),
        (b'{"id":"3","code":200}', None),
        (b'{"code":200}', None),
        (b'{"id":null}', None),
        (b"done", None),
    ],
)
def test_of_several_with_one_topic_the_payload_says_which(
    payload: bytes, found: str | None
) -> None:
    pending = waiting(alibaba("1"), alibaba("2"))
    one = pending.answered(ALICE, "thing/service/reboot_reply", payload, b"", FORM)
    assert (one.command.identifier if one else None) == found


def test_an_identifier_that_no_level_can_hold_goes_by_correlation() -> None:
    odd = "a/b+" + "x" * 200
    assert answer_topic(odd) == "answer"
    assert answer_topic("7") == "answer/7"
    pending = waiting(command(odd), command(""))
    assert pending.answered(ALICE, "answer", b"", odd.encode(), FORM) is not None
    assert pending.answered(ALICE, "answer", b"", b"other", FORM) is None
    assert pending.answered(ALICE, "answer", b"", b"", FORM) is None


def test_answers_that_a_cloud_may_lack_are_bounded() -> None:
    ended, answer = EndedCommands(), CommandAnswer(DONE, raw=b"x")
    for number in range(LACKING + 1):
        ended.keep(ALICE, command(str(number)), answer, 20.0)
    assert ended.take(ALICE, command("0")) is None
    assert ended.take(ALICE, command("1")) == answer
    assert ended.take(ALICE, command("1")) is None, "it is given once"
    ended.keep(ALICE, command("1"), CommandAnswer(DONE, raw=b"x" * (LACKING_BYTES + 1)), 20.0)
    assert ended.take(ALICE, command("1")) is None


@pytest.mark.parametrize(
    "answer",
    [
        CommandAnswer(DONE, result={"a": "x" * LACKING_BYTES}),
        CommandAnswer(DONE, result={"x" * LACKING_BYTES: 1}),
        CommandAnswer(DONE, result={"a": 10 ** (3 * LACKING_BYTES)}),
        CommandAnswer(FAILED, result=dict.fromkeys(map(str, range(LACKING_BYTES // 64)), 1)),
    ],
    ids=["text", "name", "number", "count"],
)
def test_a_large_answer_in_the_neutral_form_is_not_kept(answer: CommandAnswer) -> None:
    ended = EndedCommands()
    ended.keep(ALICE, command("1"), answer, 20.0)
    assert ended.take(ALICE, command("1")) is None


def test_of_a_child_that_is_gone_nothing_is_remembered() -> None:
    ended, bob = EndedCommands(), DeviceId("child-b")
    for child in (ALICE, bob):
        ended.remember(child, command("1"))
        ended.keep(child, command("1"), CommandAnswer(DONE), 20.0)
    ended.forget(ALICE)
    ended.forget(DeviceId("never-seen"))
    assert not ended.knows(ALICE, command("1"))
    assert ended.take(ALICE, command("1")) is None
    assert ended.knows(bob, command("1"))
    assert ended.take(bob, command("1")) is not None
    for number in range(REMEMBERED):
        ended.remember(DeviceId(f"child-{number}"), command("1"))
    assert not ended.knows(bob, command("1"))
    assert ended.knows(DeviceId("child-0"), command("1"))


def test_the_bytes_of_commands_that_wait_are_bounded() -> None:
    large = [command(str(n), payload=b"x" * (MOST_BYTES // 8)) for n in range(9)]
    pending = waiting(*large[:8])
    assert not pending.has_room(ALICE, large[8])
    assert not pending.has_room(DeviceId("child-b"), large[8])
    assert pending.has_room(ALICE, command("9", payload=b""))
    for one in list(pending.all()):
        pending.end(one)
    assert pending.has_room(ALICE, large[8])


def test_what_is_remembered_is_bounded() -> None:
    ended = EndedCommands()
    for number in range(REMEMBERED_OF_CHILD + 10):
        ended.remember(ALICE, command(str(number)))
    assert not ended.knows(ALICE, command("9"))
    assert ended.knows(ALICE, command("10"))
    for number in range(REMEMBERED):
        ended.remember(DeviceId(f"child-{number}"), command("1"))
    assert not ended.knows(ALICE, command(str(REMEMBERED_OF_CHILD)))
    assert not ended.knows(ALICE, command(""))
    known = [ended.knows(DeviceId(f"child-{n}"), command("1")) for n in range(REMEMBERED)]
    assert sum(known) == REMEMBERED


@given(st.binary(max_size=300) | st.text(max_size=80).map(str.encode))
def test_no_payload_of_a_child_is_a_fault(payload: bytes) -> None:
    assert in_cloud_form(FORM, command(), payload).raw == payload
    assert in_neutral_form(command(), payload).outcome in (DONE, FAILED)
    waiting(alibaba("1")).answered(ALICE, "thing/service/reboot_reply", payload, payload, FORM)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
))  # fmt: skip
def test_no_document_of_a_child_is_a_fault(content: object) -> None:
    for one in (content, {"error": content}, {"id": content, "code": content, "v": 1}):
        payload = json.dumps(one).encode()
        answer = in_neutral_form(command(), payload)
        json.dumps({**answer.result, "text": answer.text}, allow_nan=False)
        in_cloud_form(FORM, command(), payload)
        waiting(alibaba("1")).answered(ALICE, "thing/service/reboot_reply", payload, b"", FORM)
