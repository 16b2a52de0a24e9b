"""The topics between a gateway and the cloud, and the methods behind them.  Pure.

A method is named by the end of its topic.  Sources: "Manage topological relationships", "Register
sub-devices", "Connect or disconnect sub-devices" and "Disable and delete sub-devices" of the IoT
Platform documentation.
"""

from __future__ import annotations

import re
from typing import NamedTuple

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
"""What a gateway may ask."""

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

_REPLY = "_reply"
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
    """Tell whether this method has topics of /ext/session, and so no `method` in its requests."""
    return method.startswith("combine/")


def request_topic(gateway: CloudName, method: str) -> str:
    """Return where a gateway asks."""
    root = "/ext/session" if is_session(method) else "/sys"
    return f"{root}/{gateway.product}/{gateway.device}/{method}"


def reply_topic(topic: str) -> str:
    """Return where a request to this topic is answered, by either side."""
    return topic + _REPLY


def is_reply(topic: str) -> bool:
    """Tell whether the cloud answers there."""
    return topic.endswith(_REPLY)


def error_topic(gateway: CloudName) -> str:
    """Return where the cloud tells which child it has forced off."""
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
    """Tell what the cloud asks by a message to this topic; None if it is no such topic."""
    own = SubName(gateway.product, gateway.device)
    if topic == error_topic(gateway):
        return DownlinkTopic(ERROR, own)
    if (match := _SYSTEM.fullmatch(topic)) is None:
        return None
    device, method = SubName(match[1], match[2]), match[3]
    known = _TO_GATEWAY if device == own else _TO_CHILD
    return DownlinkTopic(method, device) if method in known else None


def answer_topic(downlink_topic: DownlinkTopic) -> str:
    """Return where a request of the cloud is answered."""
    return reply_topic(
        f"/sys/{downlink_topic.device.product}/{downlink_topic.device.device}/{downlink_topic.method}"
    )
