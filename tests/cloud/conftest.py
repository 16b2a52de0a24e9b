"""A TLS server that plays a script to each client, and certificates good and bad."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest

from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.tls import Server, client_context, dial
from gatewayd.simulator import pki

Script: TypeAlias = Callable[["Client"], Awaitable[None]]


@dataclass
class Client:
    """One client, as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def packet(self) -> bytes:
        """Read one packet, whose length must fit in two bytes."""
        head = await self.reader.readexactly(2)
        length = head[1] & 0x7F
        if head[1] & 0x80:
            head += await self.reader.readexactly(1)
            length += head[2] << 7
        return head + await self.reader.readexactly(length)

    async def send(self, *packets: bytes) -> None:
        """Send packets together: they travel in one TLS record."""
        self.writer.write(b"".join(packets))
        await self.writer.drain()

    async def gone(self) -> None:
        """Return when the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


@dataclass
class Broker:
    """port: where it listens.  open: how many clients there are now."""

    port: int = 0
    open: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    faults: list[BaseException] = field(default_factory=list)

    async def until(self, count: int) -> None:
        """Return when so many clients are connected."""
        async with self.changed, asyncio.timeout(30):
            await self.changed.wait_for(lambda: self.open == count)

    async def count(self, by: int) -> None:
        async with self.changed:
            self.open += by
            self.changed.notify_all()


@contextlib.asynccontextmanager
async def serve_script(script: Script, context: ssl.SSLContext | None) -> AsyncIterator[Broker]:
    """Run a server that plays a script to each client; without TLS where there is no context."""
    broker, players = Broker(), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.is_serving():
            players.add(asyncio.create_task(play(reader, writer)))
        else:  # its handshake was under way when the test ended
            writer.transport.abort()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await broker.count(1)
        try:
            await script(Client(reader, writer))
        except Exception as error:  # noqa: BLE001  # the test looks at what went wrong
            broker.faults.append(error)
        finally:
            writer.transport.abort() if context is None else writer.close()
            await broker.count(-1)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
        assert not broker.faults
    finally:
        server.close()
        for task in players:
            task.cancel()
        await asyncio.gather(*players, return_exceptions=True)
        await asyncio.sleep(0)


NOW = datetime.now(UTC)


@pytest.fixture(scope="session")
def authority() -> pki.RootAuthority:
    return pki.make_ca("test authority", NOW - pki.LIFE, NOW + pki.LIFE)


@pytest.fixture(scope="session")
def ca_file(authority: pki.RootAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki") / "ca.pem"
    path.write_text(authority.pem)
    return path


@pytest.fixture(scope="session")
def trust(ca_file: Path) -> ssl.SSLContext:
    return client_context(ca_file)


@pytest.fixture(scope="session")
def certificate(authority: pki.RootAuthority) -> pki.KeyedCertificate:
    return pki.localhost(authority, NOW)


async def stay(client: Client) -> None:
    """Say nothing, until the client leaves: a script of `serve`."""
    await client.gone()


async def fault_of(server: Server) -> ConnectFault:
    """Return why a server cannot be connected to."""
    with pytest.raises(ConnectError) as raised:
        await dial(server)
    return raised.value.fault


@pytest.fixture
def serve(certificate: pki.KeyedCertificate) -> Callable[..., AbstractAsyncContextManager[Broker]]:
    """Give a function: script → a running server with a good certificate, or with another."""

    def run(
        script: Script, other: pki.KeyedCertificate | None = None
    ) -> AbstractAsyncContextManager[Broker]:
        return serve_script(script, (other or certificate).server_context())

    return run


@pytest.fixture
def serve_plain() -> Callable[[Script], AbstractAsyncContextManager[Broker]]:
    """The same without TLS."""
    return lambda script: serve_script(script, None)


@pytest.fixture
def server(trust: ssl.SSLContext) -> Callable[..., Server]:
    """Give a function: port → where a client is to connect to."""

    def at(port: int, host: str = "localhost", seconds: float = 20.0) -> Server:
        return Server(host, port, trust, seconds, seconds)

    return at
