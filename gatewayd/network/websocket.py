"""WebSocket for a client: the upgrade of an HTTP connection, and frames.  Pure.

MQTT travels in binary frames; a packet may begin and end anywhere in them (MQTT 3.1.1, 6).
Source: RFC 6455 (The WebSocket Protocol); the numbers in brackets are its sections.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from enum import IntEnum
from http import HTTPStatus

from gatewayd.network.http_head import HttpError, HttpHead, authority
from gatewayd.network.mqtt_rules import PacketError

SUBPROTOCOL = b"mqtt"
KEY_BYTES, MASK_BYTES = 16, 4
MAX_CONTROL = 125
"""Bytes of the payload of a control frame [5.5]."""
NORMAL_CLOSE = (1000).to_bytes(2)
"""The status of a close frame that ends a connection in good order [7.4.1]."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HTTPS_PORT = 443
_FINAL, _MASKED, _RESERVED, _OPCODE, _LENGTH = 0x80, 0x80, 0x70, 0x0F, 0x7F
_CONTROL = 0x08
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # instead of a length [5.2]
_MAX_LENGTH = (1 << 63) - 1


class Opcode(IntEnum):
    """The kinds of frames [5.2]; others are reserved."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


def upgrade_request(host: str, port: int, path: str, nonce: bytes) -> bytes:
    """Return the request for an upgrade [4.1].  nonce: KEY_BYTES at random.

    Raises UnicodeError where the host has no such name.
    """
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {authority(host, port, _HTTPS_PORT)}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {b64encode(nonce).decode()}",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL.decode()}",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


def accept_of(nonce: bytes) -> bytes:
    """Return what a server proves with that it has understood the request [4.2.2]."""
    # SHA-1 is what the protocol has; nothing depends on its strength
    return b64encode(hashlib.sha1(b64encode(nonce) + _GUID, usedforsecurity=False).digest())


def check_upgrade(head: HttpHead, nonce: bytes) -> None:
    """Raise HttpError where an answer is no upgrade [4.1]."""
    if head.status != HTTPStatus.SWITCHING_PROTOCOLS:
        raise HttpError(f"the status {head.status}")
    upgrade, connection = head.only(b"upgrade"), head.values(b"connection")
    if (upgrade or b"").lower() != b"websocket":
        raise HttpError("an upgrade to another protocol")
    if b"upgrade" not in {word.strip().lower() for one in connection for word in one.split(b",")}:
        raise HttpError("no upgrade of the connection")
    if head.only(b"sec-websocket-accept") != accept_of(nonce):
        raise HttpError("an answer to another request")
    if head.values(b"sec-websocket-extensions"):
        raise HttpError("an extension that was not asked for")
    if head.only(b"sec-websocket-protocol") not in (None, SUBPROTOCOL):
        raise HttpError("another subprotocol")


def frame(opcode: Opcode, payload: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """Return a whole frame of a client [5.2, 5.3].  mask: MASK_BYTES at random."""
    length = len(payload)
    if length < _TWO_BYTES:
        size = bytes((_MASKED | length,))
    elif length <= 0xFFFF:  # noqa: PLR2004  # what two bytes hold
        size = bytes((_MASKED | _TWO_BYTES,)) + length.to_bytes(2)
    else:
        size = bytes((_MASKED | _EIGHT_BYTES,)) + length.to_bytes(8)
    return b"".join((bytes((_FINAL | opcode,)), size, mask, _masked(payload, mask)))


def _masked(payload: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """Return a payload, each byte XORed with one of the mask [5.3]: as one number, for speed."""
    length = len(payload)
    repeated = (mask * (length // MASK_BYTES + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)


class FrameDecoder:
    """Cuts what a server sends into frames.  Keeps a header, and the payload of a control frame."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._opcode = Opcode.CONTINUATION
        self._left = 0  # bytes of the frame's payload that have not come
        self._control = bytearray()
        self._fragmented = False

    def feed(self, data: bytes) -> Iterator[tuple[Opcode, bytes]]:
        """Yield what came: pieces of binary frames, and whole control frames.

        Raises PacketError, as soon as the header shows it.
        """
        at = 0
        while at < len(data):
            if not self._left:
                self._header.append(data[at])
                at += 1
                if not self._begins():
                    continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if not self._opcode & _CONTROL:
                if piece:
                    yield Opcode.BINARY, piece
                continue
            self._control += piece
            if not self._left:
                yield self._opcode, bytes(self._control)
                self._control.clear()

    def _begins(self) -> bool:
        """Whether the header is complete; then the frame begins."""
        head = self._header
        if len(head) == 1:
            self._opcode = _opcode(head[0], fragmented=self._fragmented)
            return False
        length = head[1]
        if length & _MASKED:
            raise PacketError("a masked frame of WebSocket")
        if self._opcode & _CONTROL and length > MAX_CONTROL:
            raise PacketError("a long control frame of WebSocket")
        more = {_TWO_BYTES: 2, _EIGHT_BYTES: 8}.get(length, 0)
        if len(head) < 2 + more:
            return False
        self._left = int.from_bytes(head[2:]) if more else length
        if self._left > _MAX_LENGTH:
            raise PacketError("a frame of WebSocket of a wrong length")
        if not self._opcode & _CONTROL:
            self._fragmented = not head[0] & _FINAL
        head.clear()
        return True


def _opcode(first: int, *, fragmented: bool) -> Opcode:
    """Return the opcode in the first byte of a frame.  Raises PacketError.

    fragmented: whether a message has begun, and not ended [5.4].
    """
    number = first & _OPCODE
    if first & _RESERVED or number not in Opcode.__members__.values():
        raise PacketError("a reserved frame of WebSocket")
    opcode = Opcode(number)
    if opcode & _CONTROL:
        if not first & _FINAL:
            raise PacketError("a control frame of WebSocket in pieces")
    elif opcode is Opcode.TEXT:
        raise PacketError("a text frame of WebSocket")
    elif (opcode is Opcode.CONTINUATION) is not fragmented:
        raise PacketError("a frame of WebSocket out of order")
    return opcode
