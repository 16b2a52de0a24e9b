"""Topics of the Huawei platform.  Pure.

Source: the vendor's page on topics (api-iothub/iot_06_v5_3004).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_CUSTOM, MAX_TOPICS = 50, 100
"""Subscriptions of one device: to custom topics, and all together."""

PROPERTIES = "gateway/sub_devices/properties/report"
_SYSTEM = re.compile(r"\$oc/devices/([^/]+)/sys/(.+)")
_RESERVED = "$oc/"
_USER = re.compile(r"\$oc/devices/([^/]+)/user/.+")
_DOWN = re.compile(
    r"events/down|messages/down|shadow/get/response/.+"
    r"|(?:commands|properties/set|properties/get|shadow/get/response)/(?:#|\+|request_id=.+)"
)


@dataclass(frozen=True, slots=True)
class HuaweiTopic:
    """A system topic: the device, and what follows `sys/`."""

    device_id: str
    use: str


def route(topic: str) -> HuaweiTopic | None:
    """Read a system topic; None for any other."""
    found = _SYSTEM.fullmatch(topic)
    return HuaweiTopic(found[1], found[2]) if found else None


def custom(topic: str) -> bool:
    """Whether policies govern a topic: those that do not begin with $oc, and user topics."""
    return not topic.startswith(_RESERVED) or _USER.fullmatch(topic) is not None


def owner_of_custom(topic: str) -> str | None:
    """Return the device of a product's custom topic; None for a topic without one."""
    found = _USER.fullmatch(topic)
    return found[1] if found else None


def downstream(use: str) -> bool:
    """Whether a system topic carries messages of the platform."""
    return _DOWN.fullmatch(use) is not None


def system(device_id: str, use: str) -> str:
    """Return a device's system topic."""
    return f"$oc/devices/{device_id}/sys/{use}"


def events_down(device_id: str) -> str:
    """Return the topic of events to a device."""
    return system(device_id, "events/down")


def matches(pattern: str, topic: str) -> bool:
    """Whether a filter matches a topic (MQTT 3.1.1, 4.7)."""
    wanted, levels = pattern.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)
