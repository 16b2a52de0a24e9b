"""The rules of the Huawei platform for the texts of its fields.  Pure.

Source: the models of the vendor's management SDK (AddDevice, AuthInfo, AddProduct,
CreateProvisioningTemplate, CreateDevicePolicy and others).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError

_CHINESE = r"\u4e00-\u9fa5"
_COMMAS = r"\uff0c\u3001\uff1a\uff1b\u3002"
_PLAIN = rf"[{_CHINESE}A-Za-z0-9_?'#().,&%@!-]"
_ID = "[A-Za-z0-9_-]"

_RULES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "app_id": _ID + "{1,36}",
        "app_name": r"[^\x00-\x1f]{1,64}",
        "product_id": _ID + "{1,36}",
        "service_id": rf"[{_CHINESE}A-Za-z0-9_?'#().,&%@!$-]{{1,64}}",
        "member_name": _PLAIN + "{1,64}",
        "event_type": _PLAIN + "{1,32}",
        "product_topic": r"[A-Za-z0-9_/-]{1,64}",
        "message_id": _ID + "{1,100}",
        "message_name": _PLAIN + "{1,128}",
        "product_name": _PLAIN + "{1,64}",
        "device_type": _PLAIN + "{1,32}",
        "product_description": rf"[{_CHINESE}{_COMMAS}A-Za-z0-9\s_?'#().,;&%@!/-]{{0,128}}",
        "node_id": _ID + "{1,64}",
        "device_id": _ID + "{1,128}",
        "device_name": _PLAIN + "{1,256}",
        "device_description": _PLAIN + "{0,2048}",
        "secret": _ID + "{8,32}",
        "fingerprint": "[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}",
        "tag_key": rf"[{_CHINESE}A-Za-z0-9_.-]{{1,64}}",
        "tag_value": rf"[{_CHINESE}A-Za-z0-9_.-]{{1,128}}",
        "template_name": rf"[{_CHINESE}A-Za-z0-9_-]{{1,128}}",
        "template_description": _PLAIN + "{0,2048}",
        "policy_name": _ID + "{1,128}",
        "resource": r"topic:[A-Za-z0-9/{}$=+#?*:._-]{1,128}",
    }.items()
}

MAX_EXTENSION = 1_024
"""Bytes of a device's extension_info, as JSON."""


def fits(name: str, value: object) -> bool:
    """Whether a value is valid in a field."""
    return isinstance(value, str) and _RULES[name].fullmatch(value) is not None


def check(name: str, value: object) -> str:
    """Return the text of a field.  Raises PlatformError."""
    if isinstance(value, str) and fits(name, value):
        return value
    raise PlatformError(IotdaCode.INVALID_INPUT, f"({name})")


def optional(name: str, value: object) -> str | None:
    """Return the text of a field that may be missing.  Raises PlatformError."""
    return None if value is None else check(name, value)


def extension(value: object) -> object:
    """Return a device's extension_info: an object, or nothing.  Raises PlatformError."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if (value is None or isinstance(value, dict)) and size <= MAX_EXTENSION:
        return value
    raise PlatformError(IotdaCode.INVALID_INPUT, "(extension_info)")
