"""MQTT over WebSocket: with the simulator's server, with mosquitto, and with hostile ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from gatewayd.network.connect_errors import ConnectError, ConnectFault, ConnectionEnd
from gatewayd.network.tls import Server
from gatewayd.network.websocket import accept_of
from gatewayd.simulator import pki
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.link import ConnectReply, MqttLink, MqttService, ReplyStep
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.simulator.mqtt.server import MqttServer
from tests.cloud.conftest import Client
from tests.cloud.test_mqtt import ACCEPTED, Inbox, open_to
from tests.support.mosquitto import mosquitto
from tests.support.raw_server import RawServer

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]


def over_websocket(server: Server, path: str = "/mqtt") -> Server:
    return replace(server, websocket=path)


# The simulator's server.


@dataclass
class Echo:
    """A cloud that sends back what it gets."""

    received: list[bytes] = field(default_factory=list)

    def on_connect(self, _link: MqttLink, _connect: Connect) -> ConnectReply:
        return ConnectReply(accepted=True, steps=(ReplyStep(codec.connack(0)),))

    def on_publish(self, link: MqttLink, publish: Publish) -> None:
        self.received.append(publish.payload)
        link.send(codec.publish("echo", publish.payload))

    def on_close(self, _link: MqttLink) -> None:
        self.received.append(b"closed")


@contextlib.asynccontextmanager
async def simulated(certificate: pki.KeyedCertificate, cloud: Echo) -> AsyncIterator[MqttServer]:
    made = MqttServer(MqttService(cloud, certificate.server_context()))
    made.start("127.0.0.1")
    try:
        yield made
    finally:
        made.stop()


async def test_messages_of_any_size_go_both_ways(
    certificate: pki.KeyedCertificate, server: At
) -> None:
    cloud, inbox = Echo(), Inbox()
    sent = [bytes(size) for size in (0, 1, 120, 1000, 20_000, 100_000, 200_000)]
    async with simulated(certificate, cloud) as made:
        connection = await open_to(over_websocket(server(made.port)), inbox)
        for payload in sent:
            connection.post("up", payload)
        got = await inbox.until(len(sent))
        await connection.close()
        assert await connection.wait_closed() is ConnectionEnd.OURS
        assert made.service.counts["websockets"] == 1
    assert got == [("echo", payload) for payload in sent]
    assert cloud.received[: len(sent)] == sent


async def test_a_server_that_knows_no_such_path(
    certificate: pki.KeyedCertificate, server: At
) -> None:
    async with simulated(certificate, Echo()) as made:
        with pytest.raises(ConnectError) as raised:
            await open_to(over_websocket(server(made.port), "/other"))
    assert raised.value.fault is ConnectFault.WEBSOCKET_REFUSED


# A real broker, behind a real server of WebSockets.


async def _bridge(request: web.Request, port: int) -> web.WebSocketResponse:
    """Join a WebSocket and a connection to a broker."""
    websocket = web.WebSocketResponse(protocols=("mqtt",), heartbeat=0.05)
    await websocket.prepare(request)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def down() -> None:
        while data := await reader.read(7000):
            await websocket.send_bytes(data)
        await websocket.close()

    copying = asyncio.create_task(down())
    try:
        async for message in websocket:
            assert message.type is WSMsgType.BINARY
            writer.write(message.data)
            await writer.drain()
    finally:
        writer.close()
        await asyncio.gather(copying, writer.wait_closed(), return_exceptions=True)
    return websocket


@contextlib.asynccontextmanager
async def bridged(certificate: pki.KeyedCertificate, broker: int) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/mqtt", partial(_bridge, port=broker))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.server_context())
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_mosquitto_over_a_websocket(certificate: pki.KeyedCertificate, server: At) -> None:
    """With messages that fill the buffers of both sides, so that writes wait, and with pings."""
    inbox, payloads = Inbox(), [bytes([number]) * 50_000 for number in range(20)]
    with mosquitto() as broker:
        async with bridged(certificate, broker.port) as port:
            connection = await open_to(over_websocket(server(port)), inbox, keepalive=60)
            assert await connection.subscribe(["echo"]) == (1,)
            for payload in payloads:
                connection.post("echo", payload)
            got = await inbox.until(len(payloads))
            connection._client.ping()
            await connection.publish("echo", b"last", 1)
            assert (await inbox.until(len(payloads) + 1))[-1] == ("echo", b"last")
            await connection.close()
            assert await connection.wait_closed() is ConnectionEnd.OURS
    assert [payload for _, payload in got[: len(payloads)]] == payloads


# Scripted and hostile ones.


def upgraded(key: bytes) -> bytes:
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: %b\r\n\r\n" % key
    )


def proof(request: bytes) -> bytes:
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert found
    return accept_of(base64.b64decode(found[1]))


def framed(payload: bytes, opcode: int = 0x82) -> bytes:
    assert len(payload) < 126
    return bytes([opcode, len(payload)]) + payload


async def greet(client: Client, *more: bytes) -> None:
    """Upgrade, accept the CONNECT, and send more."""
    request = await client.reader.readuntil(b"\r\n\r\n")
    await client.send(upgraded(proof(request)))
    await client.reader.readexactly(2)
    await client.send(framed(ACCEPTED), *more)


async def until_refused(
    serve: Serve, server: At, script: Callable[[Client], Awaitable[None]]
) -> None:
    """Return when a client has found that a server does not open a WebSocket, and has left."""
    async with serve(script) as broker:
        with pytest.raises(ConnectError) as raised:
            await open_to(over_websocket(server(broker.port)))
        assert raised.value.fault is ConnectFault.WEBSOCKET_REFUSED
        await broker.until(0)


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 403 Forbidden\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 9000,
    upgraded(b"another"),
])  # fmt: skip
async def test_no_upgrade(serve: Serve, server: At, answer: bytes) -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await client.send(answer)

    await until_refused(serve, server, script)


async def test_a_server_that_speaks_before_it_is_asked(serve: Serve, server: At) -> None:
    async def script(client: Client) -> None:
        request = await client.reader.readuntil(b"\r\n\r\n")
        await client.send(upgraded(proof(request)) + framed(ACCEPTED))
        await client.gone()

    await until_refused(serve, server, script)


async def test_a_server_that_never_answers(serve: Serve, server: At) -> None:
    async with serve(lambda client: client.gone()) as broker:
        slow = replace(over_websocket(server(broker.port)), connect_timeout=1.0)
        with pytest.raises(ConnectError) as raised:
            await open_to(slow)
        assert raised.value.fault is ConnectFault.WEBSOCKET_TIMEOUT
        await broker.until(0)


async def test_cancelled_it_closes(serve: Serve, server: At) -> None:
    async with serve(lambda client: client.gone()) as broker:
        opening = asyncio.create_task(open_to(over_websocket(server(broker.port))))
        await broker.until(1)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await broker.until(0)


@pytest.mark.parametrize(("sent", "end"), [
    (framed(b"\x03\xe8bye", 0x88), ConnectionEnd.CLOUD),
    (framed(b"", 0x88), ConnectionEnd.CLOUD),
    (framed(b"text", 0x81), ConnectionEnd.PROTOCOL),
    (b"\x82\x81\0\0\0\0x", ConnectionEnd.PROTOCOL),
    (framed(b"\xc0\x00"), ConnectionEnd.PROTOCOL),  # a PINGREQ of MQTT
])  # fmt: skip
async def test_how_a_connection_ends(
    serve: Serve, server: At, sent: bytes, end: ConnectionEnd
) -> None:
    async def script(client: Client) -> None:
        await greet(client)
        await client.reader.readuntil(b"\x82")  # the frame of a message
        await client.send(sent)
        await client.gone()

    async with serve(script) as broker:
        connection = await open_to(over_websocket(server(broker.port)))
        connection.post("up", b"accepted")
        async with asyncio.timeout(30):
            assert await connection.wait_closed() is end
        await broker.until(0)


async def test_a_ping_is_answered_and_a_close_too(serve: Serve, server: At) -> None:
    got = bytearray()

    async def script(client: Client) -> None:
        await greet(client, framed(b"are you there", 0x89))
        while b"\x8a\x8d" not in got:  # a pong of that length, masked
            got.extend(await client.reader.read(100))
        await client.send(framed(b"\x03\xe8", 0x88))
        got.clear()
        while b"\x88\x82" not in got:
            got.extend(await client.reader.read(100))

    async with serve(script) as broker:
        connection = await open_to(over_websocket(server(broker.port)))
        async with asyncio.timeout(30):
            assert await connection.wait_closed() is ConnectionEnd.CLOUD
        await broker.until(0)


async def test_pings_do_not_keep_a_dead_cloud_alive(serve: Serve, server: At) -> None:
    """A proxy may send them, while the broker behind it is gone: a PINGREQ must be answered."""

    async def script(client: Client) -> None:
        await greet(client)
        with contextlib.suppress(ConnectionError):
            while not client.reader.at_eof():
                await client.send(framed(b"x", 0x89))
                await asyncio.sleep(0.05)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.reader.read(1000)

    async with serve(script) as broker:
        connection = await open_to(over_websocket(server(broker.port)), keepalive=1)
        async with asyncio.timeout(60):
            assert await connection.wait_closed() is ConnectionEnd.KEEPALIVE
        await broker.until(0)


async def test_a_flood_of_pings_that_never_reads_costs_a_bound(
    certificate: pki.KeyedCertificate, server: At
) -> None:
    """No answer is kept but those that fit, and the keep-alive ends it."""

    def attack(sock: ssl.SSLSocket, stop: threading.Event) -> None:
        sock.sendall(upgraded(proof(sock.recv(4096))))
        sock.recv(4096)
        sock.sendall(framed(ACCEPTED))
        chunk = framed(b"x" * 125, 0x89) * 100
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sock.sendall(chunk)

    with RawServer(certificate.server_context(), attack) as cloud:
        connection = await open_to(over_websocket(server(cloud.port)), keepalive=1)
        stream = connection._socket._sock
        async with asyncio.timeout(60):
            assert await connection.wait_closed() is ConnectionEnd.KEEPALIVE
        assert len(stream._out) < 64 * 1024
