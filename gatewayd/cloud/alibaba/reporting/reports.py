"""What a message of a device becomes at the cloud: a topic, and JSON of the vendor.  Pure.

The cloud acknowledges everything, and discards in silence what it cannot use, unless it is to
reply; so what can be known here is checked here.  Which properties and events a product has, and of
which types, the cloud alone knows.

Sources: "Device properties, events, and services" (document_detail/89301), "Limits" (30527),
"Supported data types" (358843) and "Topics" of the IoT Platform documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gatewayd.cloud.alibaba.alink import MAX_MESSAGE, METHODS, SubName, awaited_id
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device import message as neutral
from gatewayd.device import reading
from gatewayd.device.message import Message
from gatewayd.device.reading import Reading, UnfitMessage
from gatewayd.device.reason import Reason

PROPERTY_POST = "thing/event/property/post"
HISTORY_POST = "thing/event/property/history/post"
PACK_POST = "thing/event/property/pack/post"
BATCH_POST = "thing/event/property/batch/post"

MAX_PROPERTIES, MAX_EVENTS, MAX_DEVICES = 200, 20, 20
"""In one request, at most.  The page says so of a pack, and nothing of a history."""
MAX_TEXT, MAX_ITEMS = 10_240, 512
"""Characters of a text, and items of an array."""
MAX_AHEAD = 24 * 3600 * 1000
"""Milliseconds that a time may lie in the future."""
MAX_TOPIC, MAX_LEVELS = 128, 7
"""Bytes of a topic, and slashes in one that a user defines."""
_ENVELOPE = 512
"""Bytes that a request has besides its reports, at most, and a report there besides its values."""
MAX_REPORT = MAX_MESSAGE - 2 * _ENVELOPE
"""Bytes of the values of one report, at most."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_]{1,50}(:[A-Za-z0-9_]{1,50})?")
"""Of a property or an event; before the colon that of a module of the model."""
_LEVEL = r"[A-Za-z0-9_:@=-][A-Za-z0-9_:@=.-]*"
_SYSTEM = re.compile(rf"thing/{_LEVEL}(?:/{_LEVEL})*")
_CUSTOM = re.compile(rf"user/{_LEVEL}(?:/{_LEVEL})*")
_REPLIED = re.compile(rf"thing/event/{_LEVEL}/post|{HISTORY_POST}|{BATCH_POST}")
"""Topics of reports to which the cloud replies."""
_OF_GATEWAYS = frozenset({*METHODS, PACK_POST, HISTORY_POST})
"""Topics of a gateway on which other devices can be named."""

NO_TOPIC = Reason(
    "message-topic-unknown",
    "The cloud has no such topic for this device.",
    "Use properties, events/NAME, thing/event/property/post or another topic thing/…, or user/NAME "
    "as it was defined for the product.",
)
NO_VALUE = Reason(
    "message-empty", "The message has no values.", "Send one value at least in a message."
)
TOO_MANY = Reason(
    "message-too-large",
    f"The cloud accepts {MAX_PROPERTIES} properties at a time.",
    "Send less in a message.",
)
TOO_LARGE = Reason(
    "message-too-large", f"The cloud accepts {MAX_MESSAGE} bytes.", "Send less in a message."
)
TOO_FAR_AHEAD = Reason(
    "message-time-unfit",
    "The time of the message is more than a day after it was received.",
    "Correct the clock of the child, or leave the time out.",
)


class ReportRequest(NamedTuple):
    """A request that reports.  method: the end of its topic.  params: JSON.

    number, payload: its id, and all of it, where a device has made it itself.
    """

    method: str
    params: str = ""
    number: str = ""
    payload: bytes = b""


class AlibabaReport(NamedTuple):
    """The values of one device.

    event: its identifier; "" for properties.  params: JSON of the vendor.
    properties: how many.  time: milliseconds since the epoch; 0 where it is not known.
    made: the request, where the device has made it itself: it passes unchanged.
    """

    event: str
    params: str
    properties: int
    time: int
    made: ReportRequest | None = None


class DeviceReport(NamedTuple):
    """A report, and whose it is."""

    device: SubName
    report: AlibabaReport


def read(
    message: Message, device: SubName, *, gateway: bool = False
) -> AlibabaReport | MappedMessage:
    """Return a report, where a message has the neutral form, or is replied to as one that it waits
    for; else what passes unchanged.

    gateway: whether the device is one, which could name others on some topics.
    Raises UnfitMessage.
    """
    topic = message.topic
    if topic == neutral.PROPERTIES:
        return _properties(message)
    if topic.startswith(neutral.EVENTS):
        return _event(message, topic.removeprefix(neutral.EVENTS))
    mapped = _unchanged(message, device, gateway=gateway)
    if message.confirmed and _REPLIED.fullmatch(topic) and (number := awaited_id(message.payload)):
        made = ReportRequest(topic, number=number, payload=message.payload)
        return AlibabaReport("", "", 0, 0, made)
    return mapped


def single(reports: Sequence[DeviceReport]) -> ReportRequest:
    """Return the request with one report of the device itself."""
    ((_, report),) = reports
    if report.made is not None:
        return report.made
    method = f"thing/event/{report.event}/post" if report.event else PROPERTY_POST
    return ReportRequest(method, report.params)


def pack(reports: Sequence[DeviceReport]) -> ReportRequest:
    """Return the request of a gateway with reports of its children, one of each."""
    parts = ",".join(f"{{{_identity(device)},{_packed(report)}}}" for device, report in reports)
    return ReportRequest(PACK_POST, f'{{"subDevices":[{parts}]}}')


def history(reports: Sequence[DeviceReport]) -> ReportRequest:
    """Return the request with earlier reports, of the device itself or of its children."""
    devices: dict[SubName, list[AlibabaReport]] = {}
    for device, report in reports:
        devices.setdefault(device, []).append(report)
    parts = (
        f"{{{','.join((_identity(device), *_lists(some)))}}}" for device, some in devices.items()
    )
    return ReportRequest(HISTORY_POST, f"[{','.join(parts)}]")


def batch(reports: Sequence[DeviceReport]) -> ReportRequest:
    """Return the request with reports of the device itself."""
    if len(reports) == 1:
        return single(reports)
    properties: dict[str, list[object]] = {}
    events: dict[str, list[object]] = {}
    for _, report in reports:
        values = json.loads(report.params)
        if report.event:
            events.setdefault(report.event, []).append(values)
        else:
            for name, value in values.items():
                properties.setdefault(name, []).append(value)
    return ReportRequest(BATCH_POST, _ENCODE({"properties": properties, "events": events}))


def payload(number: str, request: ReportRequest, *, answered: bool) -> bytes:
    """Return a request.  number: its id, unlike that of any other of the device in a day."""
    return (
        f'{{"id":"{number}","version":"1.0","sys":{{"ack":{answered:d}}},'
        f'"params":{request.params},"method":"{request.method.replace("/", ".")}"}}'
    ).encode()


class Draft:
    """The reports of one request, as long as there is room.

    most: reports.  once: whether no device can have two.
    """

    def __init__(self, most: int, *, once: bool) -> None:
        self._most, self._once = most, once
        self.reports: list[DeviceReport] = []
        self._devices: set[SubName] = set()
        self._properties = self._events = 0
        self._room = MAX_MESSAGE - _ENVELOPE

    def add(self, one: DeviceReport) -> bool:
        """Add a report; return whether there was room."""
        size = len(one.report.params) + _ENVELOPE
        if not self._fits(one, size):
            return False
        self._room -= size
        self._devices.add(one.device)
        self._properties += one.report.properties
        self._events += bool(one.report.event)
        self.reports.append(one)
        return True

    def _fits(self, one: DeviceReport, size: int) -> bool:
        known = one.device in self._devices
        return (
            len(self.reports) < self._most
            and not (known and self._once)
            and len(self._devices) - known < MAX_DEVICES
            and self._properties + one.report.properties <= MAX_PROPERTIES
            and self._events + bool(one.report.event) <= MAX_EVENTS
            and size <= self._room
        )


def _properties(message: Message) -> AlibabaReport:
    """Return a report of properties: each with its value, and the time."""
    said = reading.read(message.payload)
    if not said.values:
        raise UnfitMessage(NO_VALUE)
    if len(said.values) > MAX_PROPERTIES:
        raise UnfitMessage(TOO_MANY)
    time = _time(said, message)
    when: dict[str, object] = {"time": time} if time else {}
    values: dict[str, object] = {name: {"value": value} | when for name, value in _checked(said)}
    return _report("", values, len(values), time)


def _event(message: Message, event: str) -> AlibabaReport:
    """Return a report of an event: its values, and the time."""
    if not _IDENTIFIER.fullmatch(event):
        raise UnfitMessage(NO_TOPIC)
    said = reading.read(message.payload)
    time = _time(said, message)
    values: dict[str, object] = {"value": dict(_checked(said))}
    return _report(event, values | {"time": time} if time else values, 0, time)


def _report(event: str, values: dict[str, object], properties: int, time: int) -> AlibabaReport:
    params = _ENCODE(values)
    if len(params) > MAX_REPORT:
        raise UnfitMessage(TOO_LARGE)
    return AlibabaReport(event, params, properties, time)


_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
"""Makes ASCII, so that characters are bytes."""


def _time(said: Reading, message: Message) -> int:
    if message.at and said.time > message.at + MAX_AHEAD:
        raise UnfitMessage(TOO_FAR_AHEAD)
    return said.time or message.at


def _checked(said: Reading) -> Iterator[tuple[str, object]]:
    """Yield the values as the cloud writes them.  Raises UnfitMessage."""
    for name, value in said.values.items():
        if not _IDENTIFIER.fullmatch(name):
            raise UnfitMessage(_wrong_name(name))
        try:
            yield name, value if type(value) in (int, float) else _written(value)
        except ValueError:
            raise UnfitMessage(_wrong_value(name)) from None


def _written(value: object) -> object:
    """Return a value as the cloud writes it: a truth value is 0 or 1 there.  Raises ValueError."""
    match value:
        case bool():
            return int(value)
        case str() if len(value) > MAX_TEXT:
            raise ValueError
        case list():
            if len(value) > MAX_ITEMS:
                raise ValueError
            return [_written(one) for one in value]
        case dict():
            return {name: _written(one) for name, one in value.items()}
    return value


def _wrong_name(name: str) -> Reason:
    return Reason(
        "message-name-unfit",
        f"The cloud has no such name as that of {reading.shown(name)}.",
        "Name values as the product's model does: 1 to 50 letters, digits and _; before it, with a "
        "colon, the module.",
    )


def _wrong_value(name: str) -> Reason:
    return Reason(
        "message-value-unfit",
        f"The value of {reading.shown(name)} is too large: the cloud accepts texts of {MAX_TEXT} "
        f"characters, and arrays of {MAX_ITEMS} items.",
        "Send less in a value.",
    )


def _unchanged(message: Message, device: SubName, *, gateway: bool) -> MappedMessage:
    """Return what passes as it is, on a topic of the device's own."""
    topic = message.topic
    if _SYSTEM.fullmatch(topic) and not (gateway and topic in _OF_GATEWAYS):
        full = f"/sys/{device.product}/{device.device}/{topic}"
        levels = 0
    elif _CUSTOM.fullmatch(topic):
        full = f"/{device.product}/{device.device}/{topic}"
        levels = full.count("/")
    else:
        raise UnfitMessage(NO_TOPIC)
    if len(full) > MAX_TOPIC or levels > MAX_LEVELS:
        raise UnfitMessage(NO_TOPIC)
    if len(message.payload) > MAX_MESSAGE:
        raise UnfitMessage(TOO_LARGE)
    return MappedMessage(full, message.payload)


def _identity(device: SubName) -> str:
    return f'"identity":{{"productKey":"{device.product}","deviceName":"{device.device}"}}'


def _packed(report: AlibabaReport) -> str:
    if report.event:
        return f'"events":{{"{report.event}":{report.params}}}'
    return f'"properties":{report.params}'


def _lists(reports: Sequence[AlibabaReport]) -> Iterator[str]:
    """Yield the properties of one device, and its events, each in their order."""
    if properties := [one.params for one in reports if not one.event]:
        yield f'"properties":[{",".join(properties)}]'
    if events := [f'{{"{one.event}":{one.params}}}' for one in reports if one.event]:
        yield f'"events":[{",".join(events)}]'
