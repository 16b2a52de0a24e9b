"""What the platform tells a gateway of its sub-devices, read.  Pure.

It is read leniently, as the vendor's pages and SDKs differ: anything that is optional may be null,
and the answer to a status report comes under two names.  Sources: as of events.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from gatewayd.cloud.huawei.events import (
    SERVICE,
    UNREADABLE,
    Downlink,
    Event,
    Failure,
    NodeName,
    Notice,
    Response,
    Status,
    Told,
)
from gatewayd.cloud.huawei.names import DEVICE_ID, NODE_ID, PRODUCT_ID, Field

MAX_MESSAGE = 1 << 20
"""Bytes of a message, at most ("Limitations" of the documentation)."""
MAX_EVENTS = 100
"""Events of one message that are heeded."""
MAX_DEVICES = 10_000
"""Children in the lists of one message, at most: no more can be named in 1 MiB, with all that the
platform tells of each, and to read more of less would hold up everything else."""

_CODE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_EVENT_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class EventError(Exception):
    """A message is not what its topic promises."""


def parse(payload: bytes, gateway: str) -> tuple[Downlink, ...]:
    """Return what the platform tells a gateway.  Raises EventError."""
    message = _load(payload)
    if (message.get("object_device_id") or gateway) != gateway:
        return ()  # it is for a child
    services = message.get("services")
    if not isinstance(services, list):
        raise EventError("no services")
    heeded = [one for one in services[:MAX_EVENTS] if isinstance(one, dict)]
    if sum(map(_devices, heeded)) > MAX_DEVICES:
        raise EventError("too many devices")
    told = (_event(one) for one in heeded)
    return tuple(one for one in told if one is not None)


def _devices(told: Mapping[str, Any]) -> int:
    """Return how many devices an event lists."""
    paras = told.get("paras")
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


def _event(told: Mapping[str, Any]) -> Downlink | None:
    """Read one event; None where it is not about sub-devices, or unknown."""
    paras, kind = told.get("paras"), told.get("event_type")
    if told.get("service_id") != SERVICE or not isinstance(paras, dict):
        return None
    read = _READERS.get(kind) if isinstance(kind, str) else None
    return read(told.get("event_id"), paras) if read else None


_Reader: TypeAlias = Callable[[object, Mapping[str, Any]], Downlink | None]


def _response(event: Event) -> _Reader:
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
    "add_sub_device_response": _response(Event.ADD),
    "delete_sub_device_response": _response(Event.DELETE),
    "sub_device_update_status_response": _response(Event.STATUS),
    "sub_device_update_status": _response(Event.STATUS),  # so on older pages
    "add_sub_device_notify": _notice(added=True),
    "delete_sub_device_notify": _notice(added=False),
}


def _children(told: object) -> Iterator[Told]:
    """Yield the children in a list; entries without a device ID are left out."""
    for one in told if isinstance(told, list) else ():
        fields = {"device_id": one} if isinstance(one, str) else one
        if not isinstance(fields, dict):
            continue
        if device_id := _text(fields, "device_id", DEVICE_ID):
            yield Told(
                device_id,
                _text(fields, "node_id", NODE_ID),
                _text(fields, "product_id", PRODUCT_ID),
                _text(fields, "parent_device_id", DEVICE_ID),
                _status(fields.get("status")),
            )


def _failures(told: object) -> Iterator[Failure]:
    for fields in told if isinstance(told, list) else ():
        if isinstance(fields, dict):
            code = fields.get("error_code")
            readable = isinstance(code, str) and _CODE.fullmatch(code)
            name = NodeName(
                _text(fields, "product_id", PRODUCT_ID), _text(fields, "node_id", NODE_ID)
            )
            yield Failure(
                str(code) if readable else UNREADABLE, _text(fields, "device_id", DEVICE_ID), name
            )


def _text(told: Mapping[str, Any], key: str, field: Field) -> str:
    value = told.get(key)
    return value if isinstance(value, str) and not field.fault(value) else ""


def _status(told: object) -> Status:
    return Status(told) if isinstance(told, str) and told in set(Status) else Status.UNTOLD


def _version(told: object) -> int:
    """Return a number of 64 bits; 0 for anything else."""
    if not isinstance(told, int) or isinstance(told, bool):
        return 0
    return told if 0 < told < 1 << 63 else 0
