"""The server's end of a WebSocket that carries MQTT (RFC 6455), as both vendors serve it.

Written without a look at the client's: each checks the other.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import ClassVar

from gatewayd.simulator.mqtt.codec import MalformedPacket

PATH = "/mqtt"
MAX_HEAD = 4_096
"""Bytes of a request for an upgrade."""

MAX_FRAME = 1 << 20
"""Bytes of the payload of a frame."""

FRAGMENT = 1_024
"""Bytes of a fragment: a longer packet comes in several."""

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # 1.3
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_MAX_CONTROL = 125


class WebSocketEnd:
    """One WebSocket.  send: sends bytes to the client.  Raises MalformedPacket."""

    BEGINS: ClassVar[bytes] = b"GET "
    """What a client begins with that speaks it; no packet of MQTT does."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send, self._buffer, self._upgraded = send, bytearray(), False

    def receive(self, data: bytes) -> bytes:
        """Handle bytes of the client; return those of MQTT in them."""
        self._buffer += data
        if not self._upgraded and not self._upgrade():
            return b""
        return b"".join(self._payloads())

    def framed(self, packet: bytes) -> bytes:
        """Return the frames of a packet."""
        pieces = [packet[at : at + FRAGMENT] for at in range(0, len(packet), FRAGMENT)]
        last = len(pieces) - 1
        return b"".join(
            _frame(0 if at else _BINARY, piece, final=at == last) for at, piece in enumerate(pieces)
        )

    def _upgrade(self) -> bool:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            raise MalformedPacket("too long a request for an upgrade")
        if not end:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        if first != f"GET {PATH} HTTP/1.1":
            self._refuse("404 Not Found")
        wanted = {"upgrade": "websocket", "sec-websocket-version": "13"}
        if any(fields.get(name, "").lower() != value for name, value in wanted.items()):
            self._refuse("426 Upgrade Required")
        if fields.get("sec-websocket-protocol") != "mqtt":  # MQTT 3.1.1, 6
            self._refuse("400 Bad Request")
        proof = hashlib.sha1((fields.get("sec-websocket-key", "") + _MAGIC).encode()).digest()  # noqa: S324  # RFC 6455, 4.2.2, has it
        self._send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: %b\r\n\r\n"
            % base64.b64encode(proof)
        )
        self._buffer, self._upgraded = bytearray(rest), True
        return True

    def _refuse(self, status: str) -> None:
        self._send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        raise MalformedPacket(status)

    def _payloads(self) -> Iterator[bytes]:
        """Yield the payloads of the whole frames; answer those that are for us."""
        while (size := self._whole()) is not None:
            start, length = size
            opcode = self._buffer[0] & 15
            mask, masked = self._buffer[start - 4 : start], self._buffer[start : start + length]
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
            del self._buffer[: start + length]
            if opcode in (0, _BINARY):
                yield payload
            elif opcode == _PING:
                self._send(_frame(_PONG, payload))
            elif opcode == _CLOSE:
                self._send(_frame(_CLOSE, payload[:2]))
            elif opcode != _PONG:
                raise MalformedPacket(f"a frame of the kind {opcode}")

    def _whole(self) -> tuple[int, int] | None:
        """Return where the payload of the first frame begins, and its length; None if not whole."""
        if len(self._buffer) < 2:  # noqa: PLR2004  # the least of a header
            return None
        if not self._buffer[1] & 128:
            raise MalformedPacket("a frame without a mask")  # 5.1
        length, start = self._buffer[1] & 127, 2
        if length > _MAX_CONTROL:
            form = ">H" if length == 126 else ">Q"  # noqa: PLR2004  # 5.2
            start += struct.calcsize(form)
            if len(self._buffer) < start:
                return None
            (length,) = struct.unpack(form, self._buffer[2:start])
        if length > MAX_FRAME:
            raise MalformedPacket("a frame that is too long")
        return (start + 4, length) if len(self._buffer) >= start + 4 + length else None


def _frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    length = len(payload)
    size = bytes([length]) if length <= _MAX_CONTROL else b"\x7e" + struct.pack(">H", length)
    return bytes([opcode | (128 if final else 0)]) + size + payload
