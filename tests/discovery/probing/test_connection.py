"""One connection to a host: how much is read of it, and that it is closed whatever happens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatewayd.discovery.probing.connection import connected, host_socket
from gatewayd.discovery.probing.protocol import UnreadableAnswer

pytestmark = pytest.mark.integration

HOST = "127.0.0.2"


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[int, asyncio.Queue[bytes]]]:
    """Yield the port of a server that answers at once, and what each connection has sent."""
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        received.put_nowait(await reader.read())
        writer.close()

    made = await asyncio.start_server(serve, HOST, 0)
    async with made:
        yield made.sockets[0].getsockname()[1], received


async def test_no_more_is_read_than_the_budget_has() -> None:
    async with server(b"0123456789") as (port, received):
        async with connected(HOST, port, 8) as connection:
            await connection.send(b"question")
            assert await connection.receive(5) == b"01234"
            assert await connection.receive(3) == b"567"
            with pytest.raises(UnreadableAnswer):
                await connection.receive(1)
        assert await received.get() == b"question"


async def test_a_connection_is_closed_when_its_visit_is_cancelled() -> None:
    async with server(b"") as (port, received):
        there = asyncio.Event()

        async def visit() -> None:
            async with connected(HOST, port, 8) as connection:
                there.set()
                await connection.receive(1)

        visiting = asyncio.create_task(visit())
        await there.wait()
        visiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visiting
        assert await received.get() == b""


async def test_an_end_before_the_answer_is_a_refusal() -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ab")
        writer.close()

    async with await asyncio.start_server(close, HOST, 0) as made:
        port = made.sockets[0].getsockname()[1]
        async with connected(HOST, port, 8) as connection:
            with pytest.raises(ConnectionResetError):
                await connection.receive(3)


async def test_a_refusal_and_a_missing_interface_are_different_errors() -> None:
    with pytest.raises(ConnectionRefusedError):
        async with connected(HOST, 1, 8):
            pass
    with pytest.raises(OSError, match=r"No such device|interface"):
        host_socket("fe80::1%nosuch0", 1, socket.SOCK_STREAM)
