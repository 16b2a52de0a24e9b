"""The rules that a device policy of the Huawei platform is made of.  Pure.

Source: the vendor's model Statement, and its page on wildcards (usermanual-iothub/iot_01_1114).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from gatewayd.testing.simulator.huawei import fields
from gatewayd.testing.simulator.huawei.errors import Code, PlatformError

ACTIONS = ("iotda:devices:publish", "iotda:devices:subscribe")
EVERYTHING = [{"effect": "ALLOW", "actions": [*ACTIONS], "resources": ["topic:*"]}]
"""What the default policy of a resource space says."""

MAX_DOCUMENT, MAX_STATEMENTS, MAX_RESOURCES = 10_240, 10, 10
_DEVICE, _WILD = "${devices.deviceId}", {"*": ".*", "?": "."}


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule.  effect: ALLOW or DENY."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def concerns(self, device_id: str, action: str, topic: str) -> bool:
        """Whether the rule is about this.  action: publish or subscribe."""
        return f"iotda:devices:{action}" in self.actions and any(
            _pattern(one, device_id).fullmatch(topic) for one in self.resources
        )


def read(document: object) -> tuple[Statement, ...]:
    """Read a policy's document, as JSON has it.  Raises PlatformError."""
    size = len(json.dumps(document, separators=(",", ":")).encode())
    if not isinstance(document, list) or not 1 <= len(document) <= MAX_STATEMENTS:
        raise PlatformError(Code.INVALID_INPUT, "(statement)")
    if size > MAX_DOCUMENT:
        raise PlatformError(Code.INVALID_INPUT, "(statement)")
    return tuple(_statement(one) for one in document)


def _statement(one: object) -> Statement:
    match one:
        case {"effect": "ALLOW" | "DENY" as effect, "actions": [*actions], "resources": [*topics]}:
            known = len(actions) > 0 and all(action in ACTIONS for action in actions)
            if known and 1 <= len(topics) <= MAX_RESOURCES:
                checked = tuple(fields.check("resource", topic) for topic in topics)
                return Statement(effect, tuple(actions), checked)
    raise PlatformError(Code.INVALID_INPUT, "(statement)")


def _pattern(resource: str, device_id: str) -> re.Pattern[str]:
    """`*` is any run, `?` any one character; the `+` and `#` of MQTT are only themselves."""
    topic = resource.removeprefix("topic:").replace(_DEVICE, device_id)
    parts = re.split(r"([*?])", topic)
    return re.compile("".join(_WILD.get(part) or re.escape(part) for part in parts))
