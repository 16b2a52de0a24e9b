"""Once nothing may be sent any more, nothing leaves: no CONNECT, no PUBLISH, no DISCONNECT."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import termios
from array import array
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import Login
from gatewayd.cloud.paho_socket import MAY_SEND
from gatewayd.device.secret import Secret
from gatewayd.network.connect_errors import ConnectError, ConnectFault, ConnectionEnd
from gatewayd.network.tls import Server
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.site.fence import boot_time
from tests.cloud.peer import Peer, connected

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]

LOGIN = Login("gateway", "gateway-01&a1Gateway01", Secret(b"password"))


@dataclass
class Gate:
    """A fence that a test closes."""

    open: bool = True
    asked: int = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.open


async def test_no_connect_leaves(serve: Serve, server: At) -> None:
    peer, gate = Peer(), Gate(open=False)
    MAY_SEND.set(gate)
    async with serve(peer.script) as broker:
        with pytest.raises(ConnectError) as raised:
            await mqtt.open_connection(server(broker.port), LOGIN, 60)
        assert raised.value.fault is ConnectFault.MQTT_CLOSED
        await broker.until(0)
    assert peer.seen == []
    assert gate.asked


async def test_no_publish_and_no_disconnect_leaves(serve: Serve, server: At) -> None:
    peer, gate = Peer(), Gate()
    MAY_SEND.set(gate)
    async with connected(peer, serve, server) as connection:
        await connection.publish("/first", b"{}", qos=1)
        gate.open = False
        assert await connection.post("/second", b"{}") is None
        assert connection.closed.result() is ConnectionEnd.LOST
    assert [type(one) for one in peer.seen] == [Connect, Publish]


async def test_a_session_that_is_closed_late_says_nothing(serve: Serve, server: At) -> None:
    peer, gate = Peer(), Gate()
    MAY_SEND.set(gate)
    async with connected(peer, serve, server) as connection:
        gate.open = False
        began = asyncio.get_running_loop().time()
        await connection.close()
        assert asyncio.get_running_loop().time() - began < mqtt.CLOSE_TIME
    assert not peer.left
    assert [type(one) for one in peer.seen] == [Connect]


async def test_what_waits_for_a_slow_path_is_dropped(serve: Serve, server: At) -> None:
    """What is in our buffers, in the record that TLS has begun, and in the kernel's queue."""
    came, may_read, gate = bytearray(), asyncio.Event(), Gate()
    MAY_SEND.set(gate)

    async def script(client: Any) -> None:
        await client.packet()
        await client.send(b"\x20\x02\x00\x00")
        await may_read.wait()
        with contextlib.suppress(ConnectionError):
            while data := await client.reader.read(65536):
                came.extend(data)

    async with serve(script) as broker:
        connection = await mqtt.open_connection(server(broker.port), LOGIN, 60)
        sent = [connection.post(f"/{n}", b"x" * 250_000) for n in range(40)]
        queued = total = len(connection._unsent)
        async with asyncio.timeout(60):
            while not connection._is_writer_added or len(connection._unsent) < queued:
                queued = len(connection._unsent)
                await asyncio.sleep(0.1)
        in_kernel = array("i", [0])
        fcntl.ioctl(connection._descriptor, termios.TIOCOUTQ, in_kernel)  # SIOCOUTQ of tcp(7)
        gate.open = False
        connection.abort()
        may_read.set()
        assert await asyncio.gather(*sent) == [None] * 40
        await broker.until(0)
    assert in_kernel[0] > 100_000
    assert len(came) < total - queued - in_kernel[0] * 0.9  # a part of it is what TLS adds


async def test_the_kernel_gives_up_what_is_not_acknowledged(serve: Serve, server: At) -> None:
    MAY_SEND.set(Gate())
    async with connected(Peer(), serve, server) as connection:
        copy = socket.socket(fileno=os.dup(connection._descriptor))
        with copy:
            option = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 0 < option < 5000


STOPPED = """
import asyncio, sys
from pathlib import Path
from gatewayd.cloud import mqtt
from gatewayd.cloud.paho_socket import MAY_SEND, Gone
from gatewayd.device.secret import Secret
from gatewayd.network.tls import Server, client_context
from gatewayd.site.fence import FENCE, Fence, boot_time

async def main(port, ca):
    fence = Fence()
    fence.renewed(boot_time())
    MAY_SEND.set(fence.holds)
    server = Server("localhost", port, client_context(Path(ca)), 20, 20)
    login = mqtt.Login("c", "u", Secret(b"p"))
    connection = await mqtt.open_connection(server, login, 60)
    fence.end()
    fence.renewed(boot_time() - FENCE + 2)
    print(fence.until, flush=True)
    while not connection.closed.done():
        connection.post("/t", b"{}")
        await asyncio.sleep(0.002)
    print(connection.closed.result(), flush=True)

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""
"""A gateway that speaks all the time, and whose fence holds for two seconds more."""


async def test_a_process_that_was_stopped_sends_nothing_when_it_runs_on(
    serve: Serve, ca_file: Path
) -> None:
    peer = Peer()
    async with serve(peer.script) as broker:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STOPPED, str(broker.port), str(ca_file),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(60):
            until = float(await process.stdout.readline())
            await peer.until(lambda: len(peer.asked) > 20)
            process.send_signal(signal.SIGSTOP)
            while boot_time() < until + 0.1:
                await asyncio.sleep(0.1)
            before = len(peer.seen)
            process.send_signal(signal.SIGCONT)
            assert b"lost" in (await process.stdout.readline()).lower()
            assert await process.wait() == 0
    assert len(peer.seen) == before


async def test_a_gateway_that_is_alone_asks_nothing(serve: Serve, server: At) -> None:
    async with connected(Peer(), serve, server) as connection:
        assert type(connection._socket).__name__ == "PahoSocket"
