"""A raw connection to a simulated cloud, and waiting, for the tests of all clouds.

Shares no code with gatewayd: neither client nor simulator can then lend it a mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.simulated_ca import CERTIFICATE

PATIENCE = 60.0


def trusting(ca_pem: str = CERTIFICATE.ca_pem) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@dataclass
class Wire:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def code(self) -> int | None:
        """Return the code of the CONNACK; None if the server closes, or says something else."""
        async with asyncio.timeout(PATIENCE):
            try:
                start = await self.reader.readexactly(4)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        return start[3] if start[:3] == b"\x20\x02\x00" else None

    async def push(self) -> tuple[str, bytes] | None:
        """Return topic and payload of the next PUBLISH; None if the server closes first."""
        async with asyncio.timeout(PATIENCE):
            try:
                head, length = await self.reader.readexactly(2)
                if length & 0x80:
                    length = length & 0x7F | (await self.reader.readexactly(1))[0] << 7
                body = await self.reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        assert head >> 4 == 3
        size = 2 + int.from_bytes(body[:2], "big")
        return body[2:size].decode(), body[size + (2 if head & 0x06 else 0) :]

    async def ended(self) -> bytes:
        """Wait for the server to close; return what it still said."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read(-1)
            except ConnectionError:
                return b""

    def leave(self) -> None:
        """Say DISCONNECT."""
        self.writer.write(b"\xe0\x00")


@contextlib.asynccontextmanager
async def wire(
    port: int, context: ssl.SSLContext | None, first: bytes = b"", host: str = "localhost"
) -> AsyncIterator[Wire]:
    """Connect, over plain TCP if there is no context, and send these bytes."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=host if context else None
    )
    try:
        writer.write(first)
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def handshake(port: int, context: ssl.SSLContext) -> None:
    """Make a TLS connection, blocking; asyncio's own client would not send its alert."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass
