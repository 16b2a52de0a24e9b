"""Alink, the protocol between a gateway and the cloud: topics, requests, replies, downlinks.  Pure.

A method is named by the end of its topic.  Sources: "Alink protocol", "Manage topological
relationships", "Register sub-devices", "Connect or disconnect sub-devices", "Disable and delete
sub-devices" and "Error codes for sub-device development" of the IoT Platform documentation.  The
cloud is read leniently, as its samples differ from one another: codes and ids come as numbers or
as text, and fields are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from gatewayd.cloud.alibaba.settings import DEVICE_NAME, PRODUCT_KEY
from gatewayd.device.record import CloudName

SUB_REGISTER = "thing/sub/register"
PRODUCT_REGISTER = "thing/proxy/provisioning/product_register"
TOPO_ADD = "thing/topo/add"
TOPO_DELETE = "thing/topo/delete"
TOPO_GET = "thing/topo/get"
LIST_FOUND = "thing/list/found"
LOGIN = "combine/login"
BATCH_LOGIN = "combine/batch_login"
LOGOUT = "combine/logout"
BATCH_LOGOUT = "combine/batch_logout"

METHODS = (
    SUB_REGISTER, PRODUCT_REGISTER, TOPO_ADD, TOPO_DELETE, TOPO_GET, LIST_FOUND,
    LOGIN, BATCH_LOGIN, LOGOUT, BATCH_LOGOUT,
)  # fmt: skip
"""The methods of a gateway's requests."""

TOPO_NOTIFY = "thing/topo/add/notify"
TOPO_CHANGE = "thing/topo/change"
PERMIT = "thing/gateway/permit"
ERROR = "ext/error"
DISABLE = "thing/disable"
ENABLE = "thing/enable"
DELETE = "thing/delete"

_TO_GATEWAY = (TOPO_NOTIFY, TOPO_CHANGE, PERMIT)
_TO_CHILD = (DISABLE, ENABLE, DELETE)
_WATCHED = (DISABLE, DELETE)  # thing/enable cannot reach a child that is disabled

_REPLY, _OF_USERS = "_reply", "/user/"
_SYSTEM = re.compile(r"/sys/([^/]{1,64})/([^/]{1,64})/([a-z_/]{1,64})")


class SubName(NamedTuple):
    """What the cloud calls a child: productKey and deviceName."""

    product: str
    device: str


class DownlinkTopic(NamedTuple):
    """A topic on which the cloud asks something: what, and of which device."""

    method: str
    device: SubName


def is_session(method: str) -> bool:
    """Whether this method has topics of /ext/session, and so no `method` in its requests."""
    return method.startswith("combine/")


def request_topic(gateway: CloudName, method: str) -> str:
    """Return the topic of a gateway's request."""
    root = "/ext/session" if is_session(method) else "/sys"
    return f"{root}/{gateway.product}/{gateway.device}/{method}"


def reply_topic(topic: str) -> str:
    """Return the topic of the reply to a request, of either side."""
    return topic + _REPLY


def is_reply(topic: str) -> bool:
    """Whether this is the topic of a reply; users may give theirs such names, too."""
    return topic.endswith(_REPLY) and _OF_USERS not in topic


def error_topic(gateway: CloudName) -> str:
    """Return the topic on which the cloud reports children that it forced off."""
    return f"/{ERROR}/{gateway.product}/{gateway.device}"


def gateway_topics(gateway: CloudName) -> tuple[str, ...]:
    """Return all that a gateway subscribes to for itself: replies, requests of the cloud, errors.

    The cloud subscribes a gateway to some of them unasked; to which is not certain.
    """
    replies = (reply_topic(request_topic(gateway, method)) for method in METHODS)
    requests = (request_topic(gateway, method) for method in _TO_GATEWAY)
    return (*replies, *requests, error_topic(gateway))


def child_topics(child: SubName) -> tuple[str, ...]:
    """Return what a gateway subscribes to for a child."""
    return tuple(f"/sys/{child.product}/{child.device}/{method}" for method in _WATCHED)


def downlink_topic(topic: str, gateway: CloudName) -> DownlinkTopic | None:
    """Return what the cloud asks by a message to this topic; None if it is no such topic."""
    own = SubName(gateway.product, gateway.device)
    if topic == error_topic(gateway):
        return DownlinkTopic(ERROR, own)
    if (match := _SYSTEM.fullmatch(topic)) is None:
        return None
    device, method = SubName(match[1], match[2]), match[3]
    known = _TO_GATEWAY if device == own else _TO_CHILD
    return DownlinkTopic(method, device) if method in known else None


def answer_topic(downlink_topic: DownlinkTopic) -> str:
    """Return the topic for the answer to a request of the cloud."""
    return reply_topic(
        f"/sys/{downlink_topic.device.product}/{downlink_topic.device.device}/{downlink_topic.method}"
    )


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

    code: 200 for done, see result_codes.py.  data: as the cloud sent it; it may hold secrets.
    """

    code: int
    data: object = field(repr=False)


class TopologyChange(IntEnum):
    """A kind of change in the topology.  The vendor's English table swaps the last two; its own
    sample, and programs in use, do not."""

    CREATED = 0
    DELETED = 1
    ENABLED = 2
    DISABLED = 8
    UNKNOWN = -1  # ask for the whole topology


@dataclass(frozen=True, slots=True)
class AddRequested:
    """A user of the cloud wants these children to join this gateway."""

    children: tuple[SubName, ...]


@dataclass(frozen=True, slots=True)
class TopologyChanged:
    """The cloud has changed the topology, or confirms that the gateway did."""

    change: TopologyChange
    children: tuple[SubName, ...]


@dataclass(frozen=True, slots=True)
class PermitJoin:
    """Children may join for so many seconds from now; 0 ends that.

    product: of which product alone; "" for any.
    """

    seconds: int
    product: str


@dataclass(frozen=True, slots=True)
class SubDeviceOrder:
    """The cloud has disabled, enabled or deleted one child.

    order: DISABLE, ENABLE or DELETE.
    """

    order: str
    child: SubName


@dataclass(frozen=True, slots=True)
class ForcedOff:
    """The cloud has ended a child's session, or could not deliver a message to it.

    code: 427, 520, 521, 522 or 6401, see result_codes.py.
    child: None where the cloud does not say.
    """

    code: int
    child: SubName | None


Downlink: TypeAlias = AddRequested | TopologyChanged | PermitJoin | SubDeviceOrder | ForcedOff
"""What the cloud asks of a gateway, or reports to it."""


def request(number: int, method: str, params: object) -> bytes:
    """Return a request.  number: of 32 bits, unlike that of any request under way."""
    message: dict[str, object] = {"id": str(number), "version": "1.0", "params": params}
    if not is_session(method):
        message["method"] = method.replace("/", ".")
    return json.dumps(message, separators=(",", ":")).encode()


def answer(request_id: str) -> bytes:
    """Return the answer to a request of the cloud that was understood."""
    return json.dumps({"id": request_id, "code": DONE, "data": {}}, separators=(",", ":")).encode()


def parse_reply(payload: bytes) -> tuple[str, AlinkReply]:
    """Return a reply with the id of its request.  Raises AlinkError."""
    message = _object(payload)
    return _id(message), AlinkReply(_number(message.get("code")), message.get("data"))


def awaited_id(payload: bytes) -> str:
    """Return the id of a device's request that the cloud replies to; "" where it does not."""
    try:
        message = _object(payload)
        system = message.get("sys")
        wanted = not isinstance(system, dict) or system.get("ack") != 0
        return _id(message) if wanted else ""
    except AlinkError:
        return ""


def id_of(message: dict[str, Any]) -> str:
    """Return the id of a request of the cloud; "" where it has none."""
    try:
        return _id(message)
    except AlinkError:
        return ""


def parse_downlink(topic: DownlinkTopic, payload: bytes) -> tuple[str, Downlink]:
    """Return what the cloud asks, with the id to answer to; "" for none.  Raises AlinkError."""
    message = _object(payload)
    if topic.method == ERROR:
        return "", ForcedOff(_number(message.get("code")), _child(message.get("data")))
    return _id(message), _DOWNLINKS[topic.method](message.get("params"), topic)


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


def _ordered(_: object, topic: DownlinkTopic) -> Downlink:
    return SubDeviceOrder(topic.method, topic.device)


_DOWNLINKS: Mapping[str, Callable[[object, DownlinkTopic], Downlink]] = {
    TOPO_NOTIFY: _notified,
    TOPO_CHANGE: _changed,
    PERMIT: _permitted,
    DISABLE: _ordered,
    ENABLE: _ordered,
    DELETE: _ordered,
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
    value = message.get("id")
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _BITS:
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        raise AlinkError("id")
    return value


def _number(value: object) -> int:
    """Return a number, which may come as text."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() > _BITS:
        raise AlinkError("number")
    return value


def _child(value: object) -> SubName | None:
    if not isinstance(value, dict):
        return None
    product, device = value.get("productKey"), value.get("deviceName")
    if not isinstance(product, str) or not isinstance(device, str):
        return None
    if not PRODUCT_KEY.fullmatch(product) or not DEVICE_NAME.fullmatch(device):
        return None
    return SubName(product, device)
