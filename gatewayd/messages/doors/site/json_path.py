"""Where in a JSON document a value is, or is to be: a path with one result.  Pure.

A path is a singular query of RFC 9535, 2.3.5.1, of which the leading `$.` may be left out, and
whose short names may hold any character but `.`, `[`, `]` and quotes, as in `temperature:0.tC`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

MAX_STEPS = 16
MAX_DOCUMENT = 256 * 1024
"""Bytes of a document that is read."""
MAX_BRACKETS = 10_000
"""Objects and arrays of a document, however they are nested; Python itself allows about a thousand
inside one another."""

JsonValue: TypeAlias = Any  # what json.loads returns: mypy has no recursive alias for it
Path: TypeAlias = Sequence[str | int]

ABSENT: Final = object()
"""There is nothing at this place."""

_NAME = r"[^.\[\]'\"\x00-\x1f]+"
_STEP = re.compile(
    rf"\.(?P<name>{_NAME})|\[(?P<index>0|[1-9][0-9]{{0,5}})\]"
    r"|\['(?P<single>[^'\x00-\x1f]+)'\]|\[\"(?P<double>[^\"\x00-\x1f]+)\"\]"
)


class BadPath(ValueError):
    """A path is invalid; the text completes the sentence "path …"."""


class BadDocument(ValueError):
    """A payload is no JSON document that is read here."""


def parse_path(text: str) -> Path:
    """Return the steps of a path, none for "$".  Raises BadPath."""
    rest = text.removeprefix("$") if text.startswith(("$.", "$[")) or text == "$" else f".{text}"
    if text.startswith("["):
        rest = text
    steps: list[str | int] = []
    while rest:
        step = _STEP.match(rest)
        if step is None or len(steps) == MAX_STEPS:
            raise BadPath(
                f"must be at most {MAX_STEPS} names with dots between, as params.temperature, or "
                "with ['…'] around a name that holds a dot"
            )
        number = step["index"]
        name = step["name"] or step["single"] or step["double"]
        steps.append(int(number) if number is not None else name)
        rest = rest[step.end() :]
    return tuple(steps)


def find(document: JsonValue, path: Path) -> JsonValue:
    """Return what is at a path; ABSENT where there is nothing."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                return ABSENT
            document = document[step]
        else:
            if not isinstance(document, dict) or step not in document:
                return ABSENT
            document = document[step]
    return document


def put(document: JsonValue, path: Path, value: JsonValue) -> JsonValue:
    """Return a document with a value at a path; the one given is changed.

    Objects on the way are made; an element of an array has to be there.  Raises BadPath.
    """
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        if not isinstance(document, list) or step >= len(document):
            raise BadPath("leads to an element of an array that is not there")
        document[step] = put(document[step], rest, value)
        return document
    if not isinstance(document, dict):
        raise BadPath("leads into what is no object")
    document[step] = put(document.get(step, {}), rest, value)
    return document


def read_document(payload: bytes) -> JsonValue:
    """Return a JSON document (RFC 8259).  Raises BadDocument.

    What is too large, or has too many parts, is refused before it is read.
    """
    if len(payload) > MAX_DOCUMENT or payload.count(b"[") + payload.count(b"{") > MAX_BRACKETS:
        raise BadDocument("too large")
    try:
        return json.loads(payload.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise BadDocument("no JSON") from error


def _refuse(word: str) -> JsonValue:
    raise BadDocument(f"{word[:16]} is no JSON")  # RFC 8259, 6
