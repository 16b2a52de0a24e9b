"""What a message of a device becomes at the platform: a topic, and JSON of the vendor.  Pure.

The platform acknowledges everything, and discards in silence what it cannot use; so what can be
known here is checked here.  Whether the product's model has a service, a property and its type, the
platform alone knows.

Sources: "Device Reporting Properties" (api-iothub/iot_06_v5_3010), "Gateway Reporting Child Device
Properties" (iot_06_v5_3006), "Device Reporting a Message" (iot_06_v5_3016), events
(iot_06_v5_3042), and "Limitations" (usermanual-iothub/iot_01_0326: 64 KB for properties).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gatewayd.cloud.huawei.settings import EVENT_TYPE, MEMBER_NAME, SERVICE_ID, Field
from gatewayd.device import message as neutral
from gatewayd.device import reading
from gatewayd.device.message import Message
from gatewayd.device.reading import NAME_TWICE, UnfitMessage
from gatewayd.device.reason import Reason

MAX_REPORT, MAX_MESSAGE = 64 * 1024, 1 << 20
"""Bytes of a report of properties, and of any other message, at most."""
MAX_CHILDREN = 100
"""Children in one report, at most ("Gateway Reporting Child Device Properties")."""
MAX_TOPIC = 128
"""Bytes of a topic that the platform does not define, at most."""

REPORT, EVENTS, MESSAGES = "sys/properties/report", "sys/events/up", "sys/messages/up"
CHILDREN_REPORT = "sys/gateway/sub_devices/properties/report"
"""What follows `$oc/devices/ID/` in the topics."""

_REQUEST_ID = r"(\?request_id=[A-Za-z0-9_-]{1,64})?"
_SYSTEM = re.compile(f"({REPORT}|{EVENTS}|{MESSAGES}){_REQUEST_ID}")
_USER = re.compile(r"user(/[A-Za-z0-9_-]{1,64}){1,8}")
_SEPARATOR = ":"
"""Stands between service and name; neither can have it."""
_ABOUT = "object_device_id"
_ESCAPE = b"\\u"
"""What may hide a name in JSON."""
_MANAGERS = ("$sub_device_manager", "sub_device_manager", "sub_device_discovery")
"""Services by which a gateway adds and deletes its children: gatewayd alone uses them."""
_OF_PLATFORM = "$"
"""Begins the services of the platform itself, as $ota."""

UNKNOWN_TOPIC = Reason(
    "message-topic-unknown",
    "The platform has no such topic for this child.",
    "Use properties, events/NAME, sys/properties/report, sys/events/up, sys/messages/up, or, for a "
    "child with a session of its own, user/NAME.",
)
NO_TOPIC_OF_ITS_OWN = Reason(
    "message-topic-unknown",
    "A child behind the gateway's session has no topics of its own at the platform.",
    'Send it to sys/messages/up, as {"content": …}.',
)
NO_SERVICE = Reason(
    "message-service-missing",
    "It is not known to which service of the product a value belongs.",
    "Name the service before the value, as climate:temperature; or set it for the product in the "
    "table 'services' of the cloud, then run gatewayctl reload.",
)
NO_VALUE = Reason(
    "message-empty", "The message has no values.", "Send one value at least in a message."
)
MALFORMED = Reason(
    "message-malformed",
    "The message is not of the form that the platform demands on this topic.",
    'Send {"services": [{"service_id": …, "properties": {…}}]}, and for an event "event_type" and '
    '"paras" in place of "properties".',
)
NO_CONTENT = Reason(
    "message-malformed",
    'The platform cannot know which child sends a message that has no "content".',
    'Send a JSON object, as {"content": …}; or register the child with a certificate.',
)
OTHER_DEVICE = Reason(
    "message-other-device",
    "The message names another device than the one that sends it.",
    'Leave "object_device_id" out.',
)
NOT_FOR_CHILDREN = Reason(
    "message-service-reserved",
    "The message is for a service of the platform that gatewayd alone uses.",
    "Send events of the product's own services.",
)
TOO_LARGE = Reason(
    "message-too-large",
    f"The platform accepts {MAX_REPORT} bytes of properties, and {MAX_MESSAGE} of anything else.",
    "Send less at a time.",
)


class Upload(NamedTuple):
    """A message for the platform.  use: what follows `$oc/devices/ID/` in its topic."""

    use: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChildReport:
    """The part of one child in a report of many.  services: each as JSON."""

    device_id: str
    services: tuple[bytes, ...]


def of_device(message: Message, device_id: str, service: str) -> Upload:
    """Return what a device with a session of its own publishes.  Raises UnfitMessage.

    service: of values that do not name theirs; "" for none.  What has the platform's own form
    already passes unchanged.
    """
    topic, payload = message.topic, message.payload
    if topic == neutral.PROPERTIES:
        return _checked(Upload(REPORT, _services(_properties(message, service))))
    if topic.startswith(neutral.EVENTS):
        return _checked(Upload(EVENTS, _about(device_id, _event(message, service))))
    if _USER.fullmatch(topic) and len(f"$oc/devices/{device_id}/{topic}") <= MAX_TOPIC:
        return _checked(Upload(topic, payload))
    if (known := _SYSTEM.fullmatch(topic)) is None:
        raise UnfitMessage(UNKNOWN_TOPIC)
    if known[1] == REPORT:
        _read_services(payload, "properties")
    elif known[1] == EVENTS:
        _check_managers(_read_services(payload, "paras", device_id))
    else:
        _check_message(payload, device_id)
    return _checked(Upload(topic, payload))


def of_sub_device(message: Message, device_id: str, service: str) -> ChildReport | Upload:
    """Return what the gateway publishes for a child.  Raises UnfitMessage.

    The child is named in it, also where it has the platform's own form already.
    """
    topic, payload = message.topic, message.payload
    if topic == neutral.PROPERTIES:
        return _child(device_id, _properties(message, service))
    if topic == REPORT:
        return _child(device_id, [_encode(one) for one in _read_services(payload, "properties")])
    if topic.startswith(neutral.EVENTS):
        return _checked(Upload(EVENTS, _about(device_id, _event(message, service))))
    if topic == EVENTS:
        services = _read_services(payload, "paras", device_id)
        if any(str(one["service_id"]).startswith(_OF_PLATFORM) for one in services):
            raise UnfitMessage(NOT_FOR_CHILDREN)
        _check_managers(services)
        return _checked(Upload(EVENTS, _about(device_id, [_encode(one) for one in services])))
    if topic == MESSAGES:
        sent = reading.read_object(payload)
        _check_about(sent, device_id)
        if "content" not in sent:
            raise UnfitMessage(NO_CONTENT)
        return _checked(Upload(MESSAGES, _encode({**sent, _ABOUT: device_id})))
    raise UnfitMessage(NO_TOPIC_OF_ITS_OWN if topic.startswith("user/") else UNKNOWN_TOPIC)


class ChildrenReport:
    """One report of many children, as it is put together.

    Several parts of one child are one entry, with its services in their order.
    """

    def __init__(self) -> None:
        self._children: dict[str, list[bytes]] = {}
        self._size = len(_children_report({}))

    def add(self, part: ChildReport) -> bool:
        """Add a part, unless the platform would not take the whole; return whether it was added."""
        known = part.device_id in self._children
        size = self._size + _size(part, known=known)
        if self._children and (
            size > MAX_REPORT or len(self._children) + (not known) > MAX_CHILDREN
        ):
            return False
        self._children.setdefault(part.device_id, []).extend(part.services)
        self._size = size
        return True

    def upload(self) -> Upload:
        """Return the report."""
        return Upload(CHILDREN_REPORT, _children_report(self._children))


def _size(part: ChildReport, *, known: bool) -> int:
    """Return how many bytes a part adds, with its commas."""
    alone = sum(map(len, part.services)) + len(part.services)
    return alone if known else alone + len(_child_entry(part.device_id, ())) + 1


def _children_report(children: Mapping[str, Sequence[bytes]]) -> bytes:
    entries = (_child_entry(device_id, services) for device_id, services in children.items())
    return b'{"devices":[%b]}' % b",".join(entries)


def _child_entry(device_id: str, services: Sequence[bytes]) -> bytes:
    return b'{"device_id":"%b","services":[%b]}' % (device_id.encode(), b",".join(services))


def _child(device_id: str, services: Sequence[bytes]) -> ChildReport:
    report = ChildReport(device_id, tuple(services))
    if len(_children_report({device_id: services})) > MAX_REPORT:
        raise UnfitMessage(TOO_LARGE)
    return report


def _services(entries: Sequence[bytes]) -> bytes:
    return b'{"services":[%b]}' % b",".join(entries)


def _about(device_id: str, entries: Sequence[bytes]) -> bytes:
    parts = (_ABOUT.encode(), device_id.encode(), b",".join(entries))
    return b'{"%b":"%b","services":[%b]}' % parts


def _checked(upload: Upload) -> Upload:
    limit = MAX_REPORT if upload.use.startswith(REPORT) else MAX_MESSAGE
    if len(upload.payload) > limit:
        raise UnfitMessage(TOO_LARGE)
    return upload


def _properties(message: Message, service: str) -> list[bytes]:
    """Return the services of a reading, each as JSON with its properties."""
    said = reading.read(message.payload)
    if not said.values:
        raise UnfitMessage(NO_VALUE)
    services: dict[str, dict[str, object]] = {}
    for name, value in said.values.items():
        owner, member = _split(name, service, MEMBER_NAME)
        properties = services.setdefault(owner, {})
        if member in properties:
            raise UnfitMessage(NAME_TWICE)
        properties[member] = value
    when = _time(said.time or message.at, _with_milliseconds)
    return [
        _encode({"service_id": owner, "properties": properties, **when})
        for owner, properties in services.items()
    ]


def _event(message: Message, service: str) -> list[bytes]:
    """Return the one service of an event."""
    owner, kind = _split(message.topic.removeprefix(neutral.EVENTS), service, EVENT_TYPE)
    said = reading.read(message.payload)
    when = _time(said.time or message.at, _with_seconds)
    return [_encode({"service_id": owner, "event_type": kind, **when, "paras": said.values})]


def _split(name: str, service: str, rule: Field) -> tuple[str, str]:
    """Return the service that a value or an event belongs to, and its name there."""
    owner, _, member = name.rpartition(_SEPARATOR)
    owner = owner or service
    if not owner:
        raise UnfitMessage(NO_SERVICE)
    if owner.startswith(_OF_PLATFORM):
        raise UnfitMessage(NOT_FOR_CHILDREN)
    if fault := SERVICE_ID.fault(owner) or rule.fault(member):
        raise UnfitMessage(_illegal(name, fault))
    return owner, member


def _illegal(name: str, fault: str) -> Reason:
    return Reason(
        "message-name-unfit",
        f"The name of {reading.shown(name)} is none that the platform accepts: it {fault}.",
        "Correct what the child sends.",
    )


def _time(at: int, write: Callable[[int], str]) -> Mapping[str, str]:
    """Return the member for a time in milliseconds; without it, it is the platform's own."""
    return {"event_time": write(at)} if at else {}


def _with_milliseconds(at: int) -> str:
    """Write a time as pages on properties have it, so that values of one second keep theirs."""
    seconds, rest = divmod(at, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03}Z"


def _with_seconds(at: int) -> str:
    """Write a time in the one format that pages on events have."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at // 1000))


def _read_services(
    payload: bytes, members: str, device_id: str | None = None
) -> list[Mapping[str, object]]:
    """Return the services of a message in the platform's own form.

    members: the key of what each service has.  device_id: of the sender, where it may be named.
    """
    sent = reading.read_object(payload)
    if device_id is not None:
        _check_about(sent, device_id)
    services = sent.get("services")
    if not isinstance(services, list) or not services:
        raise UnfitMessage(MALFORMED)
    for one in services:
        match one:
            case {"service_id": str()} if isinstance(one.get(members), dict):
                continue
        raise UnfitMessage(MALFORMED)
    return services


def _check_managers(services: Sequence[Mapping[str, object]]) -> None:
    if any(one["service_id"] in _MANAGERS for one in services):
        raise UnfitMessage(NOT_FOR_CHILDREN)


def _check_message(payload: bytes, device_id: str) -> None:
    """Check that a message, which may be any bytes, names no other device."""
    named = _ABOUT.encode() in payload
    if not named and _ESCAPE not in payload:
        return
    try:
        sent = reading.read_object(payload)
    except UnfitMessage:
        if named:
            raise
    else:
        _check_about(sent, device_id)


def _check_about(sent: Mapping[str, object], device_id: str) -> None:
    if sent.get(_ABOUT) not in (None, "", device_id):
        raise UnfitMessage(OTHER_DEVICE)


def _encode(value: object) -> bytes:
    """Return the JSON of a value.  Raises UnfitMessage for what JSON has not, as broken text."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (ValueError, RecursionError):
        raise UnfitMessage(MALFORMED) from None
