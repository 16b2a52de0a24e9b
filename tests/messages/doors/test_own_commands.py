"""Commands through gatewayd's own broker, a real mosquitto: out to the child, and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gatewayd.device.command import CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.secret import Secret
from gatewayd.messages.doors.access import OwnBrokerAccess
from tests.commands.children import V5, V311, Received, listening_child
from tests.commands.doubles import command
from tests.messages.doors.command_path import CommandPath
from tests.messages.doors.intakes import CHILD, until
from tests.messages.doors.own_door import PASSWORD, USERS, own_broker
from tests.messages.doors.test_site_topics import door_settings
from tests.support.mosquitto import Mosquitto, mosquitto

pytestmark = pytest.mark.integration

DONE, NO_LISTENER = CommandOutcome.DONE, CommandOutcome.NO_LISTENER
CLOUD_FORM = f"c/{CHILD}/up/sys/commands/response/request_id="


def way(broker: Mosquitto) -> contextlib.AbstractAsyncContextManager[CommandPath]:
    """Run a path to gatewayd's own broker."""
    access = OwnBrokerAccess(broker.socket, lambda: Secret(PASSWORD.encode()))
    return CommandPath(broker.directory, {}, access).running()


def in_cloud_form(received: Received) -> Sequence[tuple[str, bytes]]:
    """Answer as the platform's documents say, with the identifier of the topic."""
    return [(CLOUD_FORM + received.topic.partition("request_id=")[2], b'{"result_code":0}')]


def neutral(received: Received) -> Sequence[tuple[str, bytes]]:
    """Answer on the response topic."""
    return [(received.response, b'{"opened":true}')]


@pytest.mark.parametrize("version", [V5, V311])
async def test_an_answer_in_the_form_of_the_cloud_passes_unchanged(version: int) -> None:
    with own_broker() as broker:
        async with (
            way(broker) as one,
            listening_child(
                broker.port, CHILD, USERS[CHILD], version=version, react=in_cloud_form
            ) as child,
        ):
            one.session.send(command("7", payload=b'{"paras":{"on":1}}'))
            assert await one.answered() == [("7", CommandAnswer(DONE, raw=b'{"result_code":0}'))]
            (received,) = child.received
            assert received.topic == f"c/{CHILD}/down/sys/commands/request_id=7"
            assert received.payload == b'{"paras":{"on":1}}'
            assert not one.intake.received, "an answer is no message"


async def test_an_answer_on_the_response_topic_has_the_neutral_form() -> None:
    with own_broker() as broker:
        async with (
            way(broker) as one,
            listening_child(broker.port, CHILD, USERS[CHILD], react=neutral) as child,
        ):
            one.session.send(command("7"))
            assert await one.answered() == [("7", CommandAnswer(DONE, result={"opened": True}))]
            (received,) = child.received
            assert (received.response, received.correlation) == (f"c/{CHILD}/up/answer/7", b"7")


async def test_a_child_of_mqtt_3_1_1_may_answer_in_the_neutral_form() -> None:
    def react(received: Received) -> Sequence[tuple[str, bytes]]:
        number = json.loads(received.payload)["id"]
        return [(f"c/{CHILD}/up/answer/{number}", b'{"error":"valve is stuck"}')]

    with own_broker() as broker:
        async with (
            way(broker) as one,
            listening_child(broker.port, CHILD, USERS[CHILD], version=V311, react=react),
        ):
            one.session.send(command("7", topic="thing/service/open", payload=b'{"id":"7"}'))
            answer = CommandAnswer(CommandOutcome.FAILED, "valve is stuck")
            assert await one.answered() == [("7", answer)]


async def test_a_child_that_is_away_has_no_listener_at_once() -> None:
    with own_broker() as broker:
        async with way(broker) as one:
            one.session.send(command(seconds=3600.0))  # long before its limit
            ((_, answer),) = await one.answered()
            assert answer.outcome is NO_LISTENER


@pytest.mark.parametrize("version", [V5, V311])
async def test_a_child_that_comes_late_gets_nothing_that_has_expired(version: int) -> None:
    with own_broker() as broker:
        async with way(broker) as one:
            async with listening_child(
                broker.port, CHILD, USERS[CHILD], version=version, kept=True
            ):
                pass
            one.session.send(command("late", seconds=4.0))
            ((_, answer),) = await one.answered()
            assert answer.outcome is CommandOutcome.NO_ANSWER, "its session is kept, and it is away"
            async with listening_child(
                broker.port, CHILD, USERS[CHILD], version=version, kept=True, react=in_cloud_form
            ) as child:
                one.session.send(command("next"))
                await one.answered(2)
            assert [item.topic.partition("=")[2] for item in child.received] == ["next"]


async def test_a_message_waits_for_a_child_whose_session_is_kept() -> None:
    message = command("", CommandKind.MESSAGE, seconds=0, reply_topic="", topic="sys/messages/down")
    with own_broker() as broker:
        async with way(broker) as one:
            async with listening_child(broker.port, CHILD, USERS[CHILD], kept=True):
                pass
            one.session.send(message)
            await until(lambda: one.relay.statistics().ended == {"done": 1}, one.relay.statistics)
            async with listening_child(broker.port, CHILD, USERS[CHILD], kept=True) as child:
                await until(lambda: child.received, lambda: child.received)
            assert child.received[0].topic == f"c/{CHILD}/down/sys/messages/down"
            assert not child.received[0].response


async def test_a_late_answer_is_dropped_and_counted_and_never_a_message() -> None:
    with own_broker() as broker:
        async with (
            way(broker) as one,
            listening_child(broker.port, CHILD, USERS[CHILD]) as child,
        ):
            child.say(CLOUD_FORM + "7", b'{"result_code":0}')
            child.say(f"c/{CHILD}/up/answer/7", b"{}")
            child.say(f"c/{CHILD}/up/thing/service/open_reply", b'{"id":"7","code":200}')
            child.say(f"c/{CHILD}/up/properties", b"{}")
            await one.intake.until(1)
            assert [message.topic for message in one.intake.received] == ["properties"]
            assert one.dropped == {"late-answer": 3}
            assert one.relay.statistics().late == 3


async def test_an_answer_does_not_wait_behind_messages() -> None:
    with own_broker() as broker:
        async with (
            way(broker) as one,
            listening_child(broker.port, CHILD, USERS[CHILD], react=in_cloud_form) as child,
        ):
            one.intake.by_hand = True  # nothing is settled
            for number in range(100):
                child.say(f"c/{CHILD}/up/properties", b"%d" % number)
            await one.intake.until(100)
            one.session.send(command())
            await one.answered()
            one.intake.settle(len(one.intake.waiting))


async def test_the_door_is_away() -> None:
    with own_broker() as broker:
        async with way(broker) as one:
            broker.stop()
            await until(lambda: one.states == {"connecting"}, lambda: one.states)
            one.session.send(command())
            ((_, answer),) = await one.answered()
            assert answer.outcome is NO_LISTENER


async def test_a_broker_that_restarts_amid_a_command() -> None:
    """The child has the command, and answers when both are back."""
    with own_broker() as broker:
        async with way(broker) as one:
            async with listening_child(broker.port, CHILD, USERS[CHILD], kept=True) as child:
                one.session.send(command("7"))
                await until(lambda: child.received, lambda: one.session.answers)
                broker.kill()
                await until(lambda: one.states == {"connecting"}, lambda: one.states)
                await asyncio.to_thread(broker.start)
                await until(lambda: one.states == {"connected"}, lambda: one.states)
                await until(child.client.is_connected)
                child.say(CLOUD_FORM + "7", b'{"result_code":0}')
                ((_, answer),) = await one.answered()
            assert answer.outcome is DONE
            assert {item.topic for item in child.received} == {
                f"c/{CHILD}/down/sys/commands/request_id=7"
            }


async def test_what_was_under_way_when_gatewayd_ended_has_no_answer_and_is_no_message() -> None:
    with own_broker() as broker:
        async with listening_child(broker.port, CHILD, USERS[CHILD]) as child:
            async with way(broker) as one:
                one.session.send(command("7"))
                await until(lambda: child.received, lambda: child.received)
            child.say(CLOUD_FORM + "7", b'{"result_code":0}')  # the broker keeps it
            async with way(broker) as next_run:
                await until(lambda: next_run.dropped, lambda: next_run.dropped)
                assert next_run.dropped == {"late-answer": 1}
                assert not next_run.intake.received
        assert not one.session.answers
        assert len(child.received) == 1, "it is not sent again"


async def test_where_nothing_listens_the_next_door_is_asked() -> None:
    """A child whose broker is not known yet: its own user is not connected, its device is."""
    entry = '[[messages.doors.site.commands]]\nkind = "set"\ntopic = "x/{name}"\n'
    wanted = command(kind=CommandKind.SET, arguments={"v": 1})
    with own_broker() as own, mosquitto() as site:
        settings = replace(door_settings(entry), host="127.0.0.1", port=site.port)
        access = OwnBrokerAccess(own.socket, lambda: Secret(PASSWORD.encode()))
        async with CommandPath(own.directory, {"site": settings}, access).running() as one:
            assert (await one.answer(replace(wanted, identifier="1"))).outcome is NO_LISTENER
            async with listening_child(site.port, "device", "", topics=["x/kitchen"]) as device:
                assert (await one.answer(replace(wanted, identifier="2"))).outcome is DONE
                await until(lambda: device.received, one.relay.statistics)
                async with listening_child(own.port, CHILD, USERS[CHILD], react=neutral) as child:
                    answer = await one.answer(replace(wanted, identifier="3"))
                    assert answer.result == {"opened": True}, "the own broker comes first"
                assert (len(device.received), len(child.received)) == (1, 1)
