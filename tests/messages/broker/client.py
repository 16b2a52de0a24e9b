"""A client of MQTT 3.1.1 and 5 that hides nothing: what it gets are packets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

V311, V5 = 4, 5
SUCCESS, NOT_AUTHORIZED, REFUSED_311 = 0, 0x87, 5
PATIENCE = 60.0
"""Seconds to wait for what has to come."""


class Packet(NamedTuple):
    """kind: the upper half of the first byte.  flags: the lower."""

    kind: int
    flags: int
    body: bytes


class Published(NamedTuple):
    topic: str
    payload: bytes


class MqttClient:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int
    ) -> None:
        self._reader, self._writer, self._version = reader, writer, version

    def send(self, head: int, body: bytes) -> None:
        length, rest = b"", len(body)
        while True:
            rest, low = rest >> 7, rest & 0x7F
            length += bytes((low | (0x80 if rest else 0),))
            if not rest:
                break
        self._writer.write(bytes((head,)) + length + body)

    async def packet(self) -> Packet:
        """Return the next packet.  Raises EOFError where the broker has closed."""
        async with asyncio.timeout(PATIENCE):
            (head,), length, shift = await self._reader.readexactly(1), 0, 0
            while True:
                (byte,) = await self._reader.readexactly(1)
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            return Packet(head >> 4, head & 0xF, await self._reader.readexactly(length))

    async def publish(self, topic: str, payload: bytes = b"1", *, retain: bool = False) -> int:
        """Publish with QoS 1; return the reason code of the PUBACK."""
        properties = b"\0" if self._version == V5 else b""
        self.send(0x32 | retain, _text(topic) + b"\0\1" + properties + payload)
        while (packet := await self.packet()).kind != 4:
            pass
        return packet.body[2] if len(packet.body) > 2 else SUCCESS

    async def subscribe(self, pattern: str) -> int:
        """Subscribe with QoS 1; return what is granted."""
        properties = b"\0" if self._version == V5 else b""
        self.send(0x82, b"\0\2" + properties + _text(pattern) + b"\1")
        while (packet := await self.packet()).kind != 9:
            pass
        return packet.body[-1]

    async def ping(self) -> None:
        """Return once the broker has handled all that was sent before."""
        self.send(0xC0, b"")
        while (packet := await self.packet()).kind != 13:
            assert packet.kind == 4, f"unexpected {packet}"

    async def received(self) -> Published:
        """Return the next message, which is acknowledged."""
        while (packet := await self.packet()).kind != 3:
            pass
        (length,) = struct.unpack_from("!H", packet.body)
        rest = packet.body[2 + length :]
        if packet.flags & 6:
            self.send(0x40, rest[:2])
            rest = rest[2:]
        if self._version == V5:
            rest = rest[1 + rest[0] :]
        return Published(packet.body[2 : 2 + length].decode(), rest)

    async def closed(self) -> None:
        """Return once the broker has closed the connection.  Raises TimeoutError."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self.packet()


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text.encode())) + text.encode()


class Place(NamedTuple):
    """Where a client connects: to a socket, or with TLS to a port of this machine."""

    socket: Path | None = None
    port: int = 0
    tls: ssl.SSLContext | None = None


async def open_stream(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if place.socket is not None:
        return await asyncio.open_unix_connection(place.socket)
    return await asyncio.open_connection(
        "127.0.0.1", place.port, ssl=place.tls, server_hostname="127.0.0.1" if place.tls else None
    )


@contextlib.asynccontextmanager
async def connected(  # noqa: PLR0913  # four by keyword
    place: Place,
    user: str = "",
    password: bytes = b"",
    *,
    version: int = V311,
    client_id: str = "",
    clean: bool = True,
    expected: int = SUCCESS,
) -> AsyncIterator[MqttClient]:
    """Connect, and yield the connection until the block ends.

    user: "" for none.  expected: the code of the CONNACK.
    """
    async with asyncio.timeout(PATIENCE):
        reader, writer = await open_stream(place)
    client = MqttClient(reader, writer, version)
    try:
        flags = (0xC0 if user else 0) | (2 if clean else 0)
        body = _text("MQTT") + bytes((version, flags, 0, 60))
        if version == V5:
            body += b"\0" if clean else b"\5\x11\0\0\x0e\x10"  # the session expires in an hour
        body += _text(client_id or user)
        if user:
            body += _text(user) + struct.pack("!H", len(password)) + password
        client.send(0x10, body)
        packet = await client.packet()
        assert packet.kind == 2, f"no CONNACK: {packet}"
        assert packet.body[1] == expected, f"CONNACK {packet.body[1]:#x}"
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await writer.wait_closed()
