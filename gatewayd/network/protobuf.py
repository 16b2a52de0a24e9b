"""The wire format of Protocol Buffers: the fields of a message, of any schema.  Pure.

The schema of Sparkplug compiled for Python would be a dependency, on a library that Debian has in
other releases than the compiled schema needs.

Source: "Encoding" at protobuf.dev.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

ProtobufField: TypeAlias = tuple[int, int | bytes]
"""Number and value of a field; a value of 4 or 8 bytes, a text or a message as bytes."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_VARINT_BYTES = 10


class BadProtobuf(ValueError):
    """These bytes are no message; the text says why."""


def fields(data: bytes) -> Iterator[ProtobufField]:
    """Yield the fields of a message, in order.  Raises BadProtobuf."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _varint(data, at)
        else:
            if kind == _BYTES:
                size, at = _varint(data, at)
            elif kind in (_FIXED_32, _FIXED_64):
                size = 4 if kind == _FIXED_32 else 8
            else:
                raise BadProtobuf("an unknown kind of field")
            if size > len(data) - at:
                raise BadProtobuf("it ends too early")
            value, at = data[at : at + size], at + size
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of at most 64 bits, and where it ends.  Raises BadProtobuf."""
    number = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return number & (2**64 - 1), at + index + 1
    raise BadProtobuf("it ends too early")
