"""TCP without TLS: the same steps, bounds and faults as with it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.tls import dial_plain

SECONDS = 10.0


async def test_a_plain_connection_is_made() -> None:
    received = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.readexactly(5))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with await dial_plain("127.0.0.1", port, SECONDS, AddressBook()) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"hello")
            assert await received == b"hello"


async def test_a_dead_address_is_passed_over_and_remembered() -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))  # it does not listen
        port = dead.getsockname()[1]

        def look_up(_host: str, _port: int, **_: object) -> list[tuple[object, ...]]:
            return [
                (socket.AF_INET, 0, 0, "", ("127.0.0.1", port)),
                (socket.AF_INET, 0, 0, "", ("127.0.0.2", port)),
            ]

        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", port):
            book = AddressBook(look_up)
            with await dial_plain("broker.example", port, SECONDS, book) as sock:
                assert sock.getpeername()[0] == "127.0.0.2"
            again = await book.resolve("broker.example", port, SECONDS)
            assert again[0][1][0] == "127.0.0.2"


@pytest.mark.parametrize(
    ("host", "fault"),
    [("127.0.0.1", ConnectFault.TCP_REFUSED), ("broker.example", ConnectFault.DNS)],
)
async def test_a_connection_that_is_not_made_says_at_which_step(
    host: str, fault: ConnectFault
) -> None:
    def look_up(_host: str, _port: int, **_: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectError) as raised:
            await dial_plain(host, held.getsockname()[1], SECONDS, AddressBook(look_up))
    assert raised.value.fault is fault
