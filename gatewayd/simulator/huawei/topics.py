"""Topics of the Huawei platform.  Pure.

Sources: the vendor's pages on topics (api-iothub/iot_06_v5_3004), on custom topics
(usermanual-iothub/iot_02_9999 and iot_01_1114) and on limits (productdesc-iothub/iot_04_0010).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

MAX_CUSTOM, MAX_TOPICS = 50, 100
"""Subscriptions of one device: to custom topics, and all together."""
MAX_LENGTH = 128
"""Bytes of a custom topic, or of a filter for such topics."""

PROPERTIES = "gateway/sub_devices/properties/report"
_SYSTEM = re.compile(r"\$oc/devices/([^/]+)/sys/(.+)")
_RESERVED = "$"
_USER = re.compile(r"\$oc/devices/([^/]+)/user/(.+)")
_DOWN = re.compile(
    r"events/down|messages/down"
    r"|(?:commands|properties/set|properties/get|shadow/get/response)/"
    r"(?:#|\+|request_id=[^/+#]+)"
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
    """Whether a topic is no system topic: it begins without a $, or is a product's user topic."""
    return not topic.startswith(_RESERVED) or _USER.fullmatch(topic) is not None


def too_long(topic: str) -> bool:
    """Whether a custom topic, or a filter for such, is longer than the platform accepts."""
    return len(topic.encode()) > MAX_LENGTH


def catches_all(one: str) -> bool:
    """Whether a filter begins with a wildcard, and so asks for the topics of every device.

    A device subscribes to its own topics (devg-iothub/iot_02_2200); the wildcards that the vendor
    shows follow a first level (usermanual-iothub/iot_01_1114).
    """
    return one.split("/", 1)[0] in ("#", "+")


def of_product(topic: str) -> bool:
    """Whether a product, and no policy, decides on a custom topic."""
    return _USER.fullmatch(topic) is not None


def defined(topic: str, device_id: str, suffixes: Collection[str]) -> bool:
    """Whether a product's user topic is a device's own, and among those that the product has."""
    found = _USER.fullmatch(topic)
    return found is not None and found[1] == device_id and found[2] in suffixes


def downstream(use: str) -> bool:
    """Whether a system topic carries messages of the platform."""
    return _DOWN.fullmatch(use) is not None


def system(device_id: str, use: str) -> str:
    """Return a device's system topic."""
    return f"$oc/devices/{device_id}/sys/{use}"


def user(device_id: str, suffix: str) -> str:
    """Return a device's topic of this suffix, which its product defines."""
    return f"$oc/devices/{device_id}/user/{suffix}"


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
