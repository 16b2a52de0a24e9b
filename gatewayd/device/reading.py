"""What a child says in the neutral form: named values, and when they were true.  Pure.

The form is JSON (RFC 8259), and narrower: in UTF-8, one object, no name twice, and only values that
a cloud can have.  What a parser would read otherwise than its sender meant is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatewayd.device.reason import Reason

TIME = "time"
"""The member with the time."""
EARLIEST, LATEST = 946_684_800_000, 4_102_444_800_000
"""The times that are accepted, in milliseconds since the epoch: 2000 to 2100.  Seconds, which are
the commonest mistake, would be in January 1970."""
MAX_DEPTH = 8
"""Levels of objects and lists inside a value."""

_LARGEST = 1 << 63
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Reading:
    """values: by name; perhaps none.  time: milliseconds since the epoch; 0 where it has none."""

    values: Mapping[str, object]
    time: int


class UnfitMessage(Exception):
    """A message that the cloud cannot be given; another attempt would end in the same way."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


NO_OBJECT = Reason(
    "message-unreadable",
    "The message is no JSON object in UTF-8.",
    'Send an object of names and values, as {"temperature": 21.5}.',
)
NAME_TWICE = Reason(
    "message-unreadable",
    "The message has a name twice.",
    "Send each name once in a message.",
)
WRONG_TIME = Reason(
    "message-time-unfit",
    'The member "time" of the message is no time from 2000 to 2100.',
    "Send it as a whole number of milliseconds since 1970, UTC, or leave it out.",
)


def read(payload: bytes) -> Reading:
    """Return what a message in the neutral form says.  Raises UnfitMessage."""
    values = read_object(payload)
    time = values.pop(TIME, None)
    for name, value in values.items():
        if not _is_fit(value):
            raise UnfitMessage(_unfit(name))
    if time is None:
        return Reading(values, 0)
    if type(time) is not int or not EARLIEST <= time < LATEST:
        raise UnfitMessage(WRONG_TIME)
    return Reading(values, time)


def read_object(payload: bytes) -> dict[str, object]:
    """Return the members of a JSON object, which may be anything.  Raises UnfitMessage."""
    try:
        found = json.loads(payload.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, NaN, a number of too many digits
        raise UnfitMessage(NO_OBJECT) from None
    if not isinstance(found, dict):
        raise UnfitMessage(NO_OBJECT)
    return found


def shown(name: str) -> str:
    """Return a name that a child has sent, in a form that may be shown."""
    return f'"{name}"' if _PLAIN.fullmatch(name) else "one of its values"


def _unique(members: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) < len(members):
        raise UnfitMessage(NAME_TWICE)
    return found


def _refuse(_: str) -> object:
    raise ValueError


def _is_fit(value: object, depth: int = 0) -> bool:
    """Whether a cloud can have this value: JSON, without null, and numbers in 64 bits."""
    if isinstance(value, list | dict):
        inside = value if isinstance(value, list) else [*value, *value.values()]
        return depth < MAX_DEPTH and all(_is_fit(one, depth + 1) for one in inside)
    match value:
        case int():  # a truth value is one, too
            return -_LARGEST <= value < _LARGEST
        case float():
            return math.isfinite(value)
        case str():
            return _SURROGATE.search(value) is None
    return False


def _unfit(name: str) -> Reason:
    return Reason(
        "message-value-unfit",
        f"The cloud cannot have the value of {shown(name)}: it is null, a number beyond 64 bits, "
        "broken text, or nested too deeply.",
        "Correct what the child sends, or leave the value out.",
    )
