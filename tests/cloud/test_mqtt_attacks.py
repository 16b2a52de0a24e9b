"""A cloud that sends and never reads, or never ends a packet, costs little, and delays nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import AT_ONCE, Login
from gatewayd.device.secret import Secret
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.network.mqtt_rules import MAX_PACKET
from gatewayd.network.tls import Server
from gatewayd.simulator import pki
from tests.cloud.test_mqtt import ACCEPTED, publish
from tests.support.raw_server import RawServer

LOGIN = Login("client", "device&product", Secret(b"password"))
ENOUGH = 64 << 20
"""Bytes of attack; before there were bounds, each MiB of them cost several of memory."""
LIMIT = 20 << 20
"""Bytes that the attack may cost."""

At = Callable[..., Server]


def resident() -> int:
    """Return the memory of this process, bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@contextlib.contextmanager
def attacker(certificate: pki.KeyedCertificate, packets: bytes) -> Iterator[RawServer]:
    """Serve one client on a thread: accept it, and send these packets again and again."""
    chunk = packets * (16384 // len(packets))

    def attack(sock: ssl.SSLSocket, stop: threading.Event) -> None:
        sock.recv(4096)
        sock.sendall(ACCEPTED)
        sent = 0
        while sent < ENOUGH and not stop.is_set():
            sent += sock.send(chunk)

    with RawServer(certificate.server_context(), attack) as server:
        yield server


class _Turns:
    """Counts how often the loop came round."""

    count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest.fixture
async def turns() -> AsyncIterator[_Turns]:
    counted = _Turns()
    task = asyncio.create_task(counted.run())
    yield counted
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_cloud_that_floods_and_never_reads_is_not_read_either(
    certificate: pki.KeyedCertificate, server: At
) -> None:
    """The answers stay in bounds, the flood in the cloud's own buffers; and at last it ends."""
    received = 0

    def receive(_topic: str, _payload: bytes) -> None:
        nonlocal received
        received += 1

    with attacker(certificate, publish(b"/a", b"x", qos=1)) as cloud:
        connection = await mqtt.open_connection(server(cloud.port), LOGIN, 1, receive)
        before = resident()
        async with asyncio.timeout(60):
            assert await connection.wait_closed() is ConnectionEnd.KEEPALIVE
        assert resident() - before < LIMIT
        assert received > AT_ONCE  # what the buffers of the kernel let through
        assert len(connection._client._out_packet) <= 2 * AT_ONCE


async def test_a_flood_that_is_read_leaves_the_loop_its_turns(
    certificate: pki.KeyedCertificate, server: At, turns: _Turns
) -> None:
    """Between two turns of the loop, AT_ONCE messages are handled at most."""
    most, last, received = 0, (0, 0), 0

    def receive(_topic: str, _payload: bytes) -> None:
        nonlocal most, last, received
        received += 1
        turn, since = last
        last = (turns.count, since + 1 if turn == turns.count else 1)
        most = max(most, last[1])

    with attacker(certificate, publish(b"/a", b"x")) as cloud:
        connection = await mqtt.open_connection(server(cloud.port), LOGIN, 60, receive)
        async with asyncio.timeout(60):
            while received < 20_000:
                await asyncio.sleep(0)
        connection.abort()
    assert 0 < most <= AT_ONCE


async def test_pings_of_a_cloud_end_the_session(
    certificate: pki.KeyedCertificate, server: At
) -> None:
    with attacker(certificate, b"\xc0\x00") as cloud:
        connection = await mqtt.open_connection(server(cloud.port), LOGIN, 60)
        async with asyncio.timeout(30):
            assert await connection.wait_closed() is ConnectionEnd.PROTOCOL
        assert not connection._client.want_write()


@pytest.mark.parametrize("limit", [4096, MAX_PACKET])
async def test_a_packet_that_never_ends_is_kept_up_to_its_limit(
    certificate: pki.KeyedCertificate, server: At, limit: int
) -> None:
    """One byte more than is awaited ends the session by its header; else the rest is awaited."""
    length = limit - 4
    header = b"\x30" + bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
    sent = threading.Event()

    def tease(sock: ssl.SSLSocket, stop: threading.Event) -> None:
        sock.recv(4096)
        sock.sendall(ACCEPTED + header + bytes(length - 1))
        sent.set()
        stop.wait()

    with RawServer(certificate.server_context(), tease) as cloud:
        connection = await mqtt.open_connection(server(cloud.port), LOGIN, 60, max_packet=limit)
        async with asyncio.timeout(30):
            while len(connection._socket._raw) < limit - 1:
                await asyncio.sleep(0.001)
        assert len(connection._socket._raw) == limit - 1
        assert not connection.closed.done()
        connection.abort()

    with RawServer(certificate.server_context(), tease) as cloud:
        connection = await mqtt.open_connection(server(cloud.port), LOGIN, 60, max_packet=limit - 1)
        async with asyncio.timeout(30):
            assert await connection.wait_closed() is ConnectionEnd.PROTOCOL
