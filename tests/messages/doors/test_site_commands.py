"""The table of commands at a site's broker, with the payloads that each project documents.

The recipes are those of docs/how-to/use-a-broker-of-the-site.md, read from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.commands.door import AnswerFate, DoorCommand
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.identity import DeviceId
from gatewayd.messages.doors.commands import NAMED, POSSIBLE, SPOKEN, EncodedCommand
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.commands import SiteCommands
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.doors.translation import ChildMessage, Unread
from tests.messages.doors.intakes import CHILD, OTHER
from tests.messages.doors.test_site_topics import RECIPES, door_settings

DONE, FAILED = CommandOutcome.DONE, CommandOutcome.FAILED
IDENTITIES: Mapping[DeviceId, Mapping[ChildKey, str]] = {
    CHILD: {ChildKey.ID: CHILD, ChildKey.NAME: "kitchen", ChildKey.MAC: "a8032abe54dc"},
    OTHER: {ChildKey.ID: OTHER, ChildKey.NAME: "green/house", ChildKey.MAC: "b8032abe54dc"},
}

RECIPES_OF_COMMANDS = [
    name.removeprefix("Commands by ") for name in RECIPES if name.startswith("Commands by ")
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("id"), inner),
)


@dataclass
class Table:
    """A table of commands, and how those that were sent have ended.  spoke: who spoke here."""

    text: str
    spoke: set[DeviceId] = field(default_factory=set)
    ended: list[tuple[str, CommandAnswer | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commands = SiteCommands(
            door_settings(self.text),
            lambda child: IDENTITIES.get(child, {}),
            self.spoke.__contains__,
        )

    def wanted(
        self,
        kind: str,
        name: str = "",
        arguments: Mapping[str, object] | None = None,
        identifier: str = "7",
        child: DeviceId = CHILD,
    ) -> DoorCommand:
        sent = ChildCommand(
            identifier, CommandKind(kind), name, arguments or {}, "x", b"raw", "y", 20.0
        )

        def concluded(answer: CommandAnswer | None) -> None:
            self.ended.append((identifier, answer))
            self.commands.end(command)

        command = DoorCommand(child, sent, 20.0, True, concluded)
        return command

    def send(self, *about: Any, **more: Any) -> tuple[str, str] | CommandAnswer | None:
        """Return topic and payload of a command; how it ends; None where it has no entry."""
        command = self.wanted(*about, **more)
        if not self.commands.priority(command):
            return None
        encoded = self.commands.encode(command)
        if isinstance(encoded, CommandAnswer):
            return encoded
        return encoded.topic, encoded.payload.decode()

    def say(self, topic: str, payload: str | bytes, **more: Any) -> AnswerFate:
        data = payload.encode() if isinstance(payload, str) else payload
        translated = more.pop("translated", Unread.TOPIC)
        return self.commands.receive(PublishPacket(topic, data, 1, **more), translated)


def recipe(project: str) -> Table:
    return Table(RECIPES[f"Commands by {project}"])


def test_zigbee2mqtt() -> None:
    table = recipe("Zigbee2MQTT")
    assert table.commands.filters == ("zigbee2mqtt/+",)
    topic, payload = table.send("set", "", {"power": 1, "level": 50})  # type: ignore[misc]  # None would fail the test
    assert (topic, json.loads(payload)) == (
        "zigbee2mqtt/kitchen/set",
        {"state": "ON", "brightness": 127},
    )
    report = ChildMessage(CHILD, "properties", b"{}")
    before = '{"state":"OFF","brightness":127,"linkquality":120}'
    assert table.say("zigbee2mqtt/kitchen", before, translated=report) is AnswerFate.NONE
    assert not table.ended, "a report from before it was set"
    after = '{"state":"ON","brightness":127,"linkquality":120}'
    assert table.say("zigbee2mqtt/kitchen", after, translated=report) is AnswerFate.NONE
    assert table.ended == [("7", CommandAnswer(DONE, result={"power": True, "level": 50.0}))]
    assert table.send("get", "", {"power": None}) == ("zigbee2mqtt/kitchen/get", '{"state":""}')
    table.say("zigbee2mqtt/kitchen", after, translated=report)
    assert table.ended[1:] == [("7", CommandAnswer(DONE, result={"power": True}))]
    assert table.send("set", "", {"power": 1, "colour": "red"}) is None, "it is not listed"
    assert table.send("set", "", {"power": 1}, child=OTHER) is None, "its name has two levels"


def test_tasmota() -> None:
    table = recipe("Tasmota")
    assert table.send("set", "", {"relay": True}) == ("cmnd/kitchen/POWER", "ON")
    assert table.say("stat/kitchen/RESULT", '{"Time":"2026-03-17T12:13:04"}') is AnswerFate.LATE
    assert table.say("stat/kitchen/RESULT", '{"POWER":"ON"}') is AnswerFate.ANSWERED
    assert table.send("service", "restart") == ("cmnd/kitchen/Restart", "1")
    assert table.say("stat/kitchen/RESULT", '{"Command":"Unknown"}') is AnswerFate.ANSWERED
    assert table.ended == [
        ("7", CommandAnswer(DONE, result={"relay": True})),
        ("7", CommandAnswer(FAILED, "Unknown")),
    ]
    assert table.send("service", "reset") is None
    assert table.send("set", "", {"Reset": 1}) is None, "a property names no command of its own"
    assert table.send("set", "", {"relay": True, "Reset": 1}) is None


def test_shelly_of_the_second_generation() -> None:
    table = recipe("Shelly, second generation and later")
    topic, payload = table.send("set", "", {"relay": 0})  # type: ignore[misc]  # None would fail the test
    assert topic == "shellyplus1pm-a8032abe54dc/rpc"
    assert json.loads(payload) == {
        "src": "gatewayd", "method": "Switch.Set", "params": {"id": 0, "on": False}, "id": "7",
    }  # fmt: skip
    other = (
        '{"id":"8","src":"shellyplus1pm-a8032abe54dc","dst":"gatewayd","result":{"was_on":true}}'
    )
    assert table.say("gatewayd/rpc", other) is AnswerFate.LATE
    assert table.say("gatewayd/rpc", other.replace("8", "7", 1)) is AnswerFate.ANSWERED
    assert table.ended == [("7", CommandAnswer(DONE, result={"relay_before": True}))]
    table.send("set", "", {"relay": 0})
    error = {"code": -105, "message": "Argument 'id', value 5 not found!"}
    refused = json.dumps({"id": "7", "src": "x", "dst": "gatewayd", "error": error})
    assert table.say("gatewayd/rpc", refused) is AnswerFate.ANSWERED
    assert table.ended[1:] == [("7", CommandAnswer(FAILED, "Argument 'id', value 5 not found!"))]


def test_two_devices_do_not_answer_for_each_other_on_one_topic() -> None:
    table = recipe("Shelly, second generation and later")
    assert isinstance(table.send("set", "", {"relay": 0}), tuple)
    confused = table.send("set", "", {"relay": 0}, child=OTHER)
    assert isinstance(confused, CommandAnswer)
    assert confused.outcome is FAILED
    assert isinstance(table.send("set", "", {"relay": 0}, "8", OTHER), tuple)


def test_esphome() -> None:
    table = recipe("ESPHome")
    assert table.send("set", "", {"relay": "off"}) == ("kitchen/switch/relay/command", "OFF")
    assert table.say("kitchen/switch/relay/state", "ON") is AnswerFate.LATE
    assert table.say("kitchen/switch/relay/state", "OFF") is AnswerFate.ANSWERED
    assert table.ended == [("7", CommandAnswer(DONE, result={"relay": False}))]
    unfit = table.send("set", "", {"relay": "maybe"})
    assert isinstance(unfit, CommandAnswer)
    assert unfit.outcome is FAILED


def entry(*lines: str) -> Table:
    return Table("\n".join(("[[messages.doors.site.commands]]", *lines)))


def test_without_an_answer_a_command_is_done_when_the_broker_has_it() -> None:
    table = entry('kind = "service"', 'name = "open*"', 'topic = "x/{mac|upper}/open"')
    command = table.wanted("service", "opened", {"to": 5, "how": "fast", "now": True})
    encoded = table.commands.encode(command)
    assert encoded == EncodedCommand(
        "x/A8032ABE54DC/open", b'{"to":5,"how":"fast","now":true}', acknowledged=CommandAnswer(DONE)
    )
    assert table.send("service", "reopen") is None
    nested = table.send("service", "open", {"to": {"x": 1}})
    assert isinstance(nested, CommandAnswer)
    assert nested.outcome is FAILED


def test_raw_passes_what_the_cloud_has_sent_and_what_the_device_says() -> None:
    table = entry(
        'kind = "request"', 'topic = "x/{id}/in"', 'format = "raw"', 'answer = "x/{id}/out"',
        'answer_format = "raw"',
    )  # fmt: skip
    assert table.send("request") == (f"x/{CHILD}/in", "raw")
    assert table.say(f"x/{OTHER}/out", b"\xff") is AnswerFate.LATE
    assert (
        table.say(f"x/{CHILD}/out", b"\xff", retained=True, translated=Unread.RETAINED)
        is AnswerFate.NONE
    )
    assert table.say(f"x/{CHILD}/out", b"\xff") is AnswerFate.ANSWERED
    assert table.ended == [("7", CommandAnswer(DONE, raw=b"\xff"))]


def test_the_oldest_command_is_answered_first() -> None:
    table = entry('kind = "service"', 'topic = "x/{name}"', 'answer = "y/{name}"')
    for number in "12":
        table.send("service", "", {}, number)
    assert table.say("y/kitchen", "{}") is AnswerFate.ANSWERED
    assert [identifier for identifier, _ in table.ended] == ["1"]
    assert table.say("y/kitchen", "no JSON") is AnswerFate.LATE
    table.say("y/kitchen", "{}")
    assert table.say("y/kitchen", "{}") is AnswerFate.LATE
    assert [identifier for identifier, _ in table.ended] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "spoke", "priority"),
    [
        ('topic = "x/{name}"', False, POSSIBLE),
        ('topic = "x/{name}"', True, SPOKEN),
        ('topic = "x"\nchild = "kitchen"', False, NAMED),
        (f'topic = "x"\nchild = "{CHILD}"', True, NAMED),
        ('topic = "x"\nchild = "cellar"', True, 0),
        ('topic = "x/{serial}"', True, 0),
    ],
)
def test_how_surely_a_command_is_meant_for_a_broker(text: str, spoke: bool, priority: int) -> None:
    table = entry('kind = "get"', text)
    table.spoke.update({CHILD} if spoke else ())
    assert table.commands.priority(table.wanted("get")) == priority
    assert table.commands.priority(table.wanted("set")) == 0
    assert table.commands.priority(table.wanted("get", child=DeviceId("child-gone"))) == 0


def test_a_publishers_name_stands_for_its_child() -> None:
    table = Table(
        f'[messages.doors.site.children]\n"0x00158d" = "{CHILD}"\n"other" = "green/house"\n'
        '[[messages.doors.site.commands]]\nkind = "get"\ntopic = "z/{name}/get"\n'
    )
    assert table.send("get") == ("z/0x00158d/get", "{}")
    assert table.send("get", child=OTHER) == ("z/other/get", "{}")
    assert table.commands.priority(table.wanted("get")) == NAMED


@given(st.sampled_from(RECIPES_OF_COMMANDS), st.binary(max_size=99) | JSON.map(json.dumps))
def test_nothing_that_a_device_says_is_a_fault(project: str, payload: bytes | str) -> None:
    table = recipe(project)
    table.send("set", "", {"power": 1, "level": 50})
    table.send("set", "", {"relay": 1})
    for expected in list(table.commands._expected):
        table.say(expected, payload)


@given(
    st.sampled_from(RECIPES_OF_COMMANDS),
    st.dictionaries(
        st.sampled_from(["power", "level", "relay", "x", "+", "a/b", ""]),
        JSON | st.floats() | st.text(max_size=9), max_size=3,
    ),
)  # fmt: skip
def test_no_arguments_of_a_cloud_are_a_fault(project: str, arguments: dict[str, object]) -> None:
    for kind in ("set", "get", "service"):
        sent = recipe(project).send(kind, "restart", arguments)
        if isinstance(sent, tuple):
            topic, _ = sent
            assert not set(topic) & set("+#"), "that would close the connection"


ENVELOPE = """
[[messages.doors.site.commands]]
kind = "service"
topic = "{name}/rpc"
payload = '{"src": "gatewayd"}'
id_path = "meta.id"
"""


@pytest.mark.parametrize("value", [5, "text", True])
def test_an_argument_in_the_place_of_the_identifier_is_no_fault(value: object) -> None:
    table = Table(ENVELOPE)
    ended = table.send("service", "open", {"meta": value})
    assert isinstance(ended, CommandAnswer)
    assert ended.outcome is FAILED
    assert isinstance(table.send("service", "open", {"other": value}), tuple)


@pytest.mark.parametrize("listed", [False, True])
def test_a_cloud_replaces_what_the_configuration_has_written_only_where_it_says_so(
    listed: bool,
) -> None:
    values = "values = { method = 'method' }" if listed else ""
    table = Table(ENVELOPE.replace('"src": "gatewayd"', '"method": "Switch.Set"') + values)
    sent = table.send("service", "open", {"method": "FactoryReset"})
    if listed:
        assert isinstance(sent, tuple)
        assert json.loads(sent[1])["method"] == "FactoryReset"
    else:
        assert isinstance(sent, CommandAnswer)
        assert sent.outcome is FAILED
