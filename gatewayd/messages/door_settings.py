"""The settings of a door: a broker that the site has already, and which messages are whose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatewayd.device.command import CommandKind
from gatewayd.device.message import EVENTS, PROPERTIES
from gatewayd.messages.doors.site.json_path import (
    BadDocument,
    BadPath,
    parse_path,
    put,
    read_document,
)
from gatewayd.messages.doors.site.topic_pattern import KEY, BadPattern, ChildKey, TopicPattern
from gatewayd.settings import grammar
from gatewayd.settings.declare import (
    REQUIRED,
    FileUse,
    credential_problems,
    given_credential,
    given_file,
    setting,
)

OWN_DOOR = "gatewayd"
"""The name of the door that is gatewayd's own broker."""
_DOOR = re.compile(r"[a-z][a-z0-9_-]{0,31}")

TIME = "time"
"""The member of the neutral form that is no property."""
MAX_PROPERTY = 64
"""Characters of the name of a property or an event."""

MAX_COMMAND_NAME = 128
"""Characters of a glob of the names of commands."""

_PROPERTY = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,{MAX_PROPERTY - 1}}}", re.ASCII)
_REMAINDER = re.compile(r"[^\x00-\x20+#$][^\x00-\x1f+#]{0,255}")


def door_name_problem(name: str) -> str:
    """Return what is wrong with the name of a door, which names a file, too; "" for nothing."""
    if name == OWN_DOOR or not _DOOR.fullmatch(name):
        return (
            f"doors has {name[:64]!a}, which is no name of a door: use at most 32 lower-case "
            f"letters and digits, a letter first, and not {OWN_DOOR!r}"
        )
    return ""


def is_property(name: str) -> bool:
    """Whether a text can name a property or an event."""
    return _PROPERTY.fullmatch(name) is not None


class PayloadFormat(StrEnum):
    """What a publisher writes into its messages."""

    JSON = "json"
    PLAIN = "plain"  # one value as text
    SPARKPLUG = "sparkplug-b"  # Eclipse Sparkplug B, protobuf
    RAW = "raw"  # for the cloud as it is


_OF_COMMANDS = (PayloadFormat.JSON, PayloadFormat.PLAIN, PayloadFormat.RAW)


class Unit(StrEnum):
    """The unit in which a publisher measures, where the cloud is to get another."""

    FAHRENHEIT = "fahrenheit"  # becomes degrees Celsius
    KELVIN = "kelvin"  # becomes degrees Celsius
    MILLIVOLT = "millivolt"  # becomes volts
    MILLIAMPERE = "milliampere"  # becomes amperes
    KILOWATT = "kilowatt"  # becomes watts
    WATT_HOUR = "watt-hour"  # becomes kilowatt-hours
    WATT_MINUTE = "watt-minute"  # becomes kilowatt-hours
    ON_OFF = "on-off"  # ON and OFF become true and false
    TRUE_FALSE = "true-false"  # the same; a device that is commanded gets true and false, not ON


@dataclass(frozen=True, slots=True)
class ValueSettings:
    """[messages.doors.NAME.topics.values.PROPERTY]"""

    path: str = setting("", "where the value is: a JSON path, or the name of a Sparkplug metric")
    unit: Unit | None = setting(
        None,
        "unit of the publisher, which is converted: fahrenheit and kelvin to degrees Celsius, "
        "millivolt, milliampere and kilowatt to volts, amperes and watts, watt-hour and "
        "watt-minute to kilowatt-hours, on-off and true-false to true or false; in a command the "
        "other way, on-off to ON or OFF (default: not converted)",
    )
    scale: float = setting(1.0, "factor for the value, after its unit", low=-1e12, high=1e12)
    offset: float = setting(0.0, "what is then added to the value", low=-1e12, high=1e12)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the value."""
        if not self.path:
            yield "path is empty: say where the value is"


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """[[messages.doors.NAME.topics]]"""

    topic: str = setting(
        "",
        "pattern of topics: + is any level, # all further ones; {id}, {name}, {serial}, {mac} or "
        "{uuid}, in one level, is the child, and {key} the name of the property or event",
    )
    child: str = setting(
        "", "the child: its id, or its device name at the cloud (default: as the topic says)"
    )
    child_path: str = setting(
        "", "JSON path in the payload to what identifies the child (default: the topic does)"
    )
    child_by: ChildKey = setting(ChildKey.NAME, "what is at child_path", choices=tuple(ChildKey))
    format: PayloadFormat = setting(
        PayloadFormat.JSON,
        "what the payload is; raw passes it to the cloud as it is",
        choices=tuple(PayloadFormat),
    )
    into: str = setting(
        PROPERTIES,
        "what becomes of it: properties, events/NAME, events/{key}, or for raw the remainder of a "
        "topic as the cloud's documents name it",
    )
    values: Mapping[str, ValueSettings | str] = setting(
        {},
        "for each property where its value is: a JSON path, the name of a Sparkplug metric, or a "
        "table with path, and unit, scale or offset; of unit, fahrenheit and kelvin become degrees "
        "Celsius, millivolt, milliampere and kilowatt become volts, amperes and watts, watt-hour "
        "and watt-minute kilowatt-hours, on-off true or false "
        "(default: each number, text and truth value of the payload, by its own name)",
    )
    time: str = setting(
        "",
        "JSON path to when it was measured: seconds or milliseconds since the epoch, or RFC 3339 "
        "(default: when it is received)",
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the entry as a whole."""
        names: frozenset[str] = frozenset()
        try:
            names = TopicPattern(self.topic).names
        except BadPattern as error:
            yield f"topic {error}"
            return
        ways = (bool(self.child), bool(self.child_path), bool(names - {KEY}))
        if sum(ways) != 1:
            yield (
                "the child is to be said once: by child, by child_path, or by {id}, {name}, "
                "{serial}, {mac} or {uuid} in topic"
            )
        if self.child_path and self.format is not PayloadFormat.JSON:
            yield "child_path is for format json: name the child by child, or in topic"
        yield from self._problems_of_target(KEY in names)
        yield from self._problems_of_paths()

    def _problems_of_target(self, has_key: bool) -> Iterator[str]:
        neutral = self.into == PROPERTIES or self.into.startswith(EVENTS)
        if (self.format is PayloadFormat.RAW) is neutral:
            yield (
                "into is properties or events/NAME, and for format raw the remainder of a topic of "
                "the cloud: correct one of them"
            )
        event = self.into.removeprefix(EVENTS) if self.into.startswith(EVENTS) else ""
        if event == f"{{{KEY}}}" and not has_key:
            yield "into names {key}, which topic lacks: add it there"
        elif self.into.startswith(EVENTS) and event != f"{{{KEY}}}" and not is_property(event):
            yield f"into needs a name after {EVENTS}: at most {MAX_PROPERTY} letters and digits"
        elif not neutral and not _REMAINDER.fullmatch(self.into):
            yield "into must be the remainder of a topic, without wildcards"
        if self.format is PayloadFormat.RAW and (self.values or self.time or has_key):
            yield "format raw passes the payload as it is: leave out values, time and {key}"
        if self.format is PayloadFormat.PLAIN and not (has_key or len(self.values) == 1):
            yield "format plain needs {key} in topic, or one entry in values, for its name"

    def _problems_of_paths(self) -> Iterator[str]:
        paths = [self.child_path, self.time]
        if self.format is PayloadFormat.JSON:
            paths += [value.path for value in self.all_values().values()]
        for path in paths:
            try:
                parse_path(path or "$")
            except BadPath as error:
                yield f"the path {path[:64]!a} {error}"
        if self.time and self.format is not PayloadFormat.JSON:
            yield "time is for format json: Sparkplug has a time of its own"
        for name in self.values:
            if not is_property(name) or name == TIME:
                yield (
                    f"values has {name[:64]!a}, which names no property: use letters, digits and "
                    "_ . : -"
                )

    def all_values(self) -> Mapping[str, ValueSettings]:
        """Return where each property's value is."""
        return _full(self.values)


def _full(values: Mapping[str, ValueSettings | str]) -> Mapping[str, ValueSettings]:
    """Return the settings of values of which some have no more than a path."""
    return {
        name: value if isinstance(value, ValueSettings) else ValueSettings(value)
        for name, value in values.items()
    }


def _command_name(text: str) -> str:
    """Return the rule that a glob of names breaks."""
    fits = text.isprintable() and 0 < len(text) <= MAX_COMMAND_NAME
    return "" if fits else f"must be 1 to {MAX_COMMAND_NAME} printable characters"


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """[[messages.doors.NAME.commands]]"""

    kind: CommandKind = setting(
        REQUIRED, "kind of the cloud's command, as in a rule", choices=tuple(CommandKind)
    )
    topic: str = setting(
        REQUIRED,
        "where it goes, as in topics, without wildcards; {mac|upper} or |lower says how it is "
        "written; {key} is the path of the one property",
    )
    name: str = setting(
        "*",
        "glob of the names of services, requests or messages, as the cloud writes them",
        grammar=_command_name,
    )
    child: str = setting(
        "", "the child: its id, or its device name at the cloud (default: as the topic says)"
    )
    format: PayloadFormat = setting(
        PayloadFormat.JSON,
        "what the payload is to be: json, plain, or raw for what the cloud has sent",
        choices=_OF_COMMANDS,
    )
    payload: str = setting(
        "",
        "what the payload is without values: for json a document into which they are put, for "
        "plain the text of a command without one",
    )
    values: Mapping[str, ValueSettings | str] = setting(
        {},
        "for each argument or property where it goes: a JSON path, or a table with path, and "
        "unit, scale or offset, which are applied backwards; others are not passed on "
        "(default: each by its own name, unless payload or id_path has that)",
    )
    id_path: str = setting("", "JSON path to where the identifier of the command goes")
    answer: str = setting(
        "",
        "topic of the device's answer, with the placeholders of topic (default: the command is "
        "done when the broker has it and something listens, and nothing is known of the device)",
    )
    answer_format: PayloadFormat = setting(
        PayloadFormat.JSON,
        "what the payload of the answer is: json, plain, or raw for the cloud as it is",
        choices=_OF_COMMANDS,
    )
    answer_id_path: str = setting(
        "", "JSON path in the answer to the identifier, which has to be that of the command"
    )
    result: Mapping[str, ValueSettings | str] = setting(
        {},
        "what the cloud gets of the answer, as values in topics; an answer has all of it "
        "(default: the properties of the command, where they were put)",
    )
    confirm: bool = setting(
        False, "whether an answer counts only once it shows the values that were set"
    )
    failed: str = setting(
        "", "JSON path in the answer to what is there only if the device could not, as a reason"
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the entry as a whole."""
        try:
            pattern = TopicPattern(self.topic)
        except BadPattern as error:
            yield f"topic {error}"
            return
        if pattern.has_wildcard:
            yield "topic has a wildcard: a command goes to one topic"
        if bool(self.child) is bool(pattern.names - {KEY}):
            yield "the child is to be said once: by child, or by {id}, {name} or such in topic"
        of_properties = self.kind in (CommandKind.SET, CommandKind.GET)
        if self.name != "*" and of_properties:
            yield f"kind {self.kind} has no name: list its properties in values"
        if KEY in pattern.names and not (self.values and of_properties and self._is_plain):
            yield "{key} in topic is for set and get in format plain: name the properties in values"
        yield from self._problems_of_payload(KEY in pattern.names)
        yield from self._problems_of_answer(pattern.names)

    @property
    def _is_plain(self) -> bool:
        return self.format is PayloadFormat.PLAIN

    def _problems_of_payload(self, has_key: bool) -> Iterator[str]:
        if self.format is PayloadFormat.RAW and (self.values or self.payload or self.id_path):
            yield "format raw passes the payload as it is: leave out values, payload and id_path"
        if self._is_plain and not (has_key or len(self.values) == 1 or self.payload):
            yield "format plain needs one entry in values, or payload"
        if self._is_plain and self.id_path:
            yield "id_path is for format json"
        if any(not one.scale for one in self.all_values().values()):
            yield "scale is 0, which cannot be applied backwards"
        for name in {**self.values, **self.result}:
            if not is_property(name):
                yield f"{name[:64]!a} names no value: use letters, digits and _ . : -"
        if self.format is PayloadFormat.JSON:
            yield from self._problems_of_document()

    def _problems_of_document(self) -> Iterator[str]:
        """Yield what keeps values from being put into the payload."""
        try:
            document = read_document((self.payload or "{}").encode())
        except BadDocument as error:
            yield f"payload is no JSON document: {error}"
            return
        if not isinstance(document, dict):
            yield "payload is no JSON object: write one, as {}"
            return
        try:
            for one in self.all_values().values():
                document = put(document, parse_path(one.path), "")
            if self.id_path:
                put(document, parse_path(self.id_path), "")
        except BadPath as error:
            yield f"a path of values, or id_path, {error}"

    def _problems_of_answer(self, names: frozenset[str]) -> Iterator[str]:
        of_json = (self.answer_id_path, self.failed)
        if not self.answer:
            if any(of_json) or self.result or self.confirm:
                yield "answer is empty: say where the device answers"
            return
        try:
            pattern = TopicPattern(self.answer)
        except BadPattern as error:
            yield f"answer {error}"
            return
        if pattern.has_wildcard or not pattern.names <= names:
            yield "answer has a wildcard, or a placeholder that topic lacks"
        if not (self.child or pattern.names - {KEY} or self.answer_id_path):
            yield "answer is the same for all children: add the placeholder, or answer_id_path"
        yield from self._problems_of_result()
        try:
            for path in (*of_json, *(one.path for one in self.all_results().values())):
                parse_path(path or "$")
        except BadPath as error:
            yield f"a path of the answer {error}"

    def _problems_of_result(self) -> Iterator[str]:
        form = self.answer_format
        if form is not PayloadFormat.JSON and (self.answer_id_path or self.failed):
            yield "answer_id_path and failed are for answers in JSON"
        if form is PayloadFormat.RAW and (self.result or self.confirm):
            yield "answer_format raw passes the answer as it is: leave out result and confirm"
        if form is PayloadFormat.PLAIN and len(self.result) > 1:
            yield "an answer in format plain has one value: leave one in result"
        if self.confirm and self.kind is not CommandKind.SET:
            yield "confirm is for kind set"
        if self.answer_id_path and not self.id_path:
            yield "answer_id_path needs id_path, by which the device gets the identifier"

    def all_values(self) -> Mapping[str, ValueSettings]:
        """Return where each argument goes."""
        return _full(self.values)

    def all_results(self) -> Mapping[str, ValueSettings]:
        """Return where each value of the answer is."""
        return _full(self.result)


def _user_name(text: str) -> str:
    """Return the rule that a user name, or a client id, breaks (MQTT 5.0, 1.5.4)."""
    plain = text.isprintable() and len(text.encode()) <= grammar.MAX_NAME
    return "" if plain else f"must be printable, and at most {grammar.MAX_NAME} bytes"


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """[messages.doors.NAME]"""

    host: str = setting(
        "", "name or IP address of the broker (default: socket is used)", grammar=grammar.host
    )
    port: int = setting(
        0, "its TCP port (default: 8883 with TLS, 1883 without)", low=0, high=65535
    )  # fmt: skip
    socket: Path | None = setting(None, "the broker's Unix socket (default: host is used)")
    tls: bool = setting(False, "whether to connect by TLS, 1.2 or newer")
    ca_file: Path | None = setting(
        None,
        "PEM file of trusted root certificates (default: those of the system)",
        file=FileUse.LATER,
    )
    certificate_file: Path | None = setting(
        None, "PEM file of the certificate to show (default: none is shown)", file=FileUse.LATER
    )
    private_key_credential: str = given_credential("the private key of certificate_file, PEM")
    private_key_file: Path | None = given_file("that key", "private_key_credential")
    user_name: str = setting("", "user name at the broker (default: none)", grammar=_user_name)
    password_credential: str = given_credential("the password")
    password_file: Path | None = given_file("the password", "password_credential")
    client_id: str = setting(
        "",
        "client identifier, of which there may be one at the broker (default: gatewayd-, the host "
        "name of this machine, and the name of the door)",
        grammar=_user_name,
    )
    keepalive: int = setting(
        60, "keep-alive of the connection; a dead path is noticed 10 s later", unit="s",
        low=5, high=3600,
    )  # fmt: skip
    connect_timeout: float = setting(
        10.0, "longest wait for each of name lookup, TCP and TLS", unit="s", low=0.1, high=300
    )
    reply_timeout: float = setting(
        10.0, "longest wait for the broker's answer", unit="s", low=0.1, high=300
    )
    retry_first: float = setting(
        1.0,
        "wait after the first failure; doubled after each further one",
        unit="s", low=0.1, high=3600,
    )  # fmt: skip
    retry_last: float = setting(
        60.0, "longest wait between two tries", unit="s", low=1, high=86400
    )  # fmt: skip
    session_expiry: int = setting(
        604_800,
        "how long the broker keeps messages for gatewayd while that is away; a broker of "
        "MQTT 3.1.1 has a limit of its own",
        unit="s", low=0, high=31_536_000,
    )  # fmt: skip
    topics: tuple[TopicSettings, ...] = setting(
        (), "which topics are read, the first entry that fits counts"
    )
    commands: tuple[CommandSettings, ...] = setting(
        (),
        "where commands of the cloud go, the first entry that fits counts (default: none is "
        "passed on)",
    )
    children: Mapping[str, str] = setting(
        {},
        "names that publishers use, each with the id of the child or its device name at the cloud",
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        if bool(self.host) is (self.socket is not None):
            yield "needs one of host and socket"
        if self.socket is not None and (self.tls or self.port):
            yield "tls and port are for host: leave them out beside socket"
        if self.ca_file is not None and not self.tls:
            yield "ca_file is for tls = true: add that, or leave the file out"
        yield from credential_problems(self)
        if self.certificate_file is not None and not self.tls:
            yield "certificate_file is for tls = true: add that, or leave the file out"
        if (self.password_credential or self.password_file) and not self.user_name:
            yield "a password needs user_name"

    @property
    def carries_messages(self) -> bool:
        """Whether messages or commands of children pass; else births alone are read there."""
        return bool(self.topics or self.commands)
