"""The format of events between devices and the Huawei platform.  Pure.

Sources: the vendor's pages on events and on gateways and child devices (api-iothub/iot_06_v5_3018
to 3022, 30181 to 30184, 30233), and on time synchronization (iot_06_v5_3012).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

MANAGER = "$sub_device_manager"
"""The service of children.  One SDK of the vendor omits the dollar in one request."""

ADD, DELETE = "add_sub_device_request", "delete_sub_device_request"
STATUS, SYNC = "sub_device_update_status", "sub_device_sync_request"
REQUESTS = frozenset({ADD, DELETE, STATUS, SYNC})
"""The requests of gateways."""

RESPONSES: Mapping[str, str] = {
    ADD: "add_sub_device_response",
    DELETE: "delete_sub_device_response",
    STATUS: "sub_device_update_status_response",
}
TIME, TIME_REQUEST, TIME_RESPONSE = "$time_sync", "time_sync_request", "time_sync_response"
"""The service of the platform's time, which any device may ask for."""
ADDED, DELETED = "add_sub_device_notify", "delete_sub_device_notify"

_ID = re.compile(r"[A-Za-z0-9-]{1,36}")


class MalformedEvent(Exception):
    """A message that cannot be read; the platform does not answer it."""


@dataclass(frozen=True, slots=True)
class HuaweiEvent:
    """One event.

    event_id: "" where none was sent.  event_time: as it was sent.
    object_device_id: the device that its message names; None for none.
    """

    service_id: str
    event_type: str
    event_id: str
    paras: Mapping[str, object]
    event_time: object = None
    object_device_id: object = None

    @property
    def managing(self) -> bool:
        """Whether the event is about children."""
        return self.service_id in (MANAGER, MANAGER.removeprefix("$"))


def read(payload: bytes) -> tuple[HuaweiEvent, ...]:
    """Parse the events of a message.  Raises MalformedEvent."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent from error
    match message:
        case {"services": [_, *_] as services}:
            about = message.get("object_device_id")
            return tuple(_event(one, about) for one in services)
    raise MalformedEvent


def _event(one: object, about: object) -> HuaweiEvent:
    match one:
        case {"service_id": str(service), "event_type": str(kind), "paras": dict(paras), **rest}:
            given = rest.get("event_id") or ""
            if isinstance(given, str) and (not given or _ID.fullmatch(given)):
                return HuaweiEvent(service, kind, given, paras, rest.get("event_time"), about)
    raise MalformedEvent


def time_response(paras: Mapping[str, object], now: float) -> dict[str, object]:
    """Return the paras of the answer to a request for the time.  now: seconds since 1970."""
    stamp = int(now * 1_000)
    sent = paras.get("device_send_time")
    return {"device_send_time": sent, "server_recv_time": stamp, "server_send_time": stamp}


def message(
    device_id: str,
    event_type: str,
    event_time: str,
    paras: object,
    event_id: str = "",
    service_id: str = MANAGER,
) -> dict[str, object]:
    """Return the platform's message with one event."""
    event: dict[str, object] = {
        "service_id": service_id,
        "event_type": event_type,
        "event_time": event_time,
    }
    if event_id:
        event["event_id"] = event_id
    event["paras"] = paras
    return {"object_device_id": device_id, "services": [event]}
