"""A command ends once: answered, refused at once, or a second before its cloud gives it up."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gatewayd.cloud import command_router
from gatewayd.commands.answers import MAX_ANSWER, TOO_LARGE
from gatewayd.commands.door import AnswerFate
from gatewayd.commands.journal import LOGGED, QUIET
from gatewayd.commands.pending import MESSAGES_OF_CHILD, MOST, MOST_OF_CHILD
from gatewayd.commands.relay import ANSWERING, ANSWERING_BYTES
from gatewayd.device.command import REFUSALS, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.identity import DeviceId
from tests.commands.doubles import (
    ALICE,
    BOB,
    CommandedSession,
    OwnForm,
    RecordedDoors,
    Relayed,
    command,
)

DONE, FAILED = CommandOutcome.DONE, CommandOutcome.FAILED
NO_LISTENER, NO_ANSWER = CommandOutcome.NO_LISTENER, CommandOutcome.NO_ANSWER
REPLY = "sys/commands/response/request_id=1"
JUMPING = pytest.mark.jumping_clock


async def test_an_answer_in_the_form_of_the_cloud_passes_unchanged() -> None:
    one = Relayed()
    one.session.send(command())
    (sent,) = one.doors.sent
    assert (sent.child, sent.command.payload, sent.is_answered) == (ALICE, b'{"paras":{}}', True)
    assert one.relay.receive(ALICE, REPLY, b'{"result_code":0}', b"") is AnswerFate.ANSWERED
    await one.settle()
    assert one.session.answers == [("1", CommandAnswer(DONE, raw=b'{"result_code":0}'))]
    assert one.doors.ended == [sent]
    assert one.steps == [(ALICE, "command"), (ALICE, "answer")]


async def test_an_answer_in_the_neutral_form_goes_by_correlation_or_by_topic() -> None:
    one = Relayed()
    one.session.send(command("1"))
    one.session.send(command("2"))
    assert one.relay.receive(ALICE, "answer", b'{"v":1}', b"2") is AnswerFate.ANSWERED
    assert one.relay.receive(ALICE, "answer/1", b'{"error":"stuck"}', b"") is AnswerFate.ANSWERED
    await one.settle()
    assert dict(one.session.answers) == {
        "2": CommandAnswer(DONE, result={"v": 1}),
        "1": CommandAnswer(FAILED, "stuck"),
    }


async def test_operators_follow_commands_and_answers() -> None:
    one = Relayed()
    for number in "123":
        one.session.send(command(number, payload=b"sent"))
    one.relay.receive(ALICE, "answer/1", b'{"v":1}', b"")
    one.relay.receive(ALICE, "answer/2", b'{"v":1,"error":"stuck"}', b"")
    one.relay.receive(ALICE, "answer/3", b"", b"")
    one.relay.receive(ALICE, "answer/3", b"late", b"")
    assert [step for _, step in one.steps] == ["command"] * 3 + ["answer"] * 3 + ["late-answer"]
    assert one.payloads[2:] == [
        b"sent", b'{"v": 1}', b'{"v": 1, "error": "stuck"}', b"", b"late",
    ]  # fmt: skip


async def test_no_child_answers_for_another() -> None:
    one = Relayed()
    one.session.send(command())
    assert one.relay.receive(BOB, REPLY, b"{}", b"") is AnswerFate.LATE
    assert one.relay.receive(BOB, "answer/1", b"{}", b"1") is AnswerFate.LATE
    await one.settle()
    assert not one.session.answers
    assert one.relay.statistics().late == 2


async def test_what_the_rule_does_not_allow_is_refused_at_once() -> None:
    one = Relayed(allowed=False)
    one.session.send(command())
    await one.settle()
    refused = CommandOutcome.NOT_ALLOWED
    assert one.session.answers == [("1", CommandAnswer(refused, REFUSALS[refused]))]
    assert not one.doors.sent


class RankedSession(CommandedSession):
    """A session of a cloud that has room for the commands of some children only."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[tuple[bool, bool]] = []

    def expect_commands(self, *, expected: bool) -> None:
        self.expected.append((expected, self.handler is None))


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_cloud_learns_whether_commands_are_to_be_expected(allowed: bool) -> None:
    one, session = Relayed(allowed=allowed), RankedSession()
    one.relay.session_opened(BOB, session)
    assert session.expected == [(allowed, True)], "it is known before commands are received"
    assert session.handler is not None
    one.allowed = not allowed
    one.relay.rules_changed()
    assert session.expected[1:] == [(not allowed, False)]
    one.relay.session_closed(BOB)
    one.relay.rules_changed()
    assert len(session.expected) == 2


async def test_the_gateway_itself_takes_no_commands() -> None:
    one, session = Relayed(), CommandedSession()
    one.relay.session_opened(DeviceId("gateway-huawei"), session)
    session.send(command())
    await one.settle()
    assert session.outcomes == [("1", CommandOutcome.NOT_ALLOWED)]
    assert not one.doors.sent


@pytest.mark.parametrize("topic", ["", "a/+/b", "#", "a\nb", "\ud800", "x" * 513])
async def test_a_topic_that_would_close_the_door_is_not_passed_on(topic: str) -> None:
    one = Relayed()
    one.session.send(command(topic=topic))
    await one.settle()
    assert one.session.outcomes == [("1", FAILED)]
    assert not one.doors.sent


async def test_nothing_listens() -> None:
    one = Relayed(doors=RecordedDoors(CommandAnswer(NO_LISTENER)))
    one.session.send(command())
    await one.settle()
    assert one.session.outcomes == [("1", NO_LISTENER)]
    assert one.relay.statistics().waiting == 0


@JUMPING
@pytest.mark.parametrize(("limit", "after"), [(20.0, 19.0), (3.0, 2.0), (2.0, 1.0), (1.0, 0.5)])
async def test_a_command_ends_before_the_cloud_gives_it_up(limit: float, after: float) -> None:
    one, loop = Relayed(), asyncio.get_running_loop()
    begun = loop.time()
    one.session.send(command(seconds=limit))
    assert one.doors.sent[0].deadline == pytest.approx(begun + after)
    while not one.session.answers:
        await asyncio.sleep(0.01)
    assert loop.time() - begun == pytest.approx(after, abs=0.05)
    assert one.session.outcomes == [("1", NO_ANSWER)]
    assert len(one.doors.ended) == 1, "it is not sent any more"
    assert one.relay.receive(ALICE, REPLY, b"{}", b"") is AnswerFate.LATE
    await one.settle()
    assert len(one.session.answers) == 1


async def test_a_command_that_comes_again_is_not_carried_out_again() -> None:
    one = Relayed()
    one.session.send(command())
    one.session.send(command())
    one.relay.receive(ALICE, REPLY, b"{}", b"")
    one.session.send(command())
    await one.settle()
    assert (len(one.doors.sent), len(one.session.answers)) == (1, 1)
    assert one.relay.statistics().repeated == 2


async def test_a_repeat_gets_the_answer_that_the_cloud_may_lack() -> None:
    one, next_session = Relayed(), CommandedSession()
    one.session.acknowledges = False
    one.session.send(command())
    one.relay.receive(ALICE, REPLY, b"{}", b"")
    await one.settle()
    one.relay.session_closed(ALICE)
    assert one.session.handler is None
    one.relay.session_opened(ALICE, next_session)
    next_session.send(command())
    next_session.send(command())
    await one.settle()
    assert next_session.outcomes == [("1", DONE)]
    assert len(one.doors.sent) == 1


async def test_the_next_session_answers_what_an_earlier_one_received() -> None:
    one, renewed = Relayed(), CommandedSession()
    one.session.send(command())
    one.relay.session_opened(ALICE, renewed)
    one.relay.receive(ALICE, REPLY, b"{}", b"")
    await one.settle()
    assert (one.session.answers, renewed.outcomes) == ([], [("1", DONE)])


@JUMPING
@pytest.mark.parametrize("acknowledges", [True, False])
async def test_an_answer_that_found_no_session_is_given_over_the_next(acknowledges: bool) -> None:
    one, following, last = Relayed(), CommandedSession(), CommandedSession()
    one.session.send(command(seconds=20.0))
    one.relay.session_closed(ALICE)
    one.relay.receive(ALICE, REPLY, b"{}", b"")
    await asyncio.sleep(15)
    following.acknowledges = acknowledges
    one.relay.session_opened(ALICE, following)
    await one.settle()
    assert following.outcomes == [("1", DONE)]
    assert one.relay.statistics().unanswered == (not acknowledges)
    one.relay.session_opened(ALICE, last)
    await one.settle()
    assert last.outcomes == ([] if acknowledges else [("1", DONE)])


@JUMPING
async def test_an_answer_that_the_cloud_waits_for_no_more_is_not_given_by_itself() -> None:
    one, other, following = Relayed(), CommandedSession(), CommandedSession()
    one.session.send(command(seconds=20.0))
    one.relay.session_closed(ALICE)
    one.relay.receive(ALICE, REPLY, b"{}", b"")
    one.relay.session_opened(BOB, other)
    await asyncio.sleep(20.5)
    one.relay.session_opened(ALICE, following)
    await one.settle()
    assert [*other.answers, *following.answers] == []
    following.send(command(seconds=20.0))
    await one.settle()
    assert following.outcomes == [("1", DONE)], "it asks once more"


async def test_an_answer_while_there_is_no_session_is_counted() -> None:
    one = Relayed()
    one.session.send(command())
    one.relay.session_closed(ALICE)
    assert one.relay.receive(ALICE, REPLY, b"{}", b"") is AnswerFate.ANSWERED
    assert one.relay.statistics().unanswered == 1


async def test_a_fault_of_a_plug_in_costs_one_answer() -> None:
    one = Relayed(allowed=False)
    one.session.fails = True
    one.session.send(command("1"))
    await one.settle()
    one.session.fails = False
    one.session.send(command("2"))
    await one.settle()
    assert one.session.outcomes == [("2", CommandOutcome.NOT_ALLOWED)]
    assert one.relay.statistics().unanswered == 1


async def test_a_flood_to_one_child_leaves_room_for_others() -> None:
    one, other = Relayed(), CommandedSession()
    one.relay.session_opened(BOB, other)
    for number in range(MOST_OF_CHILD + 5):
        one.session.send(command(str(number)))
    other.send(command())
    await one.settle()
    assert len(one.doors.sent) == MOST_OF_CHILD + 1
    assert {outcome for _, outcome in one.session.outcomes} == {CommandOutcome.TOO_MANY}
    assert len(one.session.answers) == 5
    assert not other.answers


async def test_all_children_together_are_bounded() -> None:
    one = Relayed()
    sessions = [CommandedSession() for _ in range(MOST // MOST_OF_CHILD + 1)]
    for number, session in enumerate(sessions):
        one.relay.session_opened(DeviceId(f"child-{number}"), session)
        for which in range(MOST_OF_CHILD):
            session.send(command(str(which)))
    await one.settle()
    assert len(one.doors.sent) == one.relay.statistics().waiting == MOST
    refused = [answer for session in sessions for answer in session.outcomes]
    assert len(refused) == len(sessions) * MOST_OF_CHILD - MOST
    await one.relay.aclose()
    assert one.relay.statistics().waiting == 0


async def test_refusals_that_a_cloud_does_not_acknowledge_are_bounded() -> None:
    one = Relayed(allowed=False)
    one.session.may_answer.clear()
    for number in range(ANSWERING + 10):
        one.session.send(command(str(number)))
    await one.settle()
    assert one.relay.statistics().unanswered == 10
    one.session.may_answer.set()
    await one.settle()
    assert len(one.session.answers) == ANSWERING


@pytest.mark.parametrize(
    ("topic", "largest"),
    [
        ("sys/commands/response/request_id=", b"x" * MAX_ANSWER),
        ("answer/", b'{"v":"%s"}' % (b"x" * (MAX_ANSWER - 256))),
    ],
    ids=["own", "neutral"],
)
async def test_the_bytes_of_answers_that_a_cloud_does_not_acknowledge_are_bounded(
    topic: str, largest: bytes
) -> None:
    one = Relayed()
    children = ANSWERING_BYTES // (MOST_OF_CHILD * MAX_ANSWER) + 1
    for number in range(children):
        session, child = CommandedSession(), DeviceId(f"child-{number}")
        session.may_answer.clear()
        one.relay.session_opened(child, session)
        for which in map(str, range(MOST_OF_CHILD)):
            session.send(command(which))
            assert one.relay.receive(child, topic + which, largest, b"") is AnswerFate.ANSWERED
    assert one.relay.statistics().unanswered == MOST_OF_CHILD
    await one.relay.aclose()


async def test_an_answer_of_a_site_is_no_larger_than_one_of_the_own_broker() -> None:
    one = Relayed()
    one.session.send(command())
    one.doors.sent[0].concluded(CommandAnswer(DONE, raw=b"x" * (MAX_ANSWER + 1)))
    await one.settle()
    assert one.session.answers == [("1", TOO_LARGE)]


async def test_a_child_that_is_gone_has_its_commands_refused_and_forgotten() -> None:
    one, other_cloud = Relayed(), CommandedSession()
    one.session.send(command("1"))
    one.session.send(command("2"))
    one.relay.receive(ALICE, "answer/2", b"", b"")
    one.allowed = False
    one.relay.forget(ALICE)
    await one.settle()
    assert one.session.outcomes == [("2", DONE), ("1", CommandOutcome.NOT_ALLOWED)]
    assert len(one.doors.ended) == 2, "what has not left yet does not"
    shown = one.relay.statistics()
    assert (shown.waiting, dict(shown.last)) == (0, {})
    one.allowed = True
    one.relay.session_opened(ALICE, other_cloud)
    other_cloud.send(command("2"))
    assert len(one.doors.sent) == 3, "an identifier of another cloud is not that of the first"


async def test_a_message_is_done_when_the_broker_has_it() -> None:
    one = Relayed()
    message = command(kind=CommandKind.MESSAGE, seconds=0, identifier="", reply_topic="")
    one.session.send(message)
    one.session.send(message)
    first, second = one.doors.sent
    assert not first.is_answered
    assert first.deadline - asyncio.get_running_loop().time() == pytest.approx(3600.0, abs=1)
    first.concluded(None)
    second.concluded(CommandAnswer(NO_LISTENER))
    await one.settle()
    assert not one.session.answers, "the cloud awaits none"
    assert one.relay.statistics().ended == {"done": 1, "no-listener": 1}


async def test_messages_that_a_cloud_has_kept_come_together_and_all_leave() -> None:
    one = Relayed()
    message = command(kind=CommandKind.MESSAGE, seconds=0, identifier="", reply_topic="")
    for _ in range(MESSAGES_OF_CHILD + 1):
        one.session.send(message)
    assert len(one.doors.sent) == MESSAGES_OF_CHILD >= command_router.EARLY
    assert one.relay.statistics().ended == {"too-many": 1}
    for number in range(MOST_OF_CHILD + 1):
        one.session.send(command(str(number)))
    assert len(one.doors.sent) == MESSAGES_OF_CHILD + MOST_OF_CHILD, "they take no room of commands"
    one.doors.sent[0].concluded(None)
    one.session.send(message)
    assert len(one.doors.sent) == MESSAGES_OF_CHILD + MOST_OF_CHILD + 1
    await one.relay.aclose()


async def test_a_message_like_others_is_no_answer() -> None:
    one = Relayed()
    one.session.send(command())
    assert one.relay.receive(ALICE, "properties", b"{}", b"") is AnswerFate.NONE
    assert one.relay.receive(ALICE, "answers", b"{}", b"1") is AnswerFate.NONE


async def test_what_an_answer_is_says_the_cloud_of_the_child() -> None:
    one, session, third = Relayed(), CommandedSession(), DeviceId("child-of-a-third-cloud")
    one.relay.session_opened(third, session)
    session.send(command("1", topic="call/1", reply_topic="result/1"))
    assert one.relay.receive(third, "result/1", b'{"result_code":1}', b"") is AnswerFate.ANSWERED
    await one.settle()
    assert session.outcomes == [("1", DONE)], "another cloud's code means nothing there"
    assert one.relay.receive(third, "result/1", b"", b"") is AnswerFate.NONE
    assert one.relay.receive(third, REPLY, b"", b"") is AnswerFate.NONE
    assert one.relay.receive(third, "answer", b"", b"") is AnswerFate.LATE
    assert one.relay.receive(ALICE, REPLY, b"", b"") is AnswerFate.LATE


async def test_each_command_has_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatewayd.commands")
    one = Relayed()
    one.session.send(command("7\x1b[2J", topic="t", payload=b"secret"))
    one.doors.sent[0].concluded(CommandAnswer(DONE))
    (entry,) = caplog.records
    assert "7 [2J" in entry.getMessage()
    assert all(word in entry.getMessage() for word in (ALICE, "service reboot", "done", " ms"))
    assert "secret" not in caplog.text
    (last,) = one.relay.statistics().last[ALICE]
    assert (last.identifier, last.kind, last.name, last.outcome) == (
        "7 [2J", "service", "reboot", "done",
    )  # fmt: skip


@pytest.mark.parametrize("outcome", [DONE, FAILED])
async def test_a_flood_that_costs_its_cloud_nothing_does_not_fill_the_log(
    outcome: CommandOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gatewayd.commands")
    one = Relayed(doors=RecordedDoors(CommandAnswer(outcome)))
    for number in range(LOGGED + 50):
        one.session.send(command(str(number)))
        await one.settle()
    assert len(caplog.records) == LOGGED
    one.offset += QUIET
    one.session.send(command("next"))
    assert "as did 50 since" in caplog.records[-1].getMessage()


async def test_a_flood_of_refusals_has_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatewayd.commands")
    one = Relayed(allowed=False)
    for number in range(50):
        one.session.send(command(str(number)))
    assert len(caplog.records) == 1
    one.offset = 61.0
    one.session.send(command("last"))
    assert len(caplog.records) == 2
    assert "49 since" in caplog.records[-1].getMessage()
    assert one.relay.statistics().ended == {"not-allowed": 51}


async def test_no_cloud_is_answered_what_another_has_asked() -> None:
    """A child has moved: what waits is left, and an identifier of before is a new one."""
    one, form = Relayed(), OwnForm()
    one.session.send(command("1"))
    one.relay.session_closed(ALICE)
    one.relay._form = lambda _: form
    there = CommandedSession()
    one.relay.session_opened(ALICE, there)
    assert one.relay.statistics().waiting == 0
    assert one.relay.receive(ALICE, "answer/1", b'{"v":1}', b"") is AnswerFate.LATE
    there.send(command("1"))
    one.relay.receive(ALICE, "answer/1", b'{"v":2}', b"")
    await one.settle()
    assert there.answers == [("1", CommandAnswer(DONE, result={"v": 2}))]
    assert not one.session.answers
