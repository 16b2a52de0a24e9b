"""One connection of the simulator, with a peer that does not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gatewayd.simulator.mqtt.channel import MAX_PENDING, Channel
from gatewayd.testing.waiting import until
from tests.support.simulated_ca import CERTIFICATE

CHUNK = b"x" * 65_536


@dataclass
class Receiver:
    """A receiver that remembers its calls."""

    got: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)

    def received(self, data: bytes) -> None:
        self.got += data

    def closed(self, reason: str) -> None:
        self.ends.append(reason)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_a_client_that_does_not_read_is_dropped(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    receiver = Receiver()
    channel = Channel(pair[0], receiver, None, plain=True)
    sent = 0
    while channel.open:
        channel.send(CHUNK)
        sent += len(CHUNK)
        assert sent < 16 * MAX_PENDING
    assert sent > MAX_PENDING
    assert receiver.ends == [""]
    channel.send(CHUNK)
    channel.abort()
    assert receiver.ends == [""]


async def test_closing_waits_for_what_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    receiver, loop = Receiver(), asyncio.get_running_loop()
    channel = Channel(pair[0], receiver, None, plain=True)
    for _ in range(10):
        channel.send(CHUNK)
    channel.close()
    assert not channel.open
    assert not receiver.ends
    read = 0
    while data := await loop.sock_recv(pair[1], len(CHUNK)):
        read += len(data)
    assert read == 10 * len(CHUNK)
    assert receiver.ends == [""]


async def test_a_flood_arrives_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    receiver, loop = Receiver(), asyncio.get_running_loop()
    Channel(pair[0], receiver, None, plain=True)
    await loop.sock_sendall(pair[1], CHUNK * 40)
    await until(lambda: len(receiver.got) == 40 * len(CHUNK))
    pair[1].close()
    await until(lambda: receiver.ends)


async def test_an_alert_arrives_though_the_client_has_said_more(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Closing with bytes unread resets the connection, which can outrun what was sent."""
    receiver, reasons, loop = Receiver(), list[str](), asyncio.get_running_loop()
    context = CERTIFICATE.server_context()
    channel = Channel(pair[0], receiver, context, plain=False, failed=reasons.append)
    await loop.sock_sendall(pair[1], b"\x16\x03\x01\0\4\x63\0\0\0" + CHUNK)
    await until(lambda: reasons)
    assert (channel.open, receiver.ends) == (True, [])
    said = b""
    while data := await loop.sock_recv(pair[1], 100):
        said += data
    assert said[0] == 0x15  # a TLS alert (RFC 8446, 5.1)
    pair[1].close()
    await until(lambda: receiver.ends)
    assert receiver.ends == reasons
