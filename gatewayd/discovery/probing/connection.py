"""One connection to a listed host, of which no more is read than what is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TypeAlias

from gatewayd.discovery.link.sockets import bind_to_interface
from gatewayd.discovery.probing.protocol import UnreadableAnswer

Place: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""What a socket is connected to: host, port, and for IPv6 a flow and the interface's number."""

CONNECT = 1.0
"""Seconds in which a host of the LAN accepts a connection."""
BUFFER = 16 << 10
"""Bytes that are read ahead."""
_V6 = 6


class HostConnection:
    """A connection that `connected` has opened.

    budget: bytes that may be read in all.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int
    ) -> None:
        self._reader, self._writer, self._left = reader, writer, budget

    async def send(self, data: bytes) -> None:
        """Send some bytes.  Raises ConnectionError."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, size: int) -> bytes:
        """Return exactly so many bytes.

        Raises ConnectionResetError if the host has closed the connection, and UnreadableAnswer
        where more would be read than the budget has.
        """
        self._left -= size
        if self._left < 0:
            raise UnreadableAnswer("endless")
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the host has closed the connection") from error


@asynccontextmanager
async def connected(
    address: str, port: int, budget: int, *, interface: str = ""
) -> AsyncIterator[HostConnection]:
    """Connect to a host, in at most CONNECT seconds, and close the connection at last.

    address: an IP address, a link-local one of IPv6 with its interface, "fe80::1%lan0".
    budget: bytes that may be read in all.  interface: by which it is reached; "" for any.
    Raises TimeoutError, ConnectionError, OSError.
    """
    sock, place = host_socket(address, port, socket.SOCK_STREAM)
    try:
        if interface:
            bind_to_interface(sock, interface)
        async with asyncio.timeout(CONNECT):
            await asyncio.get_running_loop().sock_connect(sock, place)
        reader, writer = await asyncio.open_connection(sock=sock, limit=BUFFER)
    except BaseException:
        sock.close()
        raise
    try:
        yield HostConnection(reader, writer, budget)
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # it was broken before
            await writer.wait_closed()


def host_socket(address: str, port: int, kind: socket.SocketKind) -> tuple[socket.socket, Place]:
    """Return a socket that does not block, and what it is to be connected to.

    kind: SOCK_STREAM or SOCK_DGRAM.  Raises OSError if there is no such interface.
    """
    bare, _, zone = address.partition("%")
    is_v6 = ip_address(bare).version == _V6
    place: Place = (bare, port)
    if is_v6:
        place = (bare, port, 0, socket.if_nametoindex(zone) if zone else 0)
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, kind)
    sock.setblocking(False)
    return sock, place
