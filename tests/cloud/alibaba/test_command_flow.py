"""Commands to children at a simulated cloud: synchronous ones, many children, new sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.commanding import commands
from gatewayd.cloud.alibaba.commanding.subscriptions import COMMANDED
from gatewayd.cloud.provider import ExpectsCommands
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.secret import Secret
from gatewayd.testing.waiting import PATIENCE, until
from tests.cloud.alibaba import site
from tests.cloud.alibaba.site import GATEWAY, OWN, SENSORS, Site, at_cloud, child
from tests.cloud.alibaba.speaking import Speaking, by_route
from tests.cloud.commanded import ObedientChild

NUMBER = [{"identifier": "Number", "dataType": {"type": "int"}}]
TSL: dict[str, Any] = {
    "properties": [{"identifier": "Light", "accessMode": "rw", "dataType": {"type": "bool"}}],
    "services": [
        {"identifier": "Count", "callType": "async", "inputData": NUMBER},
        {"identifier": "Measure", "callType": "sync", "inputData": NUMBER},
    ],
}
ROUTES = ["direct", "sub-device"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return site.furnish(tmp_path)


DONE = CommandAnswer(CommandOutcome.DONE, result={"done": 1})


def obey(session: object, answer: CommandAnswer = DONE) -> ObedientChild:
    """Have a child answer whatever it is sent."""
    return ObedientChild(session, lambda _: answer)


async def modelled(stage: Speaking, tsl: dict[str, Any]) -> tuple[tuple[str, str], ObedientChild]:
    """Return the name of a child whose product has this model, and the child, which can be sent
    commands."""
    own = at_cloud(stage.name)
    stage.cloud.set_model(own[0], tsl)
    obedient = obey(stage.session)
    await subscribed(stage.cloud, own)
    return own, obedient


async def subscribed(cloud: Any, name: Sequence[str]) -> None:
    topic = f"/{name[0]}/{name[1]}/user/get"
    await until(lambda: cloud.subscribes(*name, topic))


@pytest.mark.parametrize("route", ROUTES)
async def test_a_synchronous_service_and_an_rrpc_on_a_topic_of_a_user(
    tmp_path: Path, route: str
) -> None:
    async with by_route(route, tmp_path) as stage:
        own, obedient = await modelled(stage, TSL)
        async with asyncio.timeout(PATIENCE):
            seen = await stage.cloud.invoke(*own, "Measure", {"Number": 1}).reply
            answer = await stage.cloud.rrpc(*own, b"hello", "user/get")
        assert seen == {"code": 200, "data": {"done": 1}}
        assert json.loads(answer) == {"done": 1}
        received = obedient.received
        assert [one.kind for one in received] == [CommandKind.SERVICE, CommandKind.REQUEST]
        assert [one.seconds for one in received] == [commands.SYNCHRONOUS] * 2
        assert await obedient.acknowledged() == [True, True]
        assert not stage.ledger["discarded"]


@pytest.mark.parametrize("route", ROUTES)
async def test_the_reports_of_a_child_and_its_commands_share_its_connection(
    tmp_path: Path, route: str
) -> None:
    async with by_route(route, tmp_path) as stage:
        own, _ = await modelled(stage, {**TSL, "properties": [{**NUMBER[0]}]})
        confirmed = [stage.message(number) for number in range(3)]
        await stage.say(*confirmed)
        async with asyncio.timeout(PATIENCE):
            seen = await stage.cloud.set_properties(*own, {"Number": 7}).reply
        assert seen["code"] == 200
        await stage.say(stage.message(4))
        assert list(stage.arrived()) == [0, 1, 2, 4]


async def online(one: Site, *numbers: int) -> dict[int, list[ChildCommand]]:
    """Bring children online that answer; return what each of them receives."""
    one.cloud.set_model(SENSORS, TSL)
    sessions = await one.online(*numbers)
    return {
        number: obey(session).received for number, session in zip(numbers, sessions, strict=True)
    }


async def test_each_child_of_a_gateway_gets_its_own_commands(folder: Path) -> None:
    async with site.site(folder) as one:
        received = await online(one, 0, 1, 2)
        for number in received:
            await subscribed(one.cloud, at_cloud(child(number)))
        calls = [
            one.cloud.invoke(SENSORS, child(number).device, "Count", {"Number": number})
            for number in received
        ]
        async with asyncio.timeout(PATIENCE):
            seen = await asyncio.gather(*(call.reply for call in calls))
        assert [one["code"] for one in seen] == [200] * 3
        found = {number: [one.arguments for one in got] for number, got in received.items()}
        assert found == {number: [{"Number": number}] for number in received}


async def test_a_child_whose_session_has_just_ended_is_answered_for(folder: Path) -> None:
    async with site.site(folder) as one:
        received = await online(one, 0)
        own = at_cloud(child(0))
        await subscribed(one.cloud, own)
        call = one.cloud.invoke(*own, "Count", {"Number": 1})
        one.sessions[0]._commands.end()  # type: ignore[attr-defined]  # as its end does, a moment before the cloud learns of it
        async with asyncio.timeout(PATIENCE):
            seen = await call.reply
        assert seen["code"] == commands.CODES[CommandOutcome.NO_LISTENER]
        assert not received[0]


async def test_there_is_room_for_the_commands_of_some_children(folder: Path) -> None:
    async with site.site(folder) as one:
        numbers = range(COMMANDED + 2)
        await online(one, *numbers)

        def commanded() -> set[int]:
            return {
                number
                for number in numbers
                if one.cloud.subscribes(SENSORS, child(number).device, topic_of(number))
            }

        await until(lambda: len(commanded()) == COMMANDED)
        assert len(one.ledger["subscriptions"]) <= 100 + 5, "and those that the cloud makes"
        gone = min(commanded())
        await one.sessions[gone].close()
        await until(lambda: len(commanded()) == COMMANDED and gone not in commanded())
        assert not one.ledger["refused_topics"]


async def test_children_that_may_get_commands_come_first(folder: Path) -> None:
    async with site.site(folder) as one:
        await online(one, *range(COMMANDED + 2))
        last, own = one.sessions[-1], at_cloud(child(COMMANDED + 1))
        assert isinstance(last, ExpectsCommands)
        last.expect_commands(expected=True)
        await subscribed(one.cloud, own)
        last.expect_commands(expected=False)
        await until(lambda: not one.cloud.subscribes(*own, topic_of(COMMANDED + 1)))


def topic_of(number: int) -> str:
    return f"/{SENSORS}/{child(number).device}/user/get"


async def test_a_new_session_of_the_gateway_goes_on_with_commands(folder: Path) -> None:
    async with site.site(folder) as one:
        received = await online(one, 0)
        own = at_cloud(child(0))
        await subscribed(one.cloud, own)
        await one.lose_link()
        await one.log_in()
        assert one.cloud.online == {GATEWAY}
        secret = one.cloud.secret(*own)
        assert secret is not None
        received[0] = obey(await one.connect(child(0), Secret(secret.encode()))).received
        await subscribed(one.cloud, own)
        async with asyncio.timeout(PATIENCE):
            seen = await one.cloud.invoke(*own, "Count", {"Number": 1}).reply
        assert seen["code"] == 200
        assert len(received[0]) == 1


async def test_the_gateway_is_commanded_beside_its_children(folder: Path) -> None:
    async with site.site(folder) as one:
        await online(one, 0)
        one.cloud.set_model(OWN.product, TSL)
        refusing = obey(one.session, CommandAnswer(CommandOutcome.FAILED, "no such service"))
        async with asyncio.timeout(PATIENCE):
            call = one.cloud.invoke(*GATEWAY, "Count", {"Number": 1})
            seen = await call.reply
        assert seen["code"] == commands.CODES[CommandOutcome.FAILED]
        assert json.loads(call.payload)["message"] == "no such service"
        assert len(refusing.received) == 1
