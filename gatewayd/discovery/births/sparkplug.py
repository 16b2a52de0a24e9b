"""The dialect of Sparkplug B: births and deaths of edge nodes, and of devices behind them.  Pure.

Births are never kept at the broker: who was born before gatewayd connected is not found until it is
born again.  Where questions are allowed, an edge node that publishes data and is not known is asked
for a rebirth.  Group, node and device are names that people choose: no claim is made of them.

Of a payload are read the metrics of texts, and of integers for `bdSeq`.

Sources: Eclipse Sparkplug Specification 3.0.0, chapters 4 (topics), 5 (states), 6 (payloads, the
schema sparkplug_b.proto).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gatewayd.discovery.births.port import (
    Announced,
    BirthNews,
    BirthQuestion,
    Candidate,
    Departed,
    Dialect,
    Subscription,
)
from gatewayd.discovery.births.reading import attributes, is_level, key_part
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer
from gatewayd.network.protobuf import BadProtobuf, fields

SPARKPLUG: Final = "sparkplug-b"
MAX_METRICS: Final = 2000
"""Metrics of one payload."""
MAX_PROPERTIES: Final = 16
REBIRTH_EVERY: Final = 3600.0
"""Seconds between two questions to one edge node: each costs all of its births."""

_NAMESPACE = "spBv1.0"
_METRICS, _SEQUENCE = 2, 3  # of a payload
_NAME, _INT, _LONG, _STRING = 1, 10, 11, 15  # of a metric
_SESSION = "bdSeq"
_GROUPS = ("properties", "device info", "node info")
_PROPERTIES: Mapping[str, str] = {
    "serial": "serial",
    "serialnumber": "serial",
    "manufacturer": "vendor",
    "vendor": "vendor",
    "make": "vendor",
    "hardwaremake": "vendor",
    "model": "model",
    "hardwaremodel": "model",
    "firmware": "mqtt.firmware",
    "firmwareversion": "mqtt.firmware",
    "fw": "mqtt.firmware",
}
"""What publishers call the properties of a device, by convention; without case and separators."""

# the metric "Node Control/Rebirth" of datatype Boolean, true (6.4.12)
_REBIRTH = b"\x12\x1a\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01"


def sparkplug() -> Dialect:
    """Return the dialect."""
    kinds = ("NBIRTH/+", "DBIRTH/+/+", "NDEATH/+", "DDEATH/+/+")
    return Dialect(
        SPARKPLUG,
        tuple(Subscription(f"{_NAMESPACE}/+/{kind}") for kind in kinds),
        _read,
        asked=(Subscription(f"{_NAMESPACE}/+/NDATA/+", names_only=True),),
        one_question=BirthQuestion(
            f"{_NAMESPACE}/{{}}/NCMD/{{}}", _REBIRTH, REBIRTH_EVERY, "asks one node for its births"
        ),
    )


def _read(topic: str, payload: bytes) -> Iterator[BirthNews]:
    _, group, kind, *names = topic.split("/")
    key = "/".join([SPARKPLUG, key_part(group), *map(key_part, names)])
    asked = (group, names[0]) if is_level(group) and is_level(names[0]) else ()
    if kind == "NDATA":
        if asked:
            yield Candidate(asked)
        return
    if kind == "DDEATH":
        yield Departed(key)
        return
    metrics = read_metrics(payload)
    if kind == "NDEATH":
        yield Departed(key, metrics.session, others=True)
        return
    if kind == "NBIRTH":
        if metrics.sequence not in (0, None):
            raise UnreadableAnswer("sequence-not-0")
        yield Departed(key, others=True, itself=False)  # they are born after their node, again
    known = {_PROPERTIES.get(name): value for name, value in metrics.properties.items()}
    written = (
        *((name, value) for name, value in known.items() if name),
        ("name", names[-1]),
        ("mqtt.id", "/".join((group, *names))),
        ("mqtt.type", "node" if kind == "NBIRTH" else "device"),
        ("mqtt.via", names[0] if kind == "DBIRTH" else ""),
    )
    is_behind = kind == "DBIRTH"
    found = Found(
        key, frozenset(), attributes(SPARKPLUG, written), names[-1], 0.0, is_behind=is_behind
    )
    yield Announced(found, topic, question=asked, is_lasting=True, session=metrics.session)


# The payload.


@dataclass(frozen=True, slots=True)
class BirthMetrics:
    """What is read of a payload.

    sequence, session: None where it has none.
    properties: texts of the groups of properties, by their name without case and separators.
    """

    sequence: int | None
    session: int | None
    properties: Mapping[str, str]


def read_metrics(payload: bytes) -> BirthMetrics:
    """Return what a payload says of a node or a device.  Raises UnreadableAnswer."""
    try:
        return _metrics(payload)
    except BadProtobuf as error:
        raise UnreadableAnswer("no-sparkplug") from error


def _metrics(payload: bytes) -> BirthMetrics:
    sequence, session, count = None, None, 0
    properties: dict[str, str] = {}
    for number, value in fields(payload):
        if number == _SEQUENCE and isinstance(value, int):
            sequence = value
        elif number == _METRICS and isinstance(value, bytes):
            if (count := count + 1) > MAX_METRICS:
                raise UnreadableAnswer("too-many-metrics")
            metric = dict(fields(value))
            name, written = _text(metric.get(_NAME)), _text(metric.get(_STRING))
            numbers = (metric.get(one) for one in (_LONG, _INT))
            if name == _SESSION:
                session = next((one for one in numbers if isinstance(one, int)), None)
            group, _, last = name.rpartition("/")
            if group.lower() in _GROUPS and written and len(properties) < MAX_PROPERTIES:
                properties["".join(filter(str.isalnum, last.lower()))] = written
    return BirthMetrics(sequence, session, properties)


def _text(value: int | bytes | None) -> str:
    try:
        return value.decode().strip() if isinstance(value, bytes) else ""
    except UnicodeDecodeError:
        return ""
