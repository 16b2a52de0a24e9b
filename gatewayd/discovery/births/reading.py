"""What dialects share: bounded JSON, texts of strangers, attributes and claims.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from gatewayd.device.identity import Claim, claim
from gatewayd.device.identity import mac as mac_digits
from gatewayd.discovery import sanitize
from gatewayd.discovery.births.port import MAX_TOPIC, Words
from gatewayd.discovery.discoverer import MAX_ATTRIBUTE
from gatewayd.discovery.probing.protocol import UnreadableAnswer

KIND: Final = "mqtt-births"
"""Of the discoverer, and the namespace of MACs that devices write themselves."""
ZIGBEE: Final = "zigbee"
"""The namespace of EUI-64s of Zigbee, which are no MACs (no ff:fe has to be in them)."""

MAX_DEPTH: Final = 16
MAX_BRACKETS: Final = 65_536
"""Objects and arrays of a payload, however they are nested."""
MAX_STATUS: Final = 256
"""Bytes of a payload that says whether something is connected."""
MAX_ASSIGNER: Final = 32
"""Characters of a manufacturer in a namespace."""
SINGLE_LEVEL: Final = 128
"""Characters of a name that becomes one level of a topic."""

_NO_WORD = re.compile(r"[^a-z0-9]+")

JsonObject: TypeAlias = Mapping[str, Any]


def read_json(payload: bytes) -> Any:  # noqa: ANN401  # what json.loads returns
    """Return what a payload holds.  Raises UnreadableAnswer."""
    if payload.count(b"{") + payload.count(b"[") > MAX_BRACKETS:
        raise UnreadableAnswer("too-many-parts")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswer("no-json") from error
    _check_depth(value)
    return value


def read_object(payload: bytes) -> JsonObject:
    """Return the JSON object that a payload holds.  Raises UnreadableAnswer."""
    return as_object(read_json(payload))


def as_object(value: object) -> JsonObject:
    """Return a value that is an object.  Raises UnreadableAnswer."""
    if not isinstance(value, dict):
        raise UnreadableAnswer("no-object")
    return value


def inner(table: JsonObject, key: str) -> JsonObject:
    """Return an object inside; an empty one where there is none."""
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def text(table: JsonObject, *keys: str) -> str:
    """Return the first text that is not empty; "" where there is none."""
    for key in keys:
        value = table.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        inside: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inside.extend(one.values())
            elif isinstance(one, list):
                inside.extend(one)
        if not inside:
            return
        level = inside
    raise UnreadableAnswer("too-deep")


def status_text(payload: bytes) -> str:
    """Return what a topic of availability says; a JSON object says it as "state" or "status".

    Raises UnreadableAnswer.
    """
    if len(payload) > MAX_STATUS:
        raise UnreadableAnswer("long-status")
    try:
        written = payload.decode().strip()
    except UnicodeDecodeError as error:
        raise UnreadableAnswer("no-text") from error
    if written.startswith("{"):
        written = text(read_object(payload), "state", "status")
    return written


def words(online: str, offline: str) -> Words:
    """Return what a topic of availability says, in the words of a stranger."""
    return Words(online[:MAX_STATUS], offline[:MAX_STATUS])


def is_level(name: str) -> bool:
    """Whether a text can be one level of a topic that gatewayd writes to."""
    is_short = 0 < len(name) <= SINGLE_LEVEL and sanitize.is_clean(name)
    return is_short and not set(name) & set("/+#") and not name.startswith("$")


def is_topic(topic: str) -> bool:
    """Whether a text can be the topic of a message."""
    return 0 < len(topic) <= MAX_TOPIC and not set(topic) & set("+#\0")


def key_part(name: str) -> str:
    """Return a name of strangers as a part of a key, each of its own.  Raises UnreadableAnswer."""
    made = sanitize.escaped_name(name)
    if not 0 < len(made) <= MAX_ATTRIBUTE or not sanitize.is_clean(made):
        raise UnreadableAnswer("bad-name")
    return made


def own_mac(written: str) -> str:
    """Return the MAC that a device writes, 12 hex digits.  Raises UnreadableAnswer."""
    digits = mac_digits(written)
    if len(digits) != 12:  # noqa: PLR2004  # an EUI-64 has 16
        raise UnreadableAnswer("no-mac")
    return digits


def claims(*made: Claim | None) -> frozenset[Claim]:
    """Return those that identify something."""
    return frozenset(one for one in made if one is not None)


def serial_claim(dialect: str, vendor: str, serial: str) -> Claim | None:
    """Return the claim of a serial number, which is unique with its manufacturer alone."""
    assigner = _NO_WORD.sub("-", vendor.lower()).strip("-")[:MAX_ASSIGNER]
    is_usable = bool(assigner) and sanitize.is_clean(serial)
    return claim("serial", f"{dialect}.{assigner}", serial) if is_usable else None


def mac_claim(digits: str) -> Claim | None:
    """Return the claim of a MAC that a device, or its bridge, writes."""
    return claim("mac", KIND, digits)


def attributes(dialect: str, written: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the attributes of a device: those that say something, fit to be matched."""
    pairs = (sanitize.escaped_attribute(key, value) for key, value in written if value)
    return {"mqtt.dialect": dialect, **dict(pair for pair in pairs if pair is not None)}
