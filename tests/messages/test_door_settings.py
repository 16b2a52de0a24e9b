"""The settings of a site's broker: what is accepted, and what is refused where it stands."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gatewayd.device.command import CommandKind
from gatewayd.messages.door_settings import (
    CommandSettings,
    DoorSettings,
    PayloadFormat,
    TopicSettings,
    Unit,
    ValueSettings,
)
from gatewayd.messages.settings import MessageSettings
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems, lines

SITE = """
[messages.doors.site]
host = "broker.example"
tls = true
ca_file = "/etc/gatewayd/site-ca.pem"
user_name = "gatewayd"
password_credential = "site-broker"

[messages.doors.site.children]
"kitchen sensor" = "child-0123456789ab"

[[messages.doors.site.topics]]
topic = "zigbee2mqtt/{name}"
values.temperature = "temperature"
values.power = { path = "power", unit = "kilowatt" }

[[messages.doors.site.topics]]
topic = "esphome/{name}/sensor/{key}/state"
format = "plain"
"""


def build(text: str) -> tuple[DoorSettings | None, list[str]]:
    """Build [messages.doors.site] as the configuration does."""
    document = Document(Path("/etc/x.toml"), tomllib.loads(text), dict(lines(text)))
    problems = Problems()
    at = ("messages", "doors", "site")
    table = document.table["messages"]["doors"]["site"]
    made = SettingsBuilder(document, problems).build(DoorSettings, table, at)
    return made, [str(problem) for problem in problems.found]


def test_a_door_is_read() -> None:
    made, problems = build(SITE)
    assert not problems
    assert made is not None
    assert made.children == {"kitchen sensor": "child-0123456789ab"}
    assert made.topics[0].all_values() == {
        "temperature": ValueSettings("temperature"),
        "power": ValueSettings("power", Unit.KILOWATT),
    }
    assert made.topics[1].topic == "esphome/{name}/sensor/{key}/state"


def test_a_problem_of_one_topic_is_reported_where_it_stands() -> None:
    made, (problem,) = build(SITE + 'into = "event/x"\n')
    assert made is None
    assert problem.startswith("/etc/x.toml:17: [messages.doors.site.topics[2]]: into is")


DOOR = {"host": "broker.example", "topics": (TopicSettings("a/{name}"),)}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"host": ""}, "host and socket"),
        ({"socket": Path("/run/x")}, "host and socket"),
        ({"host": "", "socket": Path("/run/x"), "port": 1}, "port"),
        ({"host": "", "socket": Path("/run/x"), "tls": True}, "tls"),
        ({"ca_file": Path("/x")}, "ca_file"),
        ({"tls": True, "certificate_file": Path("/x")}, "certificate_file needs a key"),
        ({"tls": True, "private_key_file": Path("/x")}, "a key needs certificate_file"),
        (
            {"certificate_file": Path("/x"), "private_key_file": Path("/y")},
            "certificate_file is for tls",
        ),
        ({"user_name": "u", "password_file": Path("/x"), "password_credential": "x"}, "both"),
        ({"password_file": Path("/x")}, "user_name"),
    ],
)
def test_settings_of_a_door_that_contradict_each_other_are_refused(
    given: dict[str, object], word: str
) -> None:
    (problem,) = DoorSettings(**{**DOOR, **given}).problems()  # type: ignore[arg-type]  # of any field
    assert word in problem


PLAIN = {"format": PayloadFormat.PLAIN, "values": {"t": "x"}}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"topic": ""}, "characters"),
        ({"topic": "a/#/b"}, "wildcard|whole level"),
        ({"topic": "a/x+"}, "whole level"),
        ({"topic": "a/{name}/{mac}"}, "once"),
        ({"topic": "a/{name}{key}"}, "one placeholder"),
        ({"topic": "a/{colour}"}, "placeholders"),
        ({"topic": "a/+"}, "child is to be said once"),
        ({"topic": "a/{name}", "child": "child-1"}, "child is to be said once"),
        ({"topic": "a/+", "child_path": "a..b"}, "the path"),
        ({"topic": "a/+", "child_path": "x", **PLAIN}, "child_path"),
        ({"values": {"temperature": "a[b]"}}, "the path"),
        ({"values": {"room temperature": "a"}}, "names no property"),
        ({"values": {"time": "a"}}, "names no property"),
        ({"time": "a..b"}, "the path"),
        ({"into": "user/update"}, "into is properties"),
        ({"format": PayloadFormat.RAW}, "into is properties"),
        ({"format": PayloadFormat.RAW, "into": "user/+"}, "without wildcards"),
        ({"format": PayloadFormat.RAW, "into": "user/x", "time": "t"}, "leave out"),
        ({"into": "events/{key}"}, "lacks"),
        ({"into": "events/"}, "a name after"),
        ({"format": PayloadFormat.PLAIN}, "format plain needs"),
        ({"format": PayloadFormat.SPARKPLUG, "time": "t"}, "time is for"),
    ],
)  # fmt: skip
def test_an_entry_that_contradicts_itself_is_refused(given: dict[str, object], word: str) -> None:
    entry = TopicSettings(**{"topic": "a/{name}", **given})  # type: ignore[arg-type]  # of any field
    (problem, *_) = entry.problems()
    assert any(one in problem for one in word.split("|"))


def test_a_value_needs_a_path() -> None:
    assert list(ValueSettings("").problems())


@pytest.mark.parametrize("name", ["gatewayd", "../x", "a/b", "", "Site", "1", "a" * 33, "a b", "é"])
def test_a_door_has_a_name_that_a_file_can_have(name: str) -> None:
    settings = MessageSettings(doors={name: DoorSettings(**DOOR)})  # type: ignore[arg-type]  # of any field
    assert len(list(settings.problems())) == 1


def test_a_door_may_have_any_other_name() -> None:
    doors = {name: DoorSettings(**DOOR) for name in ("site", "z2m-2", "a_b")}  # type: ignore[arg-type]  # of any field
    assert not list(MessageSettings(doors=doors).problems())


COMMAND = {"kind": CommandKind.SET, "topic": "a/{name}/set"}
SERVICE = {"kind": CommandKind.SERVICE}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"topic": "a/{name}/#"}, "wildcard"),
        ({"topic": "a/+/{name}"}, "wildcard"),
        ({"topic": ""}, "characters"),
        ({"topic": "a/{name|title}"}, "form of a placeholder"),
        ({"topic": "a"}, "child is to be said once"),
        ({"child": "child-1"}, "child is to be said once"),
        ({"name": "x"}, "has no name"),
        ({"topic": "a/{name}/{key}"}, "{key} in topic"),
        ({"topic": "a/{name}/{key}", "format": PayloadFormat.PLAIN}, "{key} in topic"),
        ({"topic": "a/{name}/{key}", **PLAIN, **SERVICE}, "{key} in topic"),
        ({"format": PayloadFormat.RAW, "values": {"t": "x"}}, "leave out values"),
        ({"format": PayloadFormat.PLAIN}, "format plain needs"),
        ({**PLAIN, "id_path": "id"}, "id_path is for"),
        ({"values": {"t": ValueSettings("x", scale=0)}}, "scale is 0"),
        ({"values": {"a b": "x"}}, "names no value"),
        ({"payload": "{"}, "no JSON document"),
        ({"payload": "[]"}, "no JSON object"),
        ({"payload": "7"}, "no JSON object"),
        ({"values": {"t": "a[0]"}}, "not there"),
        ({"payload": '{"a":1}', "values": {"t": "a.b"}}, "no object"),
        ({"id_path": "a..b"}, "id_path"),
        ({"result": {"t": "x"}}, "answer is empty"),
        ({"confirm": True}, "answer is empty"),
        ({"failed": "x"}, "answer is empty"),
        ({"answer": "b/{mac}"}, "placeholder that topic lacks"),
        ({"answer": "b/{name}/+"}, "wildcard"),
        ({"answer": "b"}, "the same for all children"),
        ({"answer": "b/{name}", "answer_id_path": "id"}, "needs id_path"),
        ({"answer": "b/{name}", "failed": "a..b"}, "path of the answer"),
        ({"answer": "b/{name}", "result": {"t": "a["}}, "path of the answer"),
        ({"answer": "b/{name}", "failed": "x", "answer_format": PayloadFormat.PLAIN}, "in JSON"),
        ({"answer": "b/{name}", "confirm": True, "answer_format": PayloadFormat.RAW}, "raw"),
        ({"answer": "b/{name}", "confirm": True, **SERVICE}, "confirm is for kind set"),
        (
            {
                "answer": "b/{name}",
                "answer_format": PayloadFormat.PLAIN,
                "result": {"t": "x", "u": "y"},
            },
            "has one value",
        ),
    ],
)
def test_a_command_that_contradicts_itself_is_refused(given: dict[str, object], word: str) -> None:
    entry = CommandSettings(**{**COMMAND, **given})  # type: ignore[arg-type]  # of any field
    (problem, *_) = entry.problems()
    assert word in problem


def test_a_problem_of_one_command_is_reported_where_it_stands() -> None:
    text = SITE + '\n[[messages.doors.site.commands]]\nkind = "set"\ntopic = "a/{name}/#"\n'
    _, (problem,) = build(text)
    assert problem.startswith("/etc/x.toml:21: [messages.doors.site.commands[1]]: topic has")
    _, problems = build(SITE + '\n[[messages.doors.site.commands]]\ntopic = "a/{name}"\n')
    assert any("kind" in problem for problem in problems)
