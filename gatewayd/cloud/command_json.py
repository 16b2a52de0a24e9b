"""JSON of commands and their answers, read and written within bounds.  Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from gatewayd.device import reading
from gatewayd.device.reading import UnfitMessage

MAX_NAME, MAX_MEMBERS = 128, 256
"""Characters of the name of a service, a command or a property; and arguments of one command."""
MAX_BRACKETS = 2000
"""Objects and lists of a command: three bytes make one, which holds a hundred once it is read."""


def load(payload: bytes, most: int) -> dict[str, object] | None:
    """Return the object in a payload of at most so many bytes; None for anything else.

    What it returns can be written as JSON again, by `dump`.
    """
    if len(payload) > most or payload.count(b"{") + payload.count(b"[") > MAX_BRACKETS:
        return None
    try:
        found = reading.read_object(payload)
    except UnfitMessage:
        return None
    return found if dump(found, 8 * most) is not None else None


def name_in(members: Mapping[str, object], key: str) -> str | None:
    """Return a name, "" where there is none; None for what cannot be a name."""
    value = members.get(key)
    if value is None:
        return ""
    return value if isinstance(value, str) and (is_name(value) or not value) else None


def are_names(texts: Collection[str]) -> bool:
    """Whether texts can be the names of a command's arguments, or of properties."""
    return len(texts) <= MAX_MEMBERS and all(map(is_name, texts))


def is_name(text: str) -> bool:
    """Whether a text can be a name."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def dump(value: object, most: int) -> bytes | None:
    """Return JSON of at most so many bytes; None where there is none, as of broken text."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        data = text.encode()
    except (ValueError, TypeError, RecursionError):
        return None
    return data if len(data) <= most else None
