"""GVariant's serialisation of the types that children are shown in.

GLib makes a value of many small ones, and each costs a call from Python.  The format:
docs.gtk.org/glib, "GVariant serialization"; a test compares each type with what GLib makes.

A value is padded to its alignment within what contains it.  Where the end of a member of variable
size does not follow from its place, it is listed behind the members.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

ALIGNMENT: Final = {
    "s": 1, "o": 1, "as": 1, "u": 4, "t": 8, "v": 8, "a{sv}": 8, "a{sa{sv}}": 8,
}  # fmt: skip
FIXED: Final = ("u", "t")
"""The types whose values all have one size."""

_WIDTHS: Final = ((1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF), (8, 0xFFFF_FFFF_FFFF_FFFF))
_PADDING: Final = tuple(bytes(length) for length in range(8))


def text(value: str) -> bytes:
    """Return a string, or an object path.  Raises ValueError where it has a NUL or a surrogate."""
    if "\0" in value:
        raise ValueError("a D-Bus string has no NUL")
    return value.encode() + b"\0"


def texts(values: Iterable[str]) -> bytes:
    """Return an as."""
    return array((text(value) for value in values), 1)


PACK: Final[dict[str, Callable[[Any], bytes]]] = {
    "s": text,
    "o": text,
    "u": struct.Struct("=I").pack,
    "t": struct.Struct("=Q").pack,
    "as": texts,
}
"""Makes a value of a type that a property has."""


def structure(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a tuple or a dictionary entry, with type and bytes of each member.

    At least one member is of variable size.
    """
    body, ends, last = bytearray(), list[int](), len(members) - 1
    for position, (kind, data) in enumerate(members):
        body += _PADDING[-len(body) % ALIGNMENT[kind]]
        body += data
        if kind not in FIXED and position < last:
            ends.append(len(body))
    ends.reverse()
    return _framed(body, ends)


def array(elements: Iterable[bytes], alignment: int) -> bytes:
    """Return an array of elements of variable size, of this alignment."""
    body, ends = bytearray(), list[int]()
    for element in elements:
        body += _PADDING[-len(body) % alignment]
        body += element
        ends.append(len(body))
    return _framed(body, ends)


def properties(values: Iterable[tuple[str, str, bytes]]) -> bytes:
    """Return an a{sv} of name, type and bytes of each value.  Names and types are few."""
    return array((_property(name, kind, data) for name, kind, data in values), 8)


def _property(name: str, kind: str, data: bytes) -> bytes:
    """Return an {sv}: the name, padded, the v with its type behind the value, the name's end."""
    padded, type_string, end = _around(name, kind)
    return _framed(bytearray(padded + data + type_string), (end,))


@cache
def _around(name: str, kind: str) -> tuple[bytes, bytes, int]:
    packed = text(name)
    return packed + _PADDING[-len(packed) % 8], b"\0" + kind.encode(), len(packed)


def _framed(body: bytearray, ends: Sequence[int]) -> bytes:
    """Append the ends, each in as few bytes as suffice for the whole."""
    if count := len(ends):
        width = next(w for w, most in _WIDTHS if len(body) + count * w <= most)
        for end in ends:
            body += end.to_bytes(width, sys.byteorder)
    return bytes(body)
