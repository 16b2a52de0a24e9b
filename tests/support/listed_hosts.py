"""Hosts on the loopback interface that stand in for listed hosts, each at its own address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from gatewayd.discovery.discoverer import Discoverer

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class TcpHosts:
    """Hosts that serve at one port, each at an address of its own.

    open_now, most_open: connections that are open, and the most that were at once.
    ended: how many connections the client has ended in good order.
    """

    port: int
    servers: dict[str, asyncio.Server] = field(default_factory=dict)
    accepted: int = 0
    open_now: int = 0
    most_open: int = 0
    ended: int = 0

    async def open(self, address: str, serve: Serve) -> None:
        """Open one host."""

        async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted += 1
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await serve(reader, writer)
                    self.ended += await reader.read() == b""
            finally:
                self.open_now -= 1
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        self.servers[address] = await asyncio.start_server(counted, address, self.port)
        self.port = self.servers[address].sockets[0].getsockname()[1]

    async def silence(self, address: str) -> None:
        """Let one host accept connections, and answer nothing."""

        async def stay_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        await self.close(address)
        await self.open(address, stay_silent)

    async def close(self, address: str) -> None:
        """Close one host."""
        server = self.servers.pop(address)
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def tcp_hosts() -> AsyncIterator[TcpHosts]:
    """Yield hosts, of which none is open yet."""
    hosts = TcpHosts(0)
    try:
        yield hosts
    finally:
        for address in list(hosts.servers):
            await hosts.close(address)


@dataclass
class HostsBed:
    """What `DiscovererTestbed` says.  gone: removes a host."""

    discoverer: Discoverer
    count: int
    limit: int
    gone: Callable[[str], Awaitable[None]]
    hurt: Callable[[], Awaitable[None]]

    async def remove(self, key: str) -> bool:
        """Remove a device."""
        await self.gone(key.partition("/")[0])
        return True

    async def abuse(self) -> None:
        """Do the worst."""
        await self.hurt()
