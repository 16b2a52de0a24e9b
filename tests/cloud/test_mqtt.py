"""paho on asyncio: what the cloud sends arrives, and each ending has its name."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import paho.mqtt.client as paho
import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import Login
from gatewayd.device.secret import Secret
from gatewayd.network.connect_errors import ConnectError, ConnectFault, ConnectionEnd
from gatewayd.network.tls import Server

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]

LOGIN = Login("client|securemode=2|", "device&product", Secret(b"password"))
ACCEPTED = b"\x20\x02\x00\x00"
DISCONNECT, PINGREQ, PINGRESP = b"\xe0\x00", b"\xc0\x00", b"\xd0\x00"


def publish(topic: bytes, payload: bytes, qos: int = 0) -> bytes:
    body = struct.pack("!H", len(topic)) + topic + (b"\x00\x07" if qos else b"") + payload
    assert len(body) < 128
    return bytes([0x30 | qos << 1, len(body)]) + body


class Inbox:
    """Takes messages, and lets a test wait for so many."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._came = asyncio.Event()

    def take(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, payload))
        self._came.set()

    async def until(self, count: int) -> list[tuple[str, bytes]]:
        async with asyncio.timeout(30):
            while len(self.messages) < count:
                self._came.clear()
                await self._came.wait()
        return self.messages


async def open_to(server: Server, inbox: Inbox | None = None, keepalive: int = 60) -> Any:
    async with asyncio.timeout(30):
        return await mqtt.open_connection(server, LOGIN, keepalive, (inbox or Inbox()).take)


async def fault_of(server: Server) -> ConnectError:
    with pytest.raises(ConnectError) as raised:
        await open_to(server)
    return raised.value


def answering(*packets: bytes) -> Callable[[Any], Any]:
    """A script: wait for CONNECT, answer, and stay until the client leaves."""

    async def script(client: Any) -> None:
        await client.packet()
        await client.send(*packets)
        await client.gone()

    return script


async def test_a_connect_says_what_it_must(serve: Serve, server: At) -> None:
    seen: list[bytes] = []

    async def script(client: Any) -> None:
        seen.append(await client.packet())
        await client.send(ACCEPTED)
        seen.append(await client.packet())
        await client.gone()

    async with serve(script) as broker:
        connection = await open_to(server(broker.port), keepalive=300)
        await connection.close()
        await connection.close()
        await broker.until(0)
        assert await connection.wait_closed() is ConnectionEnd.OURS
    fields = (b"client|securemode=2|", b"device&product", b"password")
    body = b"\x00\x04MQTT\x04\xc2" + struct.pack("!H", 300)  # level 4, clean session, 300 s
    body += b"".join(struct.pack("!H", len(one)) + one for one in fields)
    assert seen == [bytes([0x10, len(body)]) + body, DISCONNECT]


async def test_a_login_without_a_password_sends_none(serve: Serve, server: At) -> None:
    """Flags and field are both absent (MQTT 3.1.1, 3.1.2.9)."""
    seen: list[bytes] = []

    async def script(client: Any) -> None:
        seen.append(await client.packet())
        await client.send(ACCEPTED)
        await client.gone()

    login = Login("client", "device", Secret(b""))
    async with serve(script) as broker:
        connection = await mqtt.open_connection(server(broker.port), login, 120, Inbox().take)
        await connection.close()
    body = b"\x00\x04MQTT\x04\x82" + struct.pack("!H", 120)
    body += b"".join(struct.pack("!H", len(one)) + one for one in (b"client", b"device"))
    assert seen == [bytes([0x10, len(body)]) + body]


async def test_packets_that_share_one_tls_record_all_arrive(serve: Serve, server: At) -> None:
    pushes = [publish(b"/ext/%d" % n, b"payload %d" % n, qos=n % 2) for n in range(5)]
    async with serve(answering(ACCEPTED, *pushes)) as broker:
        inbox = Inbox()
        connection = await open_to(server(broker.port), inbox)
        wanted = [(f"/ext/{n}", b"payload %d" % n) for n in range(5)]
        assert await inbox.until(5) == wanted
        await connection.close()


async def test_a_packet_may_come_byte_by_byte(serve: Serve, server: At) -> None:
    async def script(client: Any) -> None:
        await client.packet()
        for byte in ACCEPTED + publish(b"/a", b"b"):
            await client.send(bytes([byte]))
        await client.gone()

    async with serve(script) as broker:
        inbox = Inbox()
        connection = await open_to(server(broker.port), inbox)
        assert await inbox.until(1) == [("/a", b"b")]
        connection.abort()


async def test_a_large_message_arrives(serve: Serve, server: At) -> None:
    payload = bytes(190_000)  # its last TLS record is read in pieces, too
    body = b"\x00\x02/a" + payload
    header = b"\x30" + bytes([len(body) & 127 | 128, len(body) >> 7 & 127 | 128, len(body) >> 14])
    async with serve(answering(ACCEPTED, header, body)) as broker:
        inbox = Inbox()
        connection = await open_to(server(broker.port), inbox)
        assert await inbox.until(1) == [("/a", payload)]
        connection.abort()


async def test_a_topic_that_is_no_text_arrives_as_empty(serve: Serve, server: At) -> None:
    async with serve(answering(ACCEPTED, publish(b"\xff\xfe", b"x"))) as broker:
        inbox = Inbox()
        connection = await open_to(server(broker.port), inbox)
        assert await inbox.until(1) == [("", b"x")]
        connection.abort()


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
async def test_the_code_of_a_refusal_is_the_one_sent(serve: Serve, server: At, code: int) -> None:
    async with serve(answering(b"\x20\x02\x00" + bytes([code]))) as broker:
        error = await fault_of(server(broker.port))
        assert (error.fault, error.code) == (ConnectFault.MQTT_REFUSED, code)
        await broker.until(0)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x20\x02\x00\x07",  # no such code
        b"\x20\x03\x00\x00\x00",  # a CONNACK is longer by nothing
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        publish(b"/ext/register", b"too early"),
        b"\x34\x00",
        b"\x30\xff\xff\xff\x7f",
        b"\x30\xff\xff\xff\xff\xff",
        b"\xf0\x00",
    ],
)
async def test_an_answer_that_is_no_mqtt(serve: Serve, server: At, answer: bytes) -> None:
    async with serve(answering(answer)) as broker:
        assert (await fault_of(server(broker.port))).fault is ConnectFault.MQTT_PROTOCOL
        await broker.until(0)


async def test_no_answer(serve: Serve, server: At) -> None:
    async with serve(answering()) as broker:
        error = await fault_of(server(broker.port, seconds=0.3))
        assert error.fault is ConnectFault.MQTT_TIMEOUT
        await broker.until(0)


async def test_a_connection_closed_instead_of_an_answer(serve: Serve, server: At) -> None:
    async def hang_up(client: Any) -> None:
        await client.packet()

    async with serve(hang_up) as broker:
        assert (await fault_of(server(broker.port))).fault is ConnectFault.MQTT_CLOSED


async def test_cancelled_before_the_answer_it_closes(serve: Serve, server: At) -> None:
    asked = asyncio.Event()

    async def silent(client: Any) -> None:
        await client.packet()
        asked.set()
        await client.gone()

    async with serve(silent) as broker:
        opening = asyncio.create_task(open_to(server(broker.port)))
        await asked.wait()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert opening.cancelled()
        await broker.until(0)


async def test_the_cloud_closes(serve: Serve, server: At) -> None:
    async def hang_up(client: Any) -> None:
        await client.packet()
        await client.send(ACCEPTED, publish(b"/a", b"last words"))

    async with serve(hang_up) as broker:
        inbox = Inbox()
        connection = await open_to(server(broker.port), inbox)
        assert await connection.wait_closed() is ConnectionEnd.CLOUD
        assert inbox.messages == [("/a", b"last words")]


async def test_the_connection_is_reset(serve: Serve, server: At) -> None:
    async def reset(client: Any) -> None:
        await client.packet()
        await client.send(ACCEPTED)
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()

    async with serve(reset) as broker:
        connection = await open_to(server(broker.port))
        # Python 3.11 shows a reset under TLS as the end of the stream.
        assert await connection.wait_closed() in {ConnectionEnd.LOST, ConnectionEnd.CLOUD}


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x00",  # a message without a topic
        b"\x34\x00",  # QoS 2
        b"\x30\xff\xff\xff\x7f",  # 256 MiB
        b"\x30\xff\xff\xff\xff\xff",
        b"\xf0\x00",
        b"\x10\x02\x00\x04",  # what a client sends
        b"\x82\x06\x00\x01\x00\x01a\x00",
        b"\xa2\x05\x00\x01\x00\x01a",
        b"\xc0\x00",
        b"\xe0\x00",
        ACCEPTED,
        b"\x62\x02\x00\x01",  # of QoS 2
        b"\xd0\x01\x00",
    ],
)
async def test_what_is_no_mqtt_ends_a_connection(serve: Serve, server: At, packet: bytes) -> None:
    async with serve(answering(ACCEPTED, packet)) as broker:
        connection = await open_to(server(broker.port))
        assert await connection.wait_closed() is ConnectionEnd.PROTOCOL
        await broker.until(0)


async def test_a_ping_is_answered_or_the_connection_ends(serve: Serve, server: At) -> None:
    async def once(client: Any) -> None:
        await client.packet()
        await client.send(ACCEPTED)
        assert await client.packet() == PINGREQ
        await client.send(PINGRESP)
        assert await client.packet() == PINGREQ
        await client.gone()

    async with serve(once) as broker:
        connection = await open_to(server(broker.port), keepalive=1)
        assert await connection.wait_closed() is ConnectionEnd.KEEPALIVE
        await broker.until(0)


async def test_a_closed_connection_leaves_its_file_number_alone(serve: Serve, server: At) -> None:
    """paho closes its socket once more when it is destroyed, and the number may be in use."""
    unbound = asyncio.Event()

    async def script(client: Any) -> None:
        await client.packet()
        await client.send(ACCEPTED)
        await unbound.wait()
        with contextlib.suppress(ConnectionError):  # the first client is gone
            await client.send(publish(b"/a", b"b"))
        await client.gone()

    async with serve(script) as broker:
        first = await open_to(server(broker.port))
        number = first._descriptor
        first.abort()
        inbox = Inbox()
        second = await open_to(server(broker.port), inbox)
        assert second._descriptor == number
        del first
        gc.collect()
        unbound.set()
        assert await inbox.until(1) == [("/a", b"b")]
        second.abort()
        await broker.until(0)


async def test_to_wait_and_be_cancelled_does_no_harm(serve: Serve, server: At) -> None:
    async with serve(answering(ACCEPTED)) as broker:
        connection = await open_to(server(broker.port))
        waiting = asyncio.create_task(connection.wait_closed())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not connection.closed.done()
        await connection.close()
        assert await connection.wait_closed() is ConnectionEnd.OURS


def test_paho_still_has_the_seams() -> None:
    assert callable(paho.Client._create_socket_connection)
    assert callable(paho.Client._send_pingreq)
