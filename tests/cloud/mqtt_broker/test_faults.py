"""What else may be wrong at a real broker: names that others have, roles, limits, silence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginFailed,
    LoginRefused,
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
    Refused,
    SupportsCommands,
    SupportsMessages,
)
from gatewayd.device.command import ChildCommand
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.mqtt_broker.brokers import MANAGER, NAMES, ManagedBroker, managed_broker
from tests.cloud.mqtt_broker.test_management import (
    SPEAKER,
    let_speak,
    listener,
    manage,
    outcome,
    registered,
    say,
)

integration = pytest.mark.integration
ONE, OTHER = NAMES


def roles(one: ManagedBroker) -> dict[str, dict[str, Any]]:
    """Return the roles that the broker has written, by name."""
    return {role["rolename"]: role for role in json.loads(one.store.read_text())["roles"]}


@integration
async def test_a_role_of_another_is_left_alone() -> None:
    async with managed_broker(user="{device}") as one:
        before = roles(one)["admin"]
        ended, _ = await outcome(one, CloudName("plant", "meter", "admin"))
        assert roles(one)["admin"] == before
        assert isinstance(ended, Refused)
        assert ended.reason.code == "client-exists"


@integration
@pytest.mark.parametrize("use", ["up", "down"])
async def test_a_child_has_its_topics_after_its_templates_were_changed(use: str) -> None:
    async with managed_broker() as one:
        secret = await registered(one)
        moved = one.make(**{use: f"moved/{{product}}/{{device}}/{use}/{{topic}}"})
        session = await moved.connect(ONE, secret)
        assert isinstance(session, SupportsMessages)
        place = "moved" if use == "up" else "devices"
        own = await listener(one, secret, f"{place}/meter/PM-0001/up/#")
        await asyncio.sleep(0.5)  # nothing says that a subscription of another is there
        assert await session.publish(Message("properties", b'{"a":1}', 0)) == MessageAccepted()
        said, _ = await own.communicate()
        assert said == f'{place}/meter/PM-0001/up/properties {{"a":1}}\n'.encode()
        await session.close()
        await moved.close()


@integration
async def test_a_message_that_the_broker_cuts_off_is_refused_in_the_end() -> None:
    async with managed_broker(("max_packet_size 2000",)) as one:
        secret = await registered(one)
        results: list[Publication] = []
        for _ in range(8):
            session = await one.provider.connect(ONE, secret)
            assert isinstance(session, SupportsMessages)
            results.append(await session.publish(Message("user/a", b"x" * 3000, 0)))
            await session.close()
            if not isinstance(results[-1], MessageDelayed):
                break
        assert isinstance(results[-1], MessageRefused), results
        session = await one.provider.connect(ONE, secret)
        assert isinstance(session, SupportsMessages)
        assert await session.publish(Message("user/a", b"small", 0)) == MessageAccepted()
        await session.close()


@integration
async def test_a_command_that_the_broker_retains_is_not_executed_at_each_login() -> None:
    async with managed_broker() as one:
        await let_speak(one)
        secret = await registered(one)
        await say(one, "devices/meter/PM-0001/down/call/reboot/7", "{}", "-r")
        await say(one, "devices/meter/PM-0001/down/hello", "kept", "-r")
        for _ in range(2):
            session = await one.provider.connect(ONE, secret)
            assert isinstance(session, SupportsCommands)
            received: list[ChildCommand] = []
            session.receive_commands(received.append)
            await say(one, "devices/meter/PM-0001/down/call/start/8", "{}")
            await until(lambda: received[-1:] and received[-1].name == "start")  # noqa: B023  # awaited here
            assert "reboot" not in [command.name for command in received]
            await session.close()


@integration
@pytest.mark.parametrize("changed", ["user", "manager"])
async def test_children_get_new_clients_where_what_names_them_was_changed(changed: str) -> None:
    async with managed_broker() as one:
        secret = await registered(one)
        if changed == "user":
            again = one.make(user="{device}")
        else:
            await manage(one, "createClient", "gateway-2", "-p", one.secrets[MANAGER])
            await manage(one, "addClientRole", "gateway-2", "admin", "5")
            again = one.make("gateway-2")
            await (await again.connect(ONE, secret)).close()
            await manage(one, "deleteClient", "meter-PM-0001")
            with pytest.raises(LoginRefused) as role:
                await again.connect(ONE, secret)
            assert role.value.reason.code == "client-exists", "its role is of the other manager"
            await manage(one, "deleteRole", "meter-PM-0001")
        await (await again.connect(ONE, secret)).close()
        await again.close()


@integration
@pytest.mark.parametrize("size", [256 * 1024, 256 * 1024 + 1024])
async def test_what_a_child_is_sent_has_a_bound(size: int) -> None:
    async with managed_broker() as one:
        await let_speak(one)
        session = await one.provider.connect(ONE, await registered(one))
        assert isinstance(session, SupportsCommands)
        received: list[ChildCommand] = []
        session.receive_commands(received.append)
        text = one.directory / "text"
        text.write_bytes(b"x" * size)
        speaking = [
            "-h", "localhost", "-p", str(one.broker.port), "--cafile",
            str(one.directory / "ca.pem"), "-u", *SPEAKER, "-q", "1",
            "-t", "devices/meter/PM-0001/down/a", "-f", str(text),
        ]  # fmt: skip
        saying = await asyncio.create_subprocess_exec("mosquitto_pub", *speaking)
        assert await saying.wait() == 0
        if size <= 256 * 1024:
            await until(lambda: bool(received))
            assert len(received[0].payload) == size
        else:
            assert (await session.wait_closed()).reason.code == "cloud-protocol-error"
        await session.close()


@integration
async def test_a_broker_that_drops_what_is_large_acknowledges_it() -> None:
    async with managed_broker(("message_size_limit 2000",)) as one:
        session = await one.provider.connect(ONE, await registered(one))
        assert isinstance(session, SupportsMessages)
        assert await session.publish(Message("user/a", b"x" * 3000, 0)) == MessageAccepted()
        await session.close()


@integration
async def test_who_was_not_asked_as_the_broker_is_silent_has_that_reason() -> None:
    async with managed_broker() as one:
        await asyncio.to_thread(one.without_plugin)
        names = [CloudName("plant", "meter", f"PM-{n:04}") for n in range(45)]
        ended = [result for result, _ in await asyncio.gather(*(outcome(one, n) for n in names))]
        assert {type(result) for result in ended} == {Failed}, "a question issues nothing"
        assert {result.reason.code for result in ended if isinstance(result, Failed)} == {
            "management-no-answer"
        }


@integration
async def test_nothing_is_left_of_a_provider_that_was_closed() -> None:
    async with managed_broker() as one:
        await one.provider.close()
        ended, kept = await outcome(one)
        assert isinstance(ended, Failed)
        assert not kept.secrets
        assert not [t for t in asyncio.all_tasks() if t.get_name() == "broker management"]
        assert one.connections() == 0


@integration
async def test_a_number_without_a_successor_is_no_mark_of_ours() -> None:
    async with managed_broker() as one:
        await registered(one)
        await set_description(one, "meter/PM-0001 password 999999999")
        ended, kept = await outcome(one)
        assert isinstance(ended, Refused)
        assert not kept.secrets


async def set_description(one: ManagedBroker, text: str, **more: str) -> None:
    """Change a client at the broker, as another program does."""
    command = {"command": "modifyClient", "username": "meter-PM-0001", "textdescription": text}
    saying = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", "localhost", "-p", str(one.broker.port), "--cafile",
        one.directory / "ca.pem", "-u", MANAGER, "-P", one.secrets[MANAGER], "-q", "1",
        "-t", "$CONTROL/dynamic-security/v1",
        "-m", json.dumps({"commands": [{**command, **more}]}),
    )  # fmt: skip
    assert await saying.wait() == 0


@integration
async def test_a_change_that_arrives_late_keeps_no_child_out() -> None:
    async with managed_broker() as one:
        await registered(one)
        kept = RecordingKeeper()

        async def cut() -> None:
            one.relay.silent = True

        lost = RecordingKeeper(cut)
        assert await one.provider.register(ONE, lost.keep) == Issued()
        one.relay.silent = False
        assert await one.provider.register(ONE, kept.keep) == Issued()
        late = lost.secrets[0].reveal().decode()
        await set_description(one, f"meter/PM-0001 password {late.split('.')[1]}", password=late)
        session = await one.provider.connect(ONE, kept.secrets[0])
        await session.close()


@integration
async def test_no_child_takes_the_place_of_the_management() -> None:
    async with managed_broker(client_id="{device}", user="{product}-{device}") as one:
        name = CloudName("plant", "meter", f"gatewayd-{MANAGER}")
        secret = await registered(one, name)
        session = await one.provider.connect(name, secret)
        await registered(one)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await session.wait_closed()
        await session.close()


@integration
async def test_children_recover_by_themselves_when_the_cause_is_gone() -> None:
    async with managed_broker() as one:
        secret = await registered(one)
        await manage(one, "disableClient", "meter-PM-0001")
        with pytest.raises(LoginRefused) as disabled:
            await one.provider.connect(ONE, secret)
        assert disabled.value.reason.code == "cloud-not-authorised"
        assert not disabled.value.stale
        await manage(one, "enableClient", "meter-PM-0001")
        await (await one.provider.connect(ONE, secret)).close()
        await manage(one, "deleteClient", "meter-PM-0001")
        right, one.secrets[MANAGER] = one.secrets[MANAGER], "other"
        again = one.make()  # the other one may still be logged in
        with pytest.raises(LoginFailed) as failed:
            await again.connect(ONE, secret)
        assert failed.value.reason.code == "management-refused"
        one.secrets[MANAGER] = right
        await (await again.connect(ONE, secret)).close()
        await again.close()
