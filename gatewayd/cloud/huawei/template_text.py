"""The JSON of a template, with what a plain reader would hide: keys that come twice.  Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gatewayd.cloud.huawei.findings import Finding, Kind, quoted

MAX_BYTES = 64 << 10
"""Bytes of a template; the vendor names no bound, and one with all fields has 4 KiB."""


class Unreadable(Exception):
    """The text is no JSON; `finding` says where and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys came more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.repeated = {key for key, count in counts.items() if count > 1}


def load(data: bytes) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Return the value of a JSON text in UTF-8.  Raises Unreadable."""
    if len(data) > MAX_BYTES:
        what = f"must have at most {MAX_BYTES} bytes"
        raise Unreadable(Finding(Kind.TOO_LARGE, "", what))
    try:
        return json.loads(data.decode(), object_pairs_hook=_Object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        what = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError as error:
        what = f"is not JSON: line {_line(data, error.start)}: not UTF-8"
    except ValueError as error:
        what = f"is not JSON: {error}"
    except RecursionError:
        what = "is not JSON: too deeply nested"
    raise Unreadable(Finding(Kind.NOT_JSON, "", what))


def _no_constant(name: str) -> None:
    raise ValueError(f"it has no {name}")


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def repeated(value: object) -> Iterator[Finding]:
    """Yield a finding for each key that an object in a loaded value has more than once."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, list):
            waiting += [(f"{place}[{index}]", part) for index, part in enumerate(one)]
        elif isinstance(one, _Object):
            waiting += [(join(place, key), part) for key, part in one.items()]
            for key in sorted(one.repeated):
                what = f"has the key {quoted(key)} more than once"
                yield Finding(Kind.REPEATED_KEY, place, what, "leave one of them")


def join(place: str, key: str) -> str:
    """Return the place of a key in an object at a place; the key may hold anything."""
    shown = quoted(key).replace("'", "")
    return f"{place}.{shown}" if place else shown
