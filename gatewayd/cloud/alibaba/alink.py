"""What requests and replies look like, of the gateway and of the cloud.  Pure.

Sources: "Alink protocol", "Manage topological relationships" and "Error codes for sub-device
development" of the IoT Platform documentation.  The cloud is read leniently, as its samples
differ from one another: codes and ids come as numbers or as text, and fields are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

from gatewayd.cloud.alibaba import topics
from gatewayd.cloud.alibaba.payloads import DEVICE_NAME
from gatewayd.cloud.alibaba.settings import PRODUCT_KEY
from gatewayd.cloud.alibaba.topics import DownlinkTopic, SubName

MAX_MESSAGE = 256 * 1024
"""Bytes of a message, at most ("Limits" of the documentation)."""
MAX_ID = 64
"""Characters of an id of the cloud; its own are decimal numbers of 32 bits."""
ALWAYS_OPEN, NOT_OPEN = 0, 65535
LONGEST = 65534
"""Seconds for which the cloud may ask to permit joining."""
DONE = 200

_BITS = 32  # of the numbers that are looked at: the cloud's own have no more
_DECIMAL = re.compile(r"-?[0-9]{1,10}")


class AlinkError(Exception):
    """A message is not what its topic promises."""


@dataclass(frozen=True, slots=True)
class AlinkReply:
    """What the cloud answered.

    code: 200 for done, see codes.py.  data: as the cloud sent it; it may hold secrets.
    """

    code: int
    data: object = field(repr=False)


class TopologyChange(IntEnum):
    """What has changed in the topology.  The vendor's English table swaps the last two; its own
    sample, and programs in use, do not."""

    CREATED = 0
    DELETED = 1
    ENABLED = 2
    DISABLED = 8
    UNKNOWN = -1  # look at the whole topology


@dataclass(frozen=True, slots=True)
class AddRequested:
    """Somebody at the cloud wants these children to join this gateway."""

    children: tuple[SubName, ...]


@dataclass(frozen=True, slots=True)
class TopologyChanged:
    """The cloud has changed the topology, or tells that it has seen us do so."""

    change: TopologyChange
    children: tuple[SubName, ...]


@dataclass(frozen=True, slots=True)
class PermitJoin:
    """Children may join for so many seconds from now; 0 for not any more.

    product: of which product alone; "" for any.
    """

    seconds: int
    product: str


@dataclass(frozen=True, slots=True)
class SubDeviceOrder:
    """The cloud tells one child what has become of it.

    order: topics.DISABLE, ENABLE or DELETE.
    """

    order: str
    child: SubName


@dataclass(frozen=True, slots=True)
class ForcedOff:
    """The cloud has ended a child's session, or could not deliver a message to it.

    code: 427, 520, 521, 522 or 6401, see codes.py.  child: None where the cloud does not say.
    """

    code: int
    child: SubName | None


Downlink: TypeAlias = AddRequested | TopologyChanged | PermitJoin | SubDeviceOrder | ForcedOff
"""What the cloud asks of a gateway, or tells it."""


def request(number: int, method: str, params: object) -> bytes:
    """Return a request.  number: of 32 bits, unlike that of any request under way."""
    message: dict[str, object] = {"id": str(number), "version": "1.0", "params": params}
    if not topics.is_session(method):
        message["method"] = method.replace("/", ".")
    return json.dumps(message, separators=(",", ":")).encode()


def answer(request_id: str) -> bytes:
    """Return what the cloud is told when its request was understood."""
    return json.dumps({"id": request_id, "code": DONE, "data": {}}, separators=(",", ":")).encode()


def parse_reply(payload: bytes) -> tuple[str, AlinkReply]:
    """Return a reply with the id of its request.  Raises EnvelopeError."""
    message = _object(payload)
    return _id(message), AlinkReply(_number(message.get("code")), message.get("data"))


def parse_downlink(heard: DownlinkTopic, payload: bytes) -> tuple[str, Downlink]:
    """Return what the cloud asks, with the id to answer to; "" for none.  Raises EnvelopeError."""
    message = _object(payload)
    if heard.method == topics.ERROR:
        return "", ForcedOff(_number(message.get("code")), _child(message.get("data")))
    return _id(message), _DOWNLINKS[heard.method](message.get("params"), heard)


def names_in(data: object) -> tuple[SubName, ...]:
    """Return the children that a list names; what is no name is left out."""
    entries = data if isinstance(data, list) else [data]
    return tuple(name for entry in entries if (name := _child(entry)) is not None)


def _notified(params: object, _: DownlinkTopic) -> Downlink:
    return AddRequested(names_in(params))


def _changed(params: object, _: DownlinkTopic) -> Downlink:
    fields = params if isinstance(params, dict) else {}
    try:
        change = TopologyChange(_number(fields.get("status")))
    except (ValueError, AlinkError):
        change = TopologyChange.UNKNOWN
    return TopologyChanged(change, names_in(fields.get("subList")))


def _permitted(params: object, _: DownlinkTopic) -> Downlink:
    """Read how long joining is permitted; for ever is not on offer."""
    if not isinstance(params, dict):
        raise AlinkError("no params")
    product, seconds = params.get("productKey", ""), _number(params.get("time"))
    if not isinstance(product, str) or (product and not PRODUCT_KEY.fullmatch(product)):
        raise AlinkError("productKey")
    if not ALWAYS_OPEN <= seconds <= NOT_OPEN:
        raise AlinkError("time")
    return PermitJoin({ALWAYS_OPEN: LONGEST, NOT_OPEN: 0}.get(seconds, seconds), product)


def _ordered(_: object, heard: DownlinkTopic) -> Downlink:
    return SubDeviceOrder(heard.method, heard.device)


_DOWNLINKS: Mapping[str, Callable[[object, DownlinkTopic], Downlink]] = {
    topics.TOPO_NOTIFY: _notified,
    topics.TOPO_CHANGE: _changed,
    topics.PERMIT: _permitted,
    topics.DISABLE: _ordered,
    topics.ENABLE: _ordered,
    topics.DELETE: _ordered,
}


def _object(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_MESSAGE:
        raise AlinkError("too large")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        raise AlinkError("no JSON") from None
    if not isinstance(message, dict):
        raise AlinkError("no object")
    return message


def _id(message: dict[str, Any]) -> str:
    """Return the id as text: some samples of the vendor have a bare number."""
    told = message.get("id")
    if isinstance(told, int) and not isinstance(told, bool) and told.bit_length() <= _BITS:
        told = str(told)
    if not isinstance(told, str) or not 0 < len(told) <= MAX_ID:
        raise AlinkError("id")
    return told


def _number(told: object) -> int:
    """Return a number, which may come as text."""
    if isinstance(told, str) and _DECIMAL.fullmatch(told):
        told = int(told)
    if not isinstance(told, int) or isinstance(told, bool) or told.bit_length() > _BITS:
        raise AlinkError("number")
    return told


def _child(told: object) -> SubName | None:
    if not isinstance(told, dict):
        return None
    product, device = told.get("productKey"), told.get("deviceName")
    if not isinstance(product, str) or not isinstance(device, str):
        return None
    if not PRODUCT_KEY.fullmatch(product) or not DEVICE_NAME.fullmatch(device):
        return None
    return SubName(product, device)
