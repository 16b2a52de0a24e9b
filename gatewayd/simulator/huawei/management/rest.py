"""Requests and paged answers of the simulated Huawei platform's management interface.  Pure.

Source: the vendor's API reference (api-iothub), its headers, bodies, and limit, marker and offset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance

Json: TypeAlias = Mapping[str, object]

PAGE, MAX_PAGE, MAX_OFFSET = 10, 50, 500
"""Entries of a page, by default and at most; and the highest offset."""
MAX_NUMBER = 2**31 - 1
_MARKER, _NEWEST = re.compile("[0-9a-f]{24}"), "f" * 24
_T = TypeVar("_T")


class Fields:
    """Received fields, by name; null counts as missing.  Its methods raise PlatformError."""

    def __init__(self, values: Json) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        """Return a text, or None where it is missing."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise _wrong(name)

    def demand(self, name: str) -> str:
        """Return a text that must be there."""
        if (value := self.text(name)) is not None:
            return value
        raise _wrong(name)

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        """Return a boolean, which a query has as text."""
        match self._values.get(name):
            case None:
                return default
            case bool(value):
                return value
            case "true" | "false" as word:
                return word == "true"
        raise _wrong(name)

    def number(self, name: str, default: int, least: int = 0, most: int = MAX_NUMBER) -> int:
        """Return a number of a range, which a query has as text."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise _wrong(name)

    def inner(self, name: str) -> Fields:
        """Return the fields of an object; none where it is missing."""
        value = self._values.get(name)
        if value is None or isinstance(value, dict):
            return Fields(value or {})
        raise _wrong(name)

    def objects(self, name: str) -> Sequence[Fields]:
        """Return the objects of a list."""
        return [Fields(one) for one in self.listed(name, dict)]

    def listed(self, name: str, kind: type[_T]) -> Sequence[_T]:
        """Return a list of this kind."""
        value = self._values.get(name)
        if isinstance(value, list) and all(isinstance(one, kind) for one in value):
            return value
        raise _wrong(name)

    def any(self, name: str) -> object:
        """Return a value of any type."""
        return self._values.get(name)

    def given(self, *names: str) -> dict[str, object]:
        """Return those of these fields that were received, null ones included."""
        return {name: self._values[name] for name in names if name in self._values}


@dataclass(frozen=True, slots=True)
class ManagementRequest:
    """A request.  path: the variables of its path, as {"device_id": …}."""

    instance: IotdaInstance
    path: Mapping[str, str]
    query: Fields
    body: Fields


ManagementAnswer: TypeAlias = "Json | None"
ManagementView: TypeAlias = Callable[
    [ManagementRequest], "ManagementAnswer | Awaitable[ManagementAnswer]"
]
ManagementRoute: TypeAlias = tuple[str, str, int, ManagementView]
"""Method, path below the project, HTTP status, and handler, which may wait for a device."""


class Recorded(Protocol):
    """An entry of a page."""

    @property
    def record_id(self) -> str: ...


_R = TypeVar("_R", bound=Recorded)


def read_body(data: bytes) -> Fields:
    """Parse a JSON object; no bytes are an empty one.  Raises PlatformError."""
    try:
        body = json.loads(data or b"{}", parse_constant=_refuse)
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise PlatformError(IotdaCode.BAD_REQUEST) from None
    if not isinstance(body, dict):
        raise PlatformError(IotdaCode.BAD_REQUEST)
    return Fields(body)


def read_query(text: str) -> Fields:
    """Parse a query string."""
    return Fields(dict(parse_qsl(text)))


def page(
    name: str, found: Iterable[_R], fields: Fields, view: Callable[[_R], object]
) -> dict[str, object]:
    """Return the page of limit, marker and offset: newest first, after the marker's record.

    Raises PlatformError.
    """
    limit = fields.number("limit", PAGE)
    if not 1 <= limit <= MAX_PAGE:
        raise PlatformError(IotdaCode.LIMIT_OUT_OF_RANGE)
    offset = fields.number("offset", 0, 0, MAX_OFFSET)
    marker = fields.text("marker") or _NEWEST
    if not _MARKER.fullmatch(marker):
        raise PlatformError(IotdaCode.MARKER_OUT_OF_RANGE)
    records = sorted(found, key=lambda one: one.record_id, reverse=True)
    older = [one for one in records if marker == _NEWEST or one.record_id < marker]
    shown = older[offset : offset + limit]
    last = shown[-1].record_id if shown else None
    return {
        name: [view(one) for one in shown],
        "page": {"count": len(records), "marker": last},
    }


def _wrong(name: str) -> PlatformError:
    return PlatformError(IotdaCode.INVALID_INPUT, f"({name})")


def _refuse(constant: str) -> object:
    raise ValueError(constant)
