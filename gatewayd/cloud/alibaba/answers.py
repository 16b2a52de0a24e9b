"""What the cloud tells of a device that registers, read strictly.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gatewayd.device.record import CloudName

MAX_ANSWER = 4096
"""Bytes of an answer that is looked at; a real one has at most some hundred."""


def load(data: bytes) -> Mapping[str, object]:
    """Return a JSON object; an empty one for anything else."""
    if len(data) > MAX_ANSWER:
        return {}
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def names(told: Mapping[str, object], name: CloudName) -> bool:
    """Whether this is told of this device."""
    return (told.get("productKey"), told.get("deviceName")) == (name.product, name.device)


def word(told: Mapping[str, object], key: str, most: int = 64) -> str:
    """Return printable ASCII without spaces, 1 to `most` characters; "" for anything else.

    64: the size of the buffers of the vendor's C SDK.
    """
    value = told.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return ""
    return value if all("!" <= character <= "~" for character in value) else ""
