"""Values of a payload: read as JSON or text, converted, and written in the neutral form.  Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TypeAlias

from gatewayd.messages.door_settings import TIME, Unit, ValueSettings, is_property
from gatewayd.messages.doors.site.json_path import ABSENT, JsonValue, Path, find, parse_path

Scalar: TypeAlias = str | int | float | bool

MAX_VALUES = 256
"""Properties of one message."""
MAX_TEXT = 4096
"""Characters of a text."""
_MAX_INTEGER = 2**63
_DIGITS = 12
"""Significant digits of a value that was converted."""

_SECONDS_BELOW = 100_000_000_000
"""A time below is in seconds, as of the year 5138, and not in milliseconds, as of 1973."""
_EARLIEST, _LATEST = 946_684_800_000, 4_102_444_800_000  # the years 2000 to 2100

_ON_OFF: Mapping[str, bool] = {
    "on": True, "true": True, "1": True, "open": True, "online": True, "detected": True,
    "off": False, "false": False, "0": False, "closed": False, "offline": False, "clear": False,
}  # fmt: skip

_OF_TRUTH = (Unit.ON_OFF, Unit.TRUE_FALSE)

_CONVERT: Mapping[Unit, Callable[[float], float]] = {
    Unit.FAHRENHEIT: lambda value: (value - 32) / 1.8,
    Unit.KELVIN: lambda value: value - 273.15,
    Unit.MILLIVOLT: lambda value: value / 1000,
    Unit.MILLIAMPERE: lambda value: value / 1000,
    Unit.KILOWATT: lambda value: value * 1000,
    Unit.WATT_HOUR: lambda value: value / 1000,
    Unit.WATT_MINUTE: lambda value: value / 60_000,
}


_REVERT: Mapping[Unit, Callable[[float], float]] = {
    Unit.FAHRENHEIT: lambda value: value * 1.8 + 32,
    Unit.KELVIN: lambda value: value + 273.15,
    Unit.MILLIVOLT: lambda value: value * 1000,
    Unit.MILLIAMPERE: lambda value: value * 1000,
    Unit.KILOWATT: lambda value: value / 1000,
    Unit.WATT_HOUR: lambda value: value * 1000,
    Unit.WATT_MINUTE: lambda value: value * 60_000,
}


def scalar(value: object) -> Scalar | None:
    """Return a value that can be passed on; None for any other."""
    match value:
        case bool():
            return value
        case int() if -_MAX_INTEGER <= value < _MAX_INTEGER:
            return value
        case float() if math.isfinite(value):
            return value
        case str() if len(value) <= MAX_TEXT:
            return value
    return None


def converted(value: object, settings: ValueSettings) -> Scalar | None:
    """Return a value in the unit that the cloud is to get; None where it has none."""
    plain = scalar(value)
    if settings.unit in _OF_TRUTH:
        return _truth(plain)
    if settings.unit is None and (settings.scale, settings.offset) == (1, 0):
        return plain
    number = _number(plain)
    if number is None:
        return None
    if settings.unit is not None:
        number = _CONVERT[settings.unit](number)
    return _rounded(number * settings.scale + settings.offset)


def reverted(value: object, settings: ValueSettings) -> Scalar | None:
    """Return a value of the cloud as the device gets it, the way back of `converted`.

    None where that cannot be done.  A whole number stays one.
    """
    plain = scalar(value)
    if settings.unit in _OF_TRUTH:
        truth = _truth(plain)
        if truth is None or settings.unit is Unit.TRUE_FALSE:
            return truth
        return "ON" if truth else "OFF"
    if settings.unit is None and (settings.scale, settings.offset) == (1, 0):
        return plain
    number = _number(plain)
    if number is None or not settings.scale:
        return None
    number = (number - settings.offset) / settings.scale
    if settings.unit is not None:
        number = _REVERT[settings.unit](number)
    rounded = _rounded(number)
    return int(rounded) if isinstance(rounded, float) and rounded.is_integer() else rounded


def _truth(plain: Scalar | None) -> bool | None:
    return _ON_OFF.get(str(plain).strip().lower()) if plain is not None else None


def _rounded(number: float) -> Scalar | None:
    return scalar(float(f"{number:.{_DIGITS}g}"))


def _number(value: Scalar | None) -> float | None:
    """Return a number, also where it was sent as a text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return None


def from_text(payload: bytes) -> Scalar | None:
    """Return the one value that a payload is: a number, true or false, or any other text."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, float):
        try:
            # no underscores, which Python would read as part of a number
            return scalar(read(text)) if "_" not in text and len(text) <= MAX_TEXT else None
        except ValueError:
            continue
    return scalar(text) if text else None


class JsonValues:
    """The values of JSON documents, where the settings say that they are.

    wanted: by property; empty for each number, text and truth value that the document itself has.
    time: a path; "" for none.
    """

    def __init__(self, wanted: Mapping[str, ValueSettings], time: str) -> None:
        self._wanted = [(name, parse_path(one.path), one) for name, one in wanted.items()]
        self._time: Path | None = parse_path(time) if time else None

    def read(self, document: JsonValue) -> dict[str, Scalar]:
        """Return the values that a document has."""
        if self._wanted:
            return present(
                (name, converted(find(document, path), one)) for name, path, one in self._wanted
            )
        own = document if isinstance(document, dict) else {}
        of_time = self._time[0] if self._time is not None and len(self._time) == 1 else TIME
        return present(
            (name, scalar(value)) for name, value in own.items() if name not in (TIME, of_time)
        )

    def time(self, document: JsonValue) -> int | None:
        """Return when it was measured, milliseconds since the epoch; None where it does not say."""
        if self._time is None or (value := find(document, self._time)) is ABSENT:
            return None
        return milliseconds(value)


def present(values: Iterator[tuple[str, Scalar | None]]) -> dict[str, Scalar]:
    """Return those that are there, MAX_VALUES at most, and whose names are names."""
    found: dict[str, Scalar] = {}
    for name, value in values:
        if value is not None and is_property(name) and len(found) < MAX_VALUES:
            found[name] = value
    return found


def milliseconds(value: object) -> int | None:
    """Return a time in milliseconds since the epoch: from such, from seconds, or from RFC 3339.

    None for any other, as for a time without its offset to UTC.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        value = moment.timestamp() if moment.tzinfo is not None else None
    value = scalar(value)  # a number of more than 64 bits is no time either
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    exact = int(value * 1000 if abs(value) < _SECONDS_BELOW else value)
    return exact if _EARLIEST <= exact < _LATEST else None


def neutral(values: Mapping[str, Scalar], time: int | None) -> bytes:
    """Return values in the neutral form: a flat JSON object."""
    content = dict(values) if time is None else {**values, TIME: time}
    return json.dumps(content, separators=(",", ":")).encode()
