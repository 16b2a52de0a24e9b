"""A WebSocket over TLS, which is read and written as the TLS socket itself would be.

paho has WebSockets of its own; but its upgrade blocks, and its frames have no bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.http_head import HttpError, parse_head
from gatewayd.network.mqtt_rules import PacketError
from gatewayd.network.tls import Server, when_ready
from gatewayd.network.websocket import (
    KEY_BYTES,
    MASK_BYTES,
    NORMAL_CLOSE,
    FrameDecoder,
    Opcode,
    check_upgrade,
    frame,
    upgrade_request,
)

_CHUNK = 4096
_LONGEST = 16 * 1024 - 14
"""Bytes of the payload of a frame of ours, which with its header is one record of TLS."""


class ByteStream(Protocol):
    """A non-blocking stream of bytes: a TLS socket, or what is read and written in the same way.

    All raise ssl.SSLWantReadError, ssl.SSLWantWriteError and OSError, as a TLS socket does.
    """

    def recv(self, size: int, /) -> bytes:
        """Return some bytes; b"" at the end."""

    def send(self, data: bytes | bytearray, /) -> int:
        """Write some bytes; return how many.  After ssl.SSLWant…, the same are given again."""

    def pending(self) -> int:
        """Return more than 0 where `recv` has something that no descriptor shows."""

    def fileno(self) -> int:
        """Return the file descriptor; -1 once closed."""

    def close(self) -> None:
        """Close; twice is fine."""


class WebSocketStream:
    """The bytes in the binary frames of a WebSocket.  Implements ByteStream.

    sock: after the upgrade.  came: what came with its answer.  random: so many unguessable bytes.
    Raises PacketError where the server sends what it may not; `recv` does, too.
    """

    def __init__(self, sock: ByteStream, came: bytes, random: Callable[[int], bytes]) -> None:
        self._sock, self._random = sock, random
        self._decoder = FrameDecoder()
        self._out = bytearray()
        self._taken = 0  # bytes of our user's in the frame that is being written
        self._ended = False
        if self._handle(came):
            raise PacketError("something before it was asked")

    def recv(self, size: int, /) -> bytes:
        """Return some bytes; b"" at the end.  Frames without any for MQTT are handled meanwhile."""
        while not self._ended:
            data = self._sock.recv(size)
            payload = self._handle(data)
            if payload or not data or self._ended:
                return payload
            if not self._sock.pending():
                raise ssl.SSLWantReadError
        return b""

    def send(self, data: bytes | bytearray, /) -> int:
        """Write some bytes in one frame; return how many, once the whole frame has left."""
        if not self._taken:
            self._taken = min(len(data), _LONGEST)
            self._queue(Opcode.BINARY, data[: self._taken])
        self._flush()
        taken, self._taken = self._taken, 0
        return taken

    def pending(self) -> int:
        """Return more than 0 where `recv` has something that no descriptor shows."""
        return self._sock.pending() or int(self._ended)

    def fileno(self) -> int:
        """Return the file descriptor; -1 once closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Send a close frame, if that is possible without waiting, and close."""
        if not self._ended:
            self._answer(Opcode.CLOSE, NORMAL_CLOSE)
        self._ended = True
        self._sock.close()

    def _handle(self, data: bytes) -> bytes:
        """Return the bytes for MQTT in what came; answer the rest."""
        payload = bytearray()
        for opcode, piece in self._decoder.feed(data):
            if opcode is Opcode.BINARY:
                payload += piece
            elif opcode is Opcode.PING:
                self._answer(Opcode.PONG, piece)
            elif opcode is Opcode.CLOSE:
                self._answer(Opcode.CLOSE, piece[:2])
                self._ended = True
                break
        return bytes(payload)

    def _answer(self, opcode: Opcode, payload: bytes) -> None:
        """Send a control frame; leave it out while the server does not read.

        An answer to the newest ping is enough (RFC 6455, 5.5.3).
        """
        if len(self._out) > _LONGEST:
            return
        self._queue(opcode, payload)
        with contextlib.suppress(OSError):  # it leaves with the next frame, or the end is noticed
            self._flush()

    def _queue(self, opcode: Opcode, payload: bytes | bytearray) -> None:
        self._out += frame(opcode, payload, self._random(MASK_BYTES))

    def _flush(self) -> None:
        while self._out:
            del self._out[: self._sock.send(self._out)]


async def open_websocket(
    sock: ssl.SSLSocket, server: Server, random: Callable[[int], bytes] = secrets.token_bytes
) -> WebSocketStream:
    """Upgrade a TLS socket to a WebSocket.  random: so many unguessable bytes.

    After an error the socket is closed.  Raises ConnectError.
    """
    nonce = random(KEY_BYTES)
    try:
        request = upgrade_request(server.host, server.port, server.websocket, nonce)
        async with asyncio.timeout(server.connect_timeout):
            came = await _upgrade(sock, request, nonce)
        return WebSocketStream(sock, came, random)
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise ConnectError(ConnectFault.WEBSOCKET_TIMEOUT) from error
        if isinstance(error, OSError | HttpError | PacketError | UnicodeError):
            raise ConnectError(ConnectFault.WEBSOCKET_REFUSED) from error
        raise


async def _upgrade(sock: ssl.SSLSocket, request: bytes, nonce: bytes) -> bytes:
    """Return what came after the answer."""
    while request:
        request = request[await when_ready(sock, partial(sock.send, request)) :]
    came = b""
    while (head := parse_head(came)) is None:
        data = await when_ready(sock, partial(sock.recv, _CHUNK))
        if not data:
            raise ConnectionResetError
        came += data
    check_upgrade(head, nonce)
    return came[head.size :]
