"""Commands to children at a simulated platform: what has waited, many children, new sessions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from gatewayd.cloud.huawei.commanding.commands import COMMANDS, SET
from gatewayd.device.command import REFUSALS, ChildCommand, CommandAnswer, CommandOutcome
from gatewayd.simulator.huawei.exchange.device_messages import DeviceMessage, DeviceMessageStatus
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.testing.waiting import PATIENCE, until
from tests.cloud.commanded import ObedientChild
from tests.cloud.huawei import certified as direct
from tests.cloud.huawei import site as behind
from tests.cloud.huawei.certified import certified
from tests.cloud.huawei.site import INSTANCE, child_id, site
from tests.cloud.huawei.speaking import as_sub_device, by_certificate

COUNT = {"service_id": "climate", "command_name": "count"}


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return await asyncio.to_thread(behind.furnish, tmp_path)


def obey(session: object) -> list[ChildCommand]:
    """Have a child answer whatever it is sent; return what it receives."""
    return ObedientChild(session, _echo).received


def _echo(command: ChildCommand) -> CommandAnswer:
    return CommandAnswer(CommandOutcome.DONE, result=dict(command.arguments))


async def ask(instance: IotdaInstance, device_id: str, use: str, body: dict[str, Any]) -> Any:
    assert instance.channel is not None
    async with asyncio.timeout(PATIENCE):
        return await instance.channel.ask(instance.devices.get(device_id), use, body)


def deliver(instance: IotdaInstance, device_id: str, *contents: object) -> list[DeviceMessage]:
    """Send messages, which wait for a device that is offline."""
    assert instance.channel is not None
    made = []
    for content in contents:
        message = DeviceMessage(instance.ids.code(), content, instance.ids.clock())
        instance.messages.add(device_id, message)
        instance.channel.deliver(instance.devices.get(device_id), message)
        made.append(message)
    return made


def contents(received: list[ChildCommand]) -> list[object]:
    return [json.loads(command.payload)["content"] for command in received]


@pytest.mark.parametrize("clean", [True, False])
async def test_they_reach_it_with_a_session_that_lasts_too(tmp_path: Path, *, clean: bool) -> None:
    """The platform keeps messages itself; the setting says what becomes of the session."""
    async with certified(direct.furnish(tmp_path), clean_session=clean) as one:
        name, device_id = direct.child(1), direct.child_id(1)
        secret = await one.secret(name)
        await (await one.connect(name, secret)).close()
        await until(lambda: one.instance.devices.get(device_id).status != "ONLINE")
        deliver(one.instance, device_id, "kept")
        received = obey(await one.connect(name, secret))
        await until(lambda: contents(received) == ["kept"])
        ledger = one.cloud._hubs[INSTANCE].ledgers.of(device_id)
        assert (ledger.logins, ledger.lasting) == (2, 0 if clean else 2)


@pytest.mark.parametrize("children", [by_certificate, as_sub_device])
async def test_messages_that_have_waited_for_a_child_reach_it(
    tmp_path: Path, children: Any
) -> None:
    async with children(tmp_path) as one:
        session = await one.session()
        await session.close()
        await until(lambda: one.instance.devices.get(one.ids[0]).status != "ONLINE")
        sent = deliver(one.instance, one.ids[0], {"n": 1}, "two")
        assert {message.status for message in sent} == {DeviceMessageStatus.PENDING}
        received = obey(await one.session())
        await until(lambda: len(received) == 2)
        assert contents(received) == [{"n": 1}, "two"]
        assert [command.identifier for command in received] == [m.message_id for m in sent]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
async def test_a_platform_that_subscribes_by_itself_sends_nothing_twice(
    folder: Path, implicit: bool, twice: bool
) -> None:
    rules = HuaweiRules(implicit=implicit, twice=twice)
    async with site(folder, rules, services={behind.SENSORS: "climate"}) as one:
        (session,) = await one.online(0)
        received, own = obey(session), child_id(0)
        for number in range(3):
            body = {**COUNT, "paras": {"n": number}}
            seen = await ask(one.instance, own, COMMANDS, body)
            assert seen == {"result_code": 0, "response_name": "count", "paras": {"n": number}}
        deliver(one.instance, own, "one", "two")
        await until(lambda: len(received) >= 5)
        assert [command.name for command in received] == ["count"] * 3 + [""] * 2
        assert (
            one.cloud.truth()["instances"][behind.INSTANCE]["devices"][behind.OWN_ID][  # type: ignore[index]  # of JSON
                "late_responses"
            ]
            == 0
        )


async def test_each_child_of_a_gateway_gets_its_own_commands(folder: Path) -> None:
    async with site(folder) as one:
        received = [obey(session) for session in await one.online(0, 1, 2)]
        services = [{"service_id": "climate", "properties": {"n": 1}}]
        for number in range(3):
            await ask(one.instance, child_id(number), SET, {"services": services})
        assert [len(got) for got in received] == [1, 1, 1]
        assert received[0][0].arguments == {"climate:n": 1}


async def test_a_child_that_is_online_at_the_platform_alone_is_answered_for(folder: Path) -> None:
    async with site(folder) as one:
        received = obey((await one.online(0))[0])
        await one.lose_link()
        await one.log_in()
        assert child_id(0) in one.online_there(), "the platform leaves it as it was"
        seen = await ask(one.instance, child_id(0), COMMANDS, {**COUNT, "paras": {}})
        assert seen["result_code"] == 1
        assert seen["paras"] == {"error": REFUSALS[CommandOutcome.NO_LISTENER]}
        assert not received


async def test_children_that_are_handed_over_are_commanded_over_the_new_session(
    folder: Path,
) -> None:
    async with site(folder) as one:
        received, older = obey((await one.online(0))[0]), one.session
        await one.log_in()
        assert older is not None
        await older.wait_closed()
        seen = await ask(one.instance, child_id(0), COMMANDS, {**COUNT, "paras": {"n": 1}})
        assert seen["result_code"] == 0
        assert len(received) == 1


async def test_a_child_without_a_listener_is_answered_for_at_once(folder: Path) -> None:
    async with site(folder) as one:
        await one.online(0)
        for use, body in ((COMMANDS, {**COUNT, "paras": {}}), (SET, {"services": [1]})):
            seen = await ask(one.instance, child_id(0), use, cast("dict[str, Any]", body))
            assert seen["result_code"] == 1
