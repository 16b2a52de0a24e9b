"""The dialect of Zigbee2MQTT: a bridge that lists the devices of its network.  Pure.

An EUI-64 identifies a device; a coordinator is the bridge itself, and no child.  Where the bridge
does not say which of its devices are there, which is a setting of its own, they count as there
while it is.

Sources: Zigbee2MQTT's page "MQTT topics and messages" (bridge/devices, bridge/state, bridge/event,
FRIENDLY_NAME/availability) and its test of the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from gatewayd.device.identity import claim
from gatewayd.discovery.births.port import (
    Announced,
    BirthNews,
    Departed,
    Dialect,
    Listed,
    Status,
    Subscription,
    Words,
)
from gatewayd.discovery.births.reading import (
    ZIGBEE,
    attributes,
    claims,
    inner,
    is_topic,
    read_json,
    read_object,
    status_text,
    text,
)
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer

ZIGBEE2MQTT: Final = "zigbee2mqtt"
MAX_LIST: Final = 1 << 20
"""Bytes of a list of devices."""
MAX_DEVICES: Final = 512
"""Devices of a list that are read."""

_EUI64 = re.compile(r"0x([0-9a-f]{16})")


def zigbee2mqtt(base: str = ZIGBEE2MQTT) -> Dialect:
    """Return the dialect.  base: the base topic of the bridge."""
    return Dialect(
        ZIGBEE2MQTT,
        (
            Subscription(f"{base}/bridge/devices", MAX_LIST),
            Subscription(f"{base}/bridge/state"),
            Subscription(f"{base}/bridge/event"),
            Subscription(f"{base}/+/availability"),
            Subscription(f"{base}/+/+/availability"),  # friendly names may have a slash
        ),
        partial(_read, base),
    )


def _read(base: str, topic: str, payload: bytes) -> Iterator[BirthNews]:
    match topic.removeprefix(f"{base}/"):
        case "bridge/devices":
            yield _list(base, topic, payload)
        case "bridge/event":
            event = read_object(payload)
            if text(event, "type") == "device_leave":
                yield Departed(_key(text(inner(event, "data"), "ieee_address")))
        case _:
            yield Status(topic, status_text(payload))


def _list(base: str, topic: str, payload: bytes) -> Listed:
    listed = read_json(payload) if payload else []
    if not isinstance(listed, list):
        raise UnreadableAnswer("no-list")
    made: list[Announced] = []
    for one in listed[:MAX_DEVICES]:
        device = one if isinstance(one, dict) else {}
        is_child = text(device, "type") in ("Router", "EndDevice", "GreenPower")
        if is_child and device.get("interview_completed") is True and not device.get("disabled"):
            with suppress(UnreadableAnswer):  # one that is odd costs no other its place
                made.append(_device(base, topic, device))
    return Listed(topic, tuple(made), is_whole=len(listed) <= MAX_DEVICES)


def _device(base: str, topic: str, device: dict[str, object]) -> Announced:
    key, name = _key(text(device, "ieee_address")), text(device, "friendly_name")
    definition = inner(device, "definition")
    eui64 = key.rpartition("/")[2]
    written = (
        ("serial", eui64),
        ("name", name),
        ("vendor", text(definition, "vendor") or text(device, "manufacturer")),
        ("model", text(definition, "model") or text(device, "model_id")),
        ("mqtt.manufacturer", text(device, "manufacturer")),
        ("mqtt.model_id", text(device, "model_id")),
        ("mqtt.firmware", text(device, "software_build_id")),
        ("mqtt.type", text(device, "type")),
        ("mqtt.power", text(device, "power_source")),
        ("mqtt.via", base),
    )
    found = Found(
        key,
        claims(claim("serial", ZIGBEE, eui64)),
        attributes(ZIGBEE2MQTT, written),
        name or eui64,
        0.0,
        is_behind=True,
    )
    topics = (f"{base}/bridge/state", f"{base}/{name}/availability")
    return Announced(
        found, topic, availability={one: Words() for one in topics if name and is_topic(one)}
    )


def _key(written: str) -> str:
    matched = _EUI64.fullmatch(written.lower())
    if matched is None:
        raise UnreadableAnswer("no-eui64")
    return f"{ZIGBEE}/{matched[1]}"
