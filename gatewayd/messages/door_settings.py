"""The settings of a door: a broker that the site has already, and which messages are whose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatewayd.device.message import EVENTS, PROPERTIES
from gatewayd.messages.doors.site.json_path import BadPath, parse_path
from gatewayd.messages.doors.site.topic_pattern import KEY, BadPattern, ChildKey, TopicPattern
from gatewayd.settings import grammar
from gatewayd.settings.declare import FileUse, setting

OWN_DOOR = "gatewayd"
"""The name of the door that is gatewayd's own broker."""
_DOOR = re.compile(r"[a-z][a-z0-9_-]{0,31}")

TIME = "time"
"""The member of the neutral form that is no property."""
MAX_PROPERTY = 64
"""Characters of the name of a property or an event."""

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


@dataclass(frozen=True, slots=True)
class ValueSettings:
    """[messages.doors.NAME.topics.values.PROPERTY]"""

    path: str = setting("", "where the value is: a JSON path, or the name of a Sparkplug metric")
    unit: Unit | None = setting(
        None,
        "unit of the publisher, which is converted: fahrenheit and kelvin to degrees Celsius, "
        "millivolt, milliampere and kilowatt to volts, amperes and watts, watt-hour and "
        "watt-minute to kilowatt-hours, on-off to true or false (default: not converted)",
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
        return {
            name: value if isinstance(value, ValueSettings) else ValueSettings(value)
            for name, value in self.values.items()
        }


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
    private_key_credential: str = setting(
        "",
        "name of the systemd credential with the private key of certificate_file, PEM",
        grammar=grammar.credential_name,
    )
    private_key_file: Path | None = setting(
        None,
        "file with that key, mode 0600; used where private_key_credential is empty",
        file=FileUse.LATER,
    )
    user_name: str = setting("", "user name at the broker (default: none)", grammar=_user_name)
    password_credential: str = setting(
        "",
        "name of the systemd credential with the password",
        grammar=grammar.credential_name,
    )
    password_file: Path | None = setting(
        None,
        "file with the password, mode 0600; used where password_credential is empty",
        file=FileUse.LATER,
    )
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
        has_key = bool(self.private_key_credential) or self.private_key_file is not None
        if (self.certificate_file is not None) is not has_key:
            yield (
                "certificate_file needs a key, by private_key_credential or private_key_file, and "
                "a key needs certificate_file"
            )
        if self.certificate_file is not None and not self.tls:
            yield "certificate_file is for tls = true: add that, or leave the file out"
        for name in ("private_key", "password"):
            if getattr(self, f"{name}_credential") and getattr(self, f"{name}_file") is not None:
                yield f"has both {name}_credential and {name}_file: leave one out"
        if (self.password_credential or self.password_file) and not self.user_name:
            yield "a password needs user_name"
        if not self.topics:
            yield "topics is empty: nothing would be read; see gatewayd.toml(5)"
