"""What a gateway and the platform tell each other of sub-devices, and how a gateway says it.  Pure.

Sources: "Adding child devices" to "Synchronizing child devices" of the IoTDA API reference for
MQTT devices.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from gatewayd.device.record import CloudName

SERVICE = "$sub_device_manager"
UNREADABLE = "unreadable"
"""Stands for a code that is none."""


class Event(StrEnum):
    """What a gateway asks or tells."""

    ADD = "add_sub_device_request"
    DELETE = "delete_sub_device_request"
    STATUS = "sub_device_update_status"
    SYNC = "sub_device_sync_request"


class Status(StrEnum):
    """What a child is at the platform."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    INACTIVE = "INACTIVE"  # never online yet
    UNTOLD = ""


class NodeName(NamedTuple):
    """What an operator calls a child: product ID, "" where that is not told, and node ID."""

    product: str
    node: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the platform tells of a child; "" where it does not.

    device_id: never "".  parent: device ID of the gateway that the child belongs to.
    """

    device_id: str
    node: str = ""
    product: str = ""
    parent: str = ""
    status: Status = Status.UNTOLD

    @property
    def name(self) -> NodeName:
        """How an operator calls it."""
        return NodeName(self.product, self.node)


@dataclass(frozen=True, slots=True)
class Failure:
    """A child for which something was not done, by what the platform told: device ID, or name."""

    code: str
    device_id: str
    name: NodeName


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a question.  Part of it may have been done, and part not."""

    event: Event
    event_id: str
    done: tuple[Told, ...]
    failed: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Children were added to this gateway at the platform, or deleted.

    version: of the platform's list of them, which grows; 0 where it is not told.
    """

    added: bool
    devices: tuple[Told, ...]
    version: int


Downlink: TypeAlias = Response | Notice


def node_name(name: CloudName) -> NodeName:
    """Return how the platform knows a child."""
    return NodeName(name.product, name.device)


def up_topic(gateway: str) -> str:
    """Return where a gateway asks.  gateway: its device ID."""
    return f"$oc/devices/{gateway}/sys/events/up"


def down_topic(gateway: str) -> str:
    """Return where a gateway is answered."""
    return f"$oc/devices/{gateway}/sys/events/down"


def request(event: Event, paras: Mapping[str, object], at: float, event_id: str = "") -> bytes:
    """Return a request.

    at: seconds since the epoch.  event_id: a UUID, by which the answer is known; "" for none.
    """
    told: dict[str, object] = {
        "service_id": SERVICE,
        "event_type": event,
        "event_time": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)),
    }
    if event_id:
        told["event_id"] = event_id
    message = {"services": [{**told, "paras": paras}]}
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


def to_report(device_ids: Iterable[str], status: Status) -> Mapping[str, object]:
    """Return the paras that report children online or offline."""
    return {"device_statuses": [{"device_id": one, "status": status} for one in device_ids]}


def to_sync(version: int) -> Mapping[str, object]:
    """Return the paras that ask for changes since a version; for all children, where it is 0."""
    return {"version": version} if version else {}
