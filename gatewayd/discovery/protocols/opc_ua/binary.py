"""The binary encoding of OPC UA, as far as discovery needs it: OPC 10000-6, 5.2.  Pure.

What is read is bounded by what was received, and by a number of elements that each caller names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from gatewayd.discovery.probing.protocol import UnreadableAnswer

T = TypeVar("T")

MAX_TEXT = 4096
"""Bytes of a text: what OPC 10000-6, 7.1.2.3, allows for a URL."""
NO_DATA = -1
"""The length of what is null (5.2.2.4)."""

_NUMERIC = {0: "<B", 1: "<xH", 2: "<HI"}
"""The forms of a numeric NodeId, by its first byte: the number is the last field (5.2.2.9)."""
_LOCALE, _TEXT = 0x01, 0x02
_TO_1601 = 11_644_473_600
"""Seconds from 1601 to 1970."""
_TICKS = 10_000_000


class UaReader:
    """A reader of values, one after another.  Each method raises UnreadableAnswer."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def u8(self) -> int:
        """Read a Byte."""
        return self._number("<B")

    def u32(self) -> int:
        """Read a UInt32, a StatusCode or an enumeration."""
        return self._number("<I")

    def i64(self) -> int:
        """Read a DateTime: 100 ns since 1601."""
        return self._number("<q")

    def octets(self, most: int) -> bytes:
        """Read a ByteString of at most so many bytes; b"" for null."""
        size = self._number("<i")
        if size == NO_DATA:
            return b""
        if not 0 <= size <= most:
            raise UnreadableAnswer("garbled")
        return self._cut(size)

    def text(self) -> str:
        """Read a String; "" for null.  What is no UTF-8 is replaced."""
        return self.octets(MAX_TEXT).decode("utf-8", "replace")

    def localized_text(self) -> str:
        """Read a LocalizedText, without its locale (5.2.2.14)."""
        mask = self.u8()
        if mask & ~(_LOCALE | _TEXT):
            raise UnreadableAnswer("garbled")
        if mask & _LOCALE:
            self.text()
        return self.text() if mask & _TEXT else ""

    def numeric_id(self) -> int:
        """Read the number of a numeric NodeId."""
        form = _NUMERIC.get(self.u8())
        if form is None:
            raise UnreadableAnswer("garbled")
        return self._number(form)

    def array(self, read: Callable[[], T], most: int) -> list[T]:
        """Read an array of at most so many elements; none for null.  read: reads one."""
        count = self._number("<i")
        if count == NO_DATA:
            return []
        if not 0 <= count <= most:
            raise UnreadableAnswer("endless")
        return [read() for _ in range(count)]

    def rest(self) -> bytes:
        """Return all that was not read yet."""
        return self._cut(len(self._raw) - self._at)

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self._cut(struct.calcsize(form)))[-1]
        return number

    def _cut(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._raw):
            raise UnreadableAnswer("garbled")
        found = self._raw[self._at : end]
        self._at = end
        return found


def u32(*numbers: int) -> bytes:
    """Return some UInt32."""
    return struct.pack(f"<{len(numbers)}I", *numbers)


def octets(raw: bytes | None) -> bytes:
    """Return a ByteString or a String, in UTF-8.  raw: None for null."""
    return struct.pack("<i", NO_DATA) if raw is None else struct.pack("<i", len(raw)) + raw


def text(value: str) -> bytes:
    """Return a String."""
    return octets(value.encode())


def texts(values: Sequence[str]) -> bytes:
    """Return an array of String."""
    return struct.pack("<i", len(values)) + b"".join(map(text, values))


def date_time(at: float) -> bytes:
    """Return a DateTime (5.2.2.5).  at: seconds since the epoch."""
    return struct.pack("<q", int((at + _TO_1601) * _TICKS))


def numeric_id(number: int) -> bytes:
    """Return a numeric NodeId of the namespace 0, in the form of four bytes."""
    return struct.pack("<BBH", 1, 0, number)
