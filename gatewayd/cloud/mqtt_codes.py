"""Codes of MQTT packets as they were sent, whatever paho made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACCEPTED, PROTOCOL_VERSION, _NOT_AUTHORISED = 0, 1, 5
_CODES: Mapping[int, int] = {0: 0, 132: 1, 133: 2, 136: 3, 134: 4, 135: 5}
"""MQTT 5 reason codes, as which paho 2 shows those of a CONNACK, to the bytes of MQTT 3.1.1."""


def connack(told: Any) -> int:  # noqa: ANN401  # an int, or a type that paho 1.6 lacks
    """Return the code as sent, whatever paho made of it; -1 for one MQTT 3.1.1 does not know."""
    code = told if isinstance(told, int) else _CODES.get(told.value, -1)
    return code if ACCEPTED <= code <= _NOT_AUTHORISED else -1


def suback(codes: Any) -> tuple[int, ...]:  # noqa: ANN401  # ints, or what paho 1.6 lacks
    """Return the codes of a SUBACK as sent."""
    return tuple(code if isinstance(code, int) else code.value for code in codes)
