"""The dialect of Home Assistant's MQTT discovery, which firmware and bridges write.  Pure.

One device has many messages, one for each entity, or one message with all components.  What belongs
to one device has an identifier or a connection in common.  A bridge writes for others, and its
identifiers mean something to it alone: no claim is made of them, but of a MAC, of a serial number
with its manufacturer, and of an EUI-64 that Zigbee2MQTT writes.

Sources: Home Assistant's page "MQTT" (discovery topics, device discovery, the base topic `~`,
availability and its modes, the birth message at homeassistant/status) and its list of
abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from gatewayd.device.identity import Claim, claim
from gatewayd.device.identity import mac as mac_digits
from gatewayd.discovery.births.port import (
    Announced,
    BirthNews,
    BirthQuestion,
    Dialect,
    Status,
    Subscription,
    Withdrawn,
    Words,
)
from gatewayd.discovery.births.reading import (
    ZIGBEE,
    JsonObject,
    attributes,
    claims,
    is_topic,
    key_part,
    mac_claim,
    read_object,
    serial_claim,
    status_text,
    text,
    words,
)
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer

HOME_ASSISTANT: Final = "home-assistant"
PREFIX: Final = "homeassistant"
MAX_NAMES: Final = 8
"""Identifiers, and connections, of one device that are read."""
MAX_TOPICS: Final = 8
"""Topics of availability of one message that are read."""
ASK_EVERY: Final = 21_600.0
"""Seconds between two questions: all devices and bridges write all their messages again."""

_SHORT: Mapping[str, str] = {
    "dev": "device",
    "avty": "availability",
    "avty_t": "availability_topic",
    "avty_mode": "availability_mode",
    "pl_avail": "payload_available",
    "pl_not_avail": "payload_not_available",
    "t": "topic",
    "cns": "connections",
    "ids": "identifiers",
    "mf": "manufacturer",
    "mdl": "model",
    "mdl_id": "model_id",
    "hw": "hw_version",
    "sw": "sw_version",
    "sn": "serial_number",
}
"""What the abbreviations that are read stand for."""

_OF_ZIGBEE2MQTT = re.compile(r"zigbee2mqtt_0x([0-9a-f]{16})")
_CONNECTION = 2  # a kind, and a value


def home_assistant(prefix: str = PREFIX) -> Dialect:
    """Return the dialect.  prefix: the first level of its topics.

    Topics of availability are free; read are the usual ones, and those of the setting
    `availability`.
    """
    return Dialect(
        HOME_ASSISTANT,
        (
            Subscription(f"{prefix}/+/+/config"),
            Subscription(f"{prefix}/+/+/+/config"),
            Subscription("+/status"),
            Subscription("+/availability"),
            Subscription("+/+/availability"),
            Subscription("+/bridge/state"),
            Subscription("tele/+/LWT"),
            Subscription("+/tele/LWT"),
        ),
        partial(_read, prefix),
        all_question=BirthQuestion(
            f"{prefix}/status", b"online", ASK_EVERY, "asks all that speak to Home Assistant"
        ),
    )


def _read(prefix: str, topic: str, payload: bytes) -> Iterator[BirthNews]:
    if not (topic.startswith(f"{prefix}/") and topic.endswith("/config")):
        yield Status(topic, status_text(payload))
    elif payload:
        yield _announced(topic, _long(read_object(payload)))
    else:
        yield Withdrawn(topic)


def _long(table: JsonObject) -> dict[str, Any]:
    """Return a table with its keys written out."""
    return {_SHORT.get(key, key): value for key, value in table.items()}


def _announced(topic: str, config: JsonObject) -> Announced:
    written = config.get("device")
    if not isinstance(written, dict):
        raise UnreadableAnswer("no-device")
    device = _long(written)
    names, macs = _identifiers(device), _macs(device)
    if not names and not macs:
        raise UnreadableAnswer("no-identifier")
    aliases = (*(f"id/{one}" for one in names), *(f"mac/{one}" for one in macs))
    serial, vendor = text(device, "serial_number"), text(device, "manufacturer")
    shown = (
        ("mac", macs[0] if macs else ""),
        ("serial", serial),
        ("name", text(device, "name")),
        ("vendor", vendor),
        ("model", text(device, "model", "model_id")),
        ("mqtt.model_id", text(device, "model_id")),
        ("mqtt.firmware", text(device, "sw_version")),
        ("mqtt.hardware", text(device, "hw_version")),
        ("mqtt.id", names[0] if names else ""),
        ("mqtt.via", text(device, "via_device")),
    )
    made = (serial_claim(HOME_ASSISTANT, vendor, serial), *map(mac_claim, macs))
    found = Found(
        f"{HOME_ASSISTANT}/{aliases[0]}",
        claims(*made, *_of_zigbee(names)),
        attributes(HOME_ASSISTANT, shown),
        text(device, "name") or (names or macs)[0],
        0.0,
        is_behind=True,
    )
    mode = text(config, "availability_mode")
    return Announced(found, topic, aliases, _availability(config), any_topic=mode == "any")


def _identifiers(device: JsonObject) -> list[str]:
    """Return what identifies a device to the one that writes for it."""
    listed = device.get("identifiers")
    some = listed if isinstance(listed, list) else [listed]
    texts = [one.strip() for one in some[:MAX_NAMES] if isinstance(one, str) and one.strip()]
    return [key_part(one) for one in texts]


def _macs(device: JsonObject) -> list[str]:
    """Return the MACs among the connections of a device."""
    listed = device.get("connections")
    found = []
    for one in listed[:MAX_NAMES] if isinstance(listed, list) else ():
        is_pair = isinstance(one, list) and len(one) == _CONNECTION
        if is_pair and one[0] == "mac" and isinstance(one[1], str) and mac_digits(one[1]):
            found.append(mac_digits(one[1]))
    return found


def _of_zigbee(names: list[str]) -> Iterator[Claim | None]:
    """Yield the EUI-64 that Zigbee2MQTT writes for a device, by which it knows it itself, too."""
    for name in names:
        if (matched := _OF_ZIGBEE2MQTT.fullmatch(name.lower())) is not None:
            yield claim("serial", ZIGBEE, matched[1])


def _availability(config: JsonObject) -> dict[str, Words]:
    """Return the topics that say whether a device is connected, with `~` replaced."""
    base, listed = text(config, "~"), config.get("availability")
    single = text(config, "availability_topic")
    entries = [{**config, "topic": single}] if single else []
    several = listed[:MAX_TOPICS] if isinstance(listed, list) else [listed]
    entries += [_long(one) for one in several if isinstance(one, dict)]
    made = {}
    for entry in entries:
        topic = text(entry, "topic")
        if topic.startswith("~"):
            topic = base + topic[1:]
        elif topic.endswith("~"):
            topic = topic[:-1] + base
        if is_topic(topic):
            made[topic] = words(
                text(entry, "payload_available") or "online",
                text(entry, "payload_not_available") or "offline",
            )
    return made
