"""The topics of the Alibaba cloud: the owner and the request of each.  Pure.

A request is named as by the vendor in the field `method`: what follows the device's name, with
dots for slashes.  Sources: the vendor's pages "Manage topological relationships"
(help.aliyun.com/document_detail/89299), "Register sub-devices" (89298), "Connect or disconnect
sub-devices" (89300), "Disable and delete sub-devices" (89303), and that on automatic subscription.
"""

from __future__ import annotations

import re
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

MAX_TOPIC = 128
"""Bytes of a topic ("Limits", document_detail/30527)."""

_DEVICE = r"(?P<product>[^/]+)/(?P<device>[^/]+)"
_CARRIES = re.compile(rf"/(?P<tree>sys|ext/session)/{_DEVICE}/(?P<method>.+)")
_TREES = r"sys|ext/session|ext/error|ext/ntp|ota/device/(?:upgrade|inform)|shadow/(?:get|update)"
_OWNED = (
    re.compile(rf"/(?:{_TREES})/{_DEVICE}(?:/.+)?"),
    re.compile(rf"/{_DEVICE}/user/.+"),
)


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
    """Return the owner of a topic.  None if it has none, and for a filter with wildcards.

    The vendor has wildcards for custom topics only, which are not simulated.
    """
    if len(topic_filter.encode()) > MAX_TOPIC or "+" in topic_filter or "#" in topic_filter:
        return None
    for pattern in _OWNED:
        if found := pattern.fullmatch(topic_filter):
            return found["product"], found["device"]
    return None


def topic(device: Name, method: str) -> str:
    """Return the topic of a request, or of an answer, of this device."""
    tree = "ext/session" if method.startswith("combine.") else "sys"
    return f"/{tree}/{device[0]}/{device[1]}/{method.replace('.', '/')}"


def error_topic(gateway: Name) -> str:
    """Return the topic that reports a sub-device forced offline."""
    return f"/ext/error/{gateway[0]}/{gateway[1]}"
