"""Commands through a real broker of a site, to doubles of devices with their real payloads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from tests.commands.children import ListeningChild, Received, listening_child, silent
from tests.commands.doubles import command
from tests.messages.doors.command_path import MAC, CommandPath
from tests.messages.doors.intakes import until
from tests.messages.doors.test_site_topics import RECIPES, door_settings
from tests.support.mosquitto import Mosquitto, mosquitto

pytestmark = pytest.mark.integration

DONE = CommandOutcome.DONE
Device = Callable[[Received], Sequence[tuple[str, bytes]]]


def at_site(broker: Mosquitto, text: str) -> CommandPath:
    """Make a path to a broker.  text: of its door."""
    settings = replace(door_settings(text), host="127.0.0.1", port=broker.port)
    return CommandPath(broker.directory, {"site": settings})


@contextlib.asynccontextmanager
async def way(recipe: str) -> AsyncIterator[tuple[CommandPath, Mosquitto]]:
    text = f"{RECIPES[recipe]}\n{RECIPES[f'Commands by {recipe}']}"
    with mosquitto() as broker:
        async with at_site(broker, text).running() as one:
            yield one, broker


@contextlib.asynccontextmanager
async def device_at(
    recipe: str, topic: str, react: Device
) -> AsyncIterator[tuple[CommandPath, ListeningChild]]:
    async with (
        way(recipe) as (one, broker),
        listening_child(broker.port, "device", "", topics=[topic], react=react) as child,
    ):
        yield one, child


def setting(identifier: str = "7", **properties: object) -> ChildCommand:
    return command(identifier, CommandKind.SET, arguments=properties, name="")


def zigbee2mqtt(received: Received) -> Sequence[tuple[str, bytes]]:
    """Report the state of a bulb as it was, as a timer does, and as it is."""
    new = {"state": "OFF", "brightness": 1, "linkquality": 120}
    reports = [json.dumps(new)]
    if received.topic.endswith("/set"):
        reports.append(json.dumps(new | json.loads(received.payload)))
    topic = received.topic.rpartition("/")[0]
    return [(topic, report.encode()) for report in reports]


def tasmota(received: Received) -> Sequence[tuple[str, bytes]]:
    name, value = received.topic.rpartition("/")[2], received.payload.decode()
    if name != "POWER":
        return [("stat/kitchen/RESULT", b'{"Command":"Unknown"}')]
    result = json.dumps({"POWER": value}).encode()
    return [("stat/kitchen/RESULT", result), ("stat/kitchen/POWER", value.encode())]


def shelly(received: Received) -> Sequence[tuple[str, bytes]]:
    request = json.loads(received.payload)
    answer = {"id": request["id"], "src": f"shellyplus1pm-{MAC}", "dst": request["src"]}
    if request["method"] == "Switch.Set":
        answer["result"] = {"was_on": not request["params"]["on"]}
    return [(f"{request['src']}/rpc", json.dumps(answer).encode())]


def esphome(received: Received) -> Sequence[tuple[str, bytes]]:
    return [("kitchen/switch/relay/state", received.payload)]


@pytest.mark.parametrize(
    ("recipe", "topic", "device", "wanted", "result"),
    [
        (
            "Zigbee2MQTT", "zigbee2mqtt/+/set", zigbee2mqtt,
            setting(power=1, level=50), {"power": True, "level": 50.0},
        ),
        (
            "Zigbee2MQTT", "zigbee2mqtt/+/get", zigbee2mqtt,
            command("7", CommandKind.GET, arguments={"power": None}), {"power": False},
        ),
        ("Tasmota", "cmnd/kitchen/#", tasmota, setting(relay=True), {"relay": True}),
        (
            "Shelly, second generation and later", f"shellyplus1pm-{MAC}/rpc", shelly,
            setting(relay=0), {"relay_before": True},
        ),
        ("ESPHome", "kitchen/switch/+/command", esphome, setting(relay=1), {"relay": True}),
    ],
)  # fmt: skip
async def test_a_device_carries_out_a_command(
    recipe: str, topic: str, device: Device, wanted: ChildCommand, result: Mapping[str, object]
) -> None:
    async with way(recipe) as (one, broker):
        absent = await one.answer(replace(wanted, identifier="6"))
        assert absent.outcome is CommandOutcome.NO_LISTENER, "at once"
        async with listening_child(
            broker.port, "device", "", topics=[topic], react=device
        ) as child:
            assert await one.answer(wanted) == CommandAnswer(DONE, result=result)
            assert len(child.received) == 1


async def test_a_device_says_that_it_could_not() -> None:
    restart = command("7", CommandKind.SERVICE, name="restart")
    async with device_at("Tasmota", "cmnd/kitchen/#", tasmota) as (one, child):
        assert await one.answer(restart) == CommandAnswer(CommandOutcome.FAILED, "Unknown")
        (received,) = child.received
        assert (received.topic, received.payload) == ("cmnd/kitchen/Restart", b"1")


async def test_a_report_that_answers_is_a_message_too() -> None:
    async with device_at("Zigbee2MQTT", "zigbee2mqtt/+/get", zigbee2mqtt) as (one, child):
        await one.answer(command("7", CommandKind.GET, arguments={"power": None}))
        child.say("zigbee2mqtt/kitchen", b'{"temperature":21.5}')
        (message,) = await one.intake.until(1)
        assert json.loads(message.payload) == {"temperature": 21.5}
        assert one.dropped == {"no-value": 1}, "the state has none that is listed"


async def test_what_has_no_entry_is_not_written() -> None:
    async with device_at("Tasmota", "#", silent) as (one, child):
        reset = command("1", CommandKind.SERVICE, name="reset")
        assert (await one.answer(reset)).outcome is CommandOutcome.NO_LISTENER
        assert (await one.answer(setting("2", Reset=1))).outcome is CommandOutcome.NO_LISTENER
        one.session.send(setting("3", relay=1))
        await until(lambda: child.received, lambda: child.received)
        assert [item.topic for item in child.received] == ["cmnd/kitchen/POWER"]


async def test_a_door_for_commands_alone_subscribes_to_nothing() -> None:
    entry = '[[messages.doors.site.commands]]\nkind = "set"\ntopic = "x/{name}"\n'
    with mosquitto() as broker:
        async with at_site(broker, entry).running() as one:
            assert (await one.answer(setting("1", v=1))).outcome is CommandOutcome.NO_LISTENER
            async with listening_child(broker.port, "device", "", topics=["x/kitchen"]) as child:
                assert (await one.answer(setting("2", v=1))).outcome is DONE
                await until(lambda: child.received, lambda: child.received)
                assert child.received[0].payload == b'{"v":1}'
