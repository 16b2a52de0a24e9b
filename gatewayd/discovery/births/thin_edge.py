"""The dialect of thin-edge.io: registration messages of devices and child devices.  Pure.

A device is named by its place in the topic scheme, which people choose: no claim is made of it.
Where no agent on a child device reports its health, it counts as there while that of the main
device does.

Sources: thin-edge.io's references "MQTT API" (entity registration: retained, "@type", "@id",
"@parent", cleared by an empty message), "Service health" (status/health: up, down) and
"Availability" (the health of tedge-agent by default, or of what "@health" names).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from gatewayd.discovery.births.port import (
    Announced,
    BirthNews,
    Dialect,
    Status,
    Subscription,
    Withdrawn,
    Words,
)
from gatewayd.discovery.births.reading import (
    attributes,
    is_topic,
    key_part,
    read_object,
    status_text,
    text,
)
from gatewayd.discovery.probing.protocol import Found

THIN_EDGE: Final = "thin-edge"
ROOT: Final = "te"

_AGENT = "service/tedge-agent"
_MAIN = f"device/main/{_AGENT}"
_DEVICES = ("device", "child-device")
_HEALTH = "/status/health"
_UP = Words("up", "down")


def thin_edge(root: str = ROOT) -> Dialect:
    """Return the dialect.  root: the first level of its topics."""
    return Dialect(
        THIN_EDGE,
        (Subscription(f"{root}/+/+/+/+"), Subscription(f"{root}/+/+/+/+{_HEALTH}")),
        partial(_read, root),
    )


def _read(root: str, topic: str, payload: bytes) -> Iterator[BirthNews]:
    place = topic.removeprefix(f"{root}/")
    if place.endswith(_HEALTH):
        yield Status(topic, status_text(payload))
        return
    if not payload:
        yield Withdrawn(topic)
        return
    entity = read_object(payload)
    kind = text(entity, "@type")
    if kind not in _DEVICES:  # a service
        return
    own = place.rstrip("/")
    written = (
        ("name", text(entity, "name")),
        ("model", text(entity, "type")),
        ("mqtt.id", text(entity, "@id") or own.rpartition("/")[2]),
        ("mqtt.type", kind),
        ("mqtt.via", text(entity, "@parent")),
    )
    label = text(entity, "name", "@id") or own.rpartition("/")[2]
    found = Found(
        f"{THIN_EDGE}/{key_part(own)}",
        frozenset(),
        attributes(THIN_EDGE, written),
        label,
        0.0,
        is_behind=kind != _DEVICES[0],
    )
    health = text(entity, "@health") or f"{own}/{_AGENT}"
    topics = dict.fromkeys(f"{root}/{one}{_HEALTH}" for one in (health, _MAIN))
    yield Announced(found, topic, availability={one: _UP for one in topics if is_topic(one)})
