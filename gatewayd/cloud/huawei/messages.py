"""The messages about sub-devices, between a gateway and the platform: events, and topics.  Pure.

Downlinks are parsed leniently, as the vendor's pages and SDKs differ: an optional field may be
null, and the response to a status report has two names.  Sources: "Adding child devices" to
"Synchronizing child devices" of the IoTDA API reference for MQTT devices.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from gatewayd.cloud.huawei.settings import DEVICE_ID, NODE_ID, PRODUCT_ID, Field
from gatewayd.device.record import CloudName

SERVICE = "$sub_device_manager"
UNREADABLE = "unreadable"
"""Stands for an error code that cannot be read."""


class SubDeviceEvent(StrEnum):
    """A type of event that a gateway sends."""

    ADD = "add_sub_device_request"
    DELETE = "delete_sub_device_request"
    STATUS = "sub_device_update_status"
    SYNC = "sub_device_sync_request"


class SubDeviceStatus(StrEnum):
    """The status of a child at the platform."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    INACTIVE = "INACTIVE"  # never online yet
    UNKNOWN = ""


class NodeName(NamedTuple):
    """The name of a child: product ID, "" where it is not reported, and node ID."""

    product: str
    node: str


@dataclass(frozen=True, slots=True)
class SubDeviceInfo:
    """The platform's report of a child; "" for what it leaves out.

    device_id: never "".  parent: device ID of the gateway that the child belongs to.
    """

    device_id: str
    node: str = ""
    product: str = ""
    parent: str = ""
    status: SubDeviceStatus = SubDeviceStatus.UNKNOWN

    @property
    def name(self) -> NodeName:
        """The name of the child."""
        return NodeName(self.product, self.node)


@dataclass(frozen=True, slots=True)
class SubDeviceFailure:
    """A child that a request failed for, by device ID or name, as the platform reports it."""

    code: str
    device_id: str
    name: NodeName


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a request, which may have succeeded for some children only."""

    event: SubDeviceEvent
    event_id: str
    done: tuple[SubDeviceInfo, ...]
    failed: tuple[SubDeviceFailure, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that children were added to this gateway at the platform, or deleted.

    version: of the platform's list of children, which grows; 0 where it is not reported.
    """

    added: bool
    devices: tuple[SubDeviceInfo, ...]
    version: int


Downlink: TypeAlias = Response | Notice


def node_name(name: CloudName) -> NodeName:
    """Return the name of a child at the platform."""
    return NodeName(name.product, name.device)


def up_topic(gateway: str) -> str:
    """Return the topic of a gateway's requests.  gateway: its device ID."""
    return f"$oc/devices/{gateway}/sys/events/up"


def down_topic(gateway: str) -> str:
    """Return the topic of responses and notices to a gateway."""
    return f"$oc/devices/{gateway}/sys/events/down"


def request(
    event: SubDeviceEvent, paras: Mapping[str, object], at: float, event_id: str = ""
) -> bytes:
    """Return a request.

    at: seconds since the epoch.  event_id: a UUID that the response repeats; "" for none.
    """
    fields: dict[str, object] = {
        "service_id": SERVICE,
        "event_type": event,
        "event_time": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)),
    }
    if event_id:
        fields["event_id"] = event_id
    message = {"services": [{**fields, "paras": paras}]}
    return json.dumps(message, separators=(",", ":")).encode()


def to_add(children: Iterable[NodeName]) -> Mapping[str, object]:
    """Return the paras that add children."""
    return {
        "devices": [
            {"node_id": child.node, "product_id": child.product, "name": child.node}
            for child in children
        ]
    }


def to_delete(device_ids: Iterable[str]) -> Mapping[str, object]:
    """Return the paras that delete children."""
    return {"devices": list(device_ids)}


def to_report(device_ids: Iterable[str], status: SubDeviceStatus) -> Mapping[str, object]:
    """Return the paras that report children online or offline."""
    return {"device_statuses": [{"device_id": one, "status": status} for one in device_ids]}


def to_sync(version: int) -> Mapping[str, object]:
    """Return the paras that ask for changes since a version; for all children, where it is 0."""
    return {"version": version} if version else {}


MAX_MESSAGE = 1 << 20
"""Bytes of a message, at most ("Limitations" of the documentation)."""
MAX_EVENTS = 100
"""Events of one message that are read, at most."""
MAX_DEVICES = 10_000
"""Children in the lists of one message, at most: no more fit in 1 MiB with all their fields, and to
read more short ones would hold up everything else."""

_CODE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_EVENT_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class EventError(Exception):
    """A message that is not of the form its topic demands."""


def parse(payload: bytes, gateway: str) -> tuple[Downlink, ...]:
    """Return the responses and notices in a message to a gateway.  Raises EventError."""
    message = _load(payload)
    if (message.get("object_device_id") or gateway) != gateway:
        return ()  # for a child
    services = message.get("services")
    if not isinstance(services, list):
        raise EventError("no services")
    raw_events = [one for one in services[:MAX_EVENTS] if isinstance(one, dict)]
    if sum(map(_count_devices, raw_events)) > MAX_DEVICES:
        raise EventError("too many devices")
    events = (_event(one) for one in raw_events)
    return tuple(one for one in events if one is not None)


def _count_devices(raw: Mapping[str, Any]) -> int:
    """Return how many devices an event lists."""
    paras = raw.get("paras")
    lists = paras.values() if isinstance(paras, dict) else ()
    return sum(len(one) for one in lists if isinstance(one, list))


def _load(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_MESSAGE:
        raise EventError("too large")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        raise EventError("no JSON") from None
    if not isinstance(message, dict):
        raise EventError("no object")
    return message


def _event(raw: Mapping[str, Any]) -> Downlink | None:
    """Read one event; None if it is not about sub-devices, or unknown."""
    paras, kind = raw.get("paras"), raw.get("event_type")
    if raw.get("service_id") != SERVICE or not isinstance(paras, dict):
        return None
    read = _READERS.get(kind) if isinstance(kind, str) else None
    return read(raw.get("event_id"), paras) if read else None


_Reader: TypeAlias = Callable[[object, Mapping[str, Any]], Downlink | None]


def _response(event: SubDeviceEvent) -> _Reader:
    def read(event_id: object, paras: Mapping[str, Any]) -> Downlink | None:
        if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
            return None
        if paras.keys().isdisjoint(("successful_devices", "failed_devices")):
            return None
        done = tuple(_children(paras.get("successful_devices")))
        return Response(event, event_id, done, tuple(_failures(paras.get("failed_devices"))))

    return read


def _notice(*, added: bool) -> _Reader:
    def read(_: object, paras: Mapping[str, Any]) -> Downlink | None:
        devices = tuple(_children(paras.get("devices")))
        return Notice(added, devices, _version(paras.get("version")))

    return read


_READERS: Mapping[str, _Reader] = {
    "add_sub_device_response": _response(SubDeviceEvent.ADD),
    "delete_sub_device_response": _response(SubDeviceEvent.DELETE),
    "sub_device_update_status_response": _response(SubDeviceEvent.STATUS),
    "sub_device_update_status": _response(SubDeviceEvent.STATUS),  # the name on older pages
    "add_sub_device_notify": _notice(added=True),
    "delete_sub_device_notify": _notice(added=False),
}


def _children(devices: object) -> Iterator[SubDeviceInfo]:
    """Yield the children in a list; entries without a device ID are left out."""
    for one in devices if isinstance(devices, list) else ():
        fields = {"device_id": one} if isinstance(one, str) else one
        if not isinstance(fields, dict):
            continue
        if device_id := _text(fields, "device_id", DEVICE_ID):
            yield SubDeviceInfo(
                device_id,
                _text(fields, "node_id", NODE_ID),
                _text(fields, "product_id", PRODUCT_ID),
                _text(fields, "parent_device_id", DEVICE_ID),
                _status(fields.get("status")),
            )


def _failures(devices: object) -> Iterator[SubDeviceFailure]:
    for fields in devices if isinstance(devices, list) else ():
        if isinstance(fields, dict):
            code = fields.get("error_code")
            readable = isinstance(code, str) and _CODE.fullmatch(code)
            name = NodeName(
                _text(fields, "product_id", PRODUCT_ID), _text(fields, "node_id", NODE_ID)
            )
            yield SubDeviceFailure(
                str(code) if readable else UNREADABLE, _text(fields, "device_id", DEVICE_ID), name
            )


def _text(fields: Mapping[str, Any], key: str, field: Field) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) and not field.fault(value) else ""


def _status(value: object) -> SubDeviceStatus:
    return (
        SubDeviceStatus(value)
        if isinstance(value, str) and value in set(SubDeviceStatus)
        else SubDeviceStatus.UNKNOWN
    )


def _version(value: object) -> int:
    """Return a number of 64 bits; 0 for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value < 1 << 63 else 0
