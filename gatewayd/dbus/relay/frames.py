"""The stream of a bus, cut into messages by their headers; what is refused never goes on.  Pure.

GLib parses a message whole before anyone can refuse it: 128 KiB of small values take it 12 ms, and
a bus keeps 127 MiB of messages for one receiver, in one order for all who sent them.  So headers
are read here, and the body of what is refused is passed over, 128 KiB in 10 microseconds.

In the place of a refused call there is a short one, of the same sender and serial, whose interface
is REFUSED and whose member says why: it is answered as any other.  (D-Bus specification, "Message
Protocol"; the bus has checked that messages are valid before it sends them on.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from gatewayd.dbus.names import NAME

REFUSED: Final = f"{NAME}.Refused"
"""The interface of a call that takes the place of one that is refused."""
MAX_HEADER: Final = 16 << 10
"""Bytes of a header, names and paths, that are read; none of ours has a kilobyte."""
NO_REPLY: Final = 1
"""The flag of a call whose sender awaits no reply."""
LEFT_OUT: Final = "LeftOut"
"""Why a message goes no further, and leaves no call in its place."""

_FIXED = 16
_PATH, _INTERFACE, _MEMBER, _SENDER, _SIGNATURE, _DESCRIPTORS = 1, 2, 3, 7, 8, 9


class MessageKind(IntEnum):
    """The kind of a message; there may be others, which are to be ignored."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


class MessageHeader(NamedTuple):
    """What the header of a message says.

    size: bytes of the body.  signature: the types in it.  descriptors: how many come with it.
    """

    kind: int
    flags: int
    serial: int
    size: int
    sender: str = ""
    signature: str = ""
    descriptors: int = 0

    @property
    def awaits_reply(self) -> bool:
        """Whether its sender awaits a reply."""
        return self.kind == MessageKind.CALL and not self.flags & NO_REPLY


class Piece(NamedTuple):
    """Octets that go on.  data: may be empty, where nothing of a message goes on.

    descriptors: how many came with the first of them.  keeps_them: whether they go on, too; they
    are to be closed otherwise.
    """

    data: bytes
    descriptors: int = 0
    keeps_them: bool = True


Judge = Callable[[MessageHeader], str]
"""Returns why a message goes no further: a name for a member, or LEFT_OUT; "" to let it on."""


class MessageSieve:
    """A stream of messages, from which those are left out that are refused.

    judge: called once for each message whose header can be read.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._held = b""
        self._left = 0
        self._passes = False

    @property
    def is_within_header(self) -> bool:
        """Whether the last message that has begun is not judged yet."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield what goes on of the octets that came next.  Raises ValueError: no message.

        A message whose header is too long or cannot be read is passed over.
        """
        data, at, end = self._held + data, 0, len(self._held) + len(data)
        while at < end:
            if self._left:
                stop = min(end, at + self._left)
                if self._passes:
                    yield Piece(data[at:stop])
                self._left -= stop - at
                at = stop
            elif (size := _header_size(data, at, end)) == 0:
                break
            elif size > MAX_HEADER or (header := _readable(data[at : at + size])) is None:
                self._left, self._passes = size + _body_size(data, at), False
            else:
                why = self._judge(header)
                self._left, self._passes = header.size, not why
                yield self._piece(header, data[at : at + size], why)
                at += size
        self._held = data[at:]

    def _piece(self, header: MessageHeader, raw: bytes, why: str) -> Piece:
        if not why:
            return Piece(raw, header.descriptors)
        stands = why != LEFT_OUT and header.awaits_reply
        return Piece(refused_call(header, why) if stands else b"", header.descriptors, False)


def _readable(raw: bytes) -> MessageHeader | None:
    """Return what a header says; None for one that has fields which the specification has not."""
    try:
        return read_header(raw)
    except ValueError:
        return None


def read_header(raw: bytes) -> MessageHeader:
    """Read a whole header.  Raises ValueError."""
    order = _order(raw, 0)
    try:
        _, kind, flags, _, size, serial, length = struct.unpack_from(f"{order}4B3I", raw)
        header, at = MessageHeader(kind, flags, serial, size), _FIXED
        while at < _FIXED + length:
            at += -at % 8
            code, at, value = raw[at], *_value(order, raw, at + 1)
            if code == _SENDER and isinstance(value, str):
                header = header._replace(sender=value)
            elif code == _SIGNATURE and isinstance(value, str):
                header = header._replace(signature=value)
            elif code == _DESCRIPTORS and isinstance(value, int):
                header = header._replace(descriptors=value)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"no header of a message: {error}") from error
    return header


def _value(order: str, raw: bytes, at: int) -> tuple[int, str | int]:
    """Read a field, a variant of a text, a signature or a number; return where it ends, and it."""
    kind = raw[at : at + 3]
    at += 3
    if kind == b"\1g\0":
        end = at + 1 + raw[at]
        return end + 1, raw[at + 1 : end].decode("ascii")
    if kind not in (b"\1s\0", b"\1o\0", b"\1u\0"):
        raise ValueError("a field of a header is of another type")
    at += -at % 4
    (number,) = struct.unpack_from(f"{order}I", raw, at)
    if kind == b"\1u\0":
        return at + 4, int(number)
    end = at + 4 + number
    if end >= len(raw):
        raise ValueError("a field of a header goes beyond it")
    return end + 1, raw[at + 4 : end].decode()


def refused_call(header: MessageHeader, why: str) -> bytes:
    """Return what takes the place of a call: without arguments and descriptors."""
    fields = bytearray()
    texts = ((_PATH, "o", "/"), (_INTERFACE, "s", REFUSED), (_MEMBER, "s", why),
             (_SENDER, "s", header.sender))  # fmt: skip
    for code, kind, text in texts:
        fields += bytes(-len(fields) % 8)
        fields += struct.pack("<BB1sBI", code, 1, kind.encode(), 0, len(text))
        fields += text.encode() + b"\0"
    fixed = struct.pack("<s3B3I", b"l", header.kind, header.flags, 1, 0, header.serial, len(fields))
    return fixed + bytes(fields) + bytes(-len(fields) % 8)


def _order(data: bytes, at: int) -> str:
    if data[at] not in b"lB":
        raise ValueError("no message of D-Bus begins so")
    return "<" if data[at] == ord("l") else ">"


def _header_size(data: bytes, at: int, end: int) -> int:
    """Return the bytes of a header; 0 where more have to come.  A large one is not awaited."""
    if end - at < _FIXED:
        return 0
    (length,) = struct.unpack_from(f"{_order(data, at)}I", data, at + 12)
    size = _FIXED + int(length) + -length % 8
    return size if size <= end - at or size > MAX_HEADER else 0


def _body_size(data: bytes, at: int) -> int:
    (size,) = struct.unpack_from(f"{_order(data, at)}I", data, at + 4)
    return int(size)
