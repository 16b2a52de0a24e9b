"""The topics of the Alibaba cloud: the owner and the request of each.  Pure.

A request is named as by the vendor in the field `method`: what follows the device's name, with
dots for slashes.  Sources: the vendor's pages "Manage topological relationships"
(help.aliyun.com/document_detail/89299), "Register sub-devices" (89298), "Connect or disconnect
sub-devices" (89300), "Disable and delete sub-devices" (89303), "Device properties, events, and
services" (89301), "Limits" (30527), and that on automatic subscription.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gatewayd.simulator.alibaba.devices import Name

REGISTER, PRODUCT_REGISTER = "thing.sub.register", "thing.proxy.provisioning.product_register"
TOPO_ADD, TOPO_DELETE, TOPO_GET = "thing.topo.add", "thing.topo.delete", "thing.topo.get"
LIST_FOUND = "thing.list.found"
LOGIN, BATCH_LOGIN = "combine.login", "combine.batch_login"
LOGOUT, BATCH_LOGOUT = "combine.logout", "combine.batch_logout"
TOPO_ADD_NOTIFY, TOPO_CHANGE = "thing.topo.add.notify", "thing.topo.change"
PERMIT = "thing.gateway.permit"
DISABLE, ENABLE, DELETE = "thing.disable", "thing.enable", "thing.delete"
HTTPS_REGISTER = "auth.register.device"
RAW = "thing.model.up_raw"
"""What a parsing script reads, in whatever format (page "Submit messages of a TSL model")."""

_CALLS = (REGISTER, PRODUCT_REGISTER, TOPO_ADD, TOPO_DELETE, TOPO_GET, LIST_FOUND)
_SESSIONS = (LOGIN, BATCH_LOGIN, LOGOUT, BATCH_LOGOUT)

REQUESTS = frozenset({*_CALLS, *_SESSIONS})
"""The requests of gateways."""

SUBSCRIBED = frozenset(
    {PERMIT, TOPO_CHANGE} | {f"{asked}_reply" for asked in _CALLS if asked != LIST_FOUND}
)
"""The automatic subscriptions of a gateway, by the platform's documentation."""

ACKNOWLEDGEMENTS = frozenset(
    f"{pushed}_reply" for pushed in (TOPO_ADD_NOTIFY, TOPO_CHANGE, PERMIT, DISABLE, ENABLE, DELETE)
)
"""The replies of gateways to pushes."""

MAX_TOPIC, MAX_LEVELS = 128, 7
"""Bytes and levels of a topic ("Limits", document_detail/30527).

The vendor's own topics may have more levels than those that a user defines, to which it refers.
"""

_DEVICE = r"(?P<product>[^/+#]+)/(?P<device>[^/+#]+)"
_CARRIES = re.compile(rf"/(?P<tree>sys|ext/session)/{_DEVICE}/(?P<method>.+)")
_TREES = r"sys|ext/session|ext/error|ext/ntp|ota/device/(?:upgrade|inform)|shadow/(?:get|update)"
_OWNED = (
    re.compile(rf"/(?:{_TREES})/{_DEVICE}(?:/.+)?"),
    re.compile(rf"/{_DEVICE}/user/.+"),
)
_EXTENDED = re.compile(
    r"/ext/rrpc/(?P<rrpc>[^/#]+)/(?=sys/[^/+#]+/[^/+#]+/thing/|[^/+#]+/[^/+#]+/user/)"
)
"""Stands before the topic of which an RRPC makes use ("Call custom topics", 90570)."""
_RESPONSE = re.compile(rf"/sys/{_DEVICE}/rrpc/response/(?P<rrpc>[^/+#]+)")
_CUSTOM = 1
"""The pattern of a topic that a user defines."""
_ANY_LEVEL, _ALL_LEVELS = "+", "#"


@dataclass(frozen=True, slots=True)
class AlibabaTopic:
    """A parsed topic.

    method: may be anything; a request is one of `REQUESTS`, the answer to one ends in `_reply`.
    """

    owner: Name
    method: str


def route(topic: str) -> AlibabaTopic | None:
    """Read a topic that carries requests or answers; None for any other."""
    if (found := _CARRIES.fullmatch(topic)) is None:
        return None
    method = found["method"].replace("/", ".")
    if method.startswith("combine.") != (found["tree"] == "ext/session"):
        return None
    return AlibabaTopic((found["product"], found["device"]), method)


def owner(topic_filter: str) -> Name | None:
    """Return the device that may use a topic, or a filter; None if there is none.

    A filter may have wildcards behind the device's name (MQTT 3.1.1, 4.7.1), as the vendor's SDKs
    send them: the topics of each device are its own ("MQTT protocol", document_detail/30540).
    """
    levels = topic_filter.split("/")
    if len(topic_filter.encode()) > MAX_TOPIC or not _lawful(levels):
        return None
    inner = _EXTENDED.sub("/", topic_filter)
    for number, pattern in enumerate(_OWNED):
        if found := pattern.fullmatch(inner):
            if number == _CUSTOM and inner.count("/") > MAX_LEVELS:
                return None
            return found["product"], found["device"]
    return None


def rrpc_answered(name: str) -> str:
    """Return the RRPC that is answered on a topic; "" for any other topic."""
    found = _EXTENDED.match(name) or _RESPONSE.fullmatch(name)
    return found["rrpc"] if found else ""


def rrpc(device: Name, rrpc_id: str, rest: str = "") -> str:
    """Return the topic of an RRPC.

    rest: of a topic of its own: what follows the device; "" for the general topic.
    """
    own = f"{device[0]}/{device[1]}"
    if not rest:
        return f"/sys/{own}/rrpc/request/{rrpc_id}"
    whole = custom(device, rest) if rest.startswith("user/") else f"/sys/{own}/{rest}"
    return f"/ext/rrpc/{rrpc_id}{whole}"


def custom(device: Name, rest: str) -> str:
    """Return a topic that a user has defined.  rest: what follows the device."""
    return f"/{device[0]}/{device[1]}/{rest}"


def _lawful(levels: Sequence[str]) -> bool:
    """Whether wildcards stand where the standard allows them (4.7.1)."""
    whole = all(_ANY_LEVEL not in one or one == _ANY_LEVEL for one in levels)
    return (
        whole
        and not any(_ALL_LEVELS in one for one in levels[:-1])
        and (_ALL_LEVELS not in levels[-1] or levels[-1] == _ALL_LEVELS)
    )


def matches(topic_filter: str, name: str) -> bool:
    """Whether a filter, perhaps with wildcards, fits a topic (4.7.1)."""
    wanted, levels = topic_filter.split("/"), name.split("/")
    if wanted[-1] == _ALL_LEVELS:
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        one in (_ANY_LEVEL, level) for one, level in zip(wanted, levels, strict=True)
    )


def topic(device: Name, method: str) -> str:
    """Return the topic of a request, or of an answer, of this device."""
    tree = "ext/session" if method.startswith("combine.") else "sys"
    return f"/{tree}/{device[0]}/{device[1]}/{method.replace('.', '/')}"


def after_device(name: str) -> str:
    """Return what follows the device in a topic that a user defines."""
    return name.split("/", 3)[3]


def error_topic(gateway: Name) -> str:
    """Return the topic that reports a sub-device forced offline."""
    return f"/ext/error/{gateway[0]}/{gateway[1]}"
