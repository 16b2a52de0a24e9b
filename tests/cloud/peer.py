"""A cloud for one client, which does what a test says: MQTT over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import Login
from gatewayd.device.secret import Secret
from gatewayd.network.tls import Server
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    Publish,
    Subscribe,
    Unsubscribe,
)

Asked = tuple[str, dict[str, Any]]


@dataclass
class Peer:
    """What the cloud does, and what it saw.

    granted: code of a topic in a SUBACK; None to send no SUBACK.  replies: payloads to send for a
    message, each with its topic; the default is silence.  puback: whether QoS 1 is acknowledged.
    """

    granted: Callable[[str], int | None] = lambda _: 1
    replies: Callable[[str, dict[str, Any]], list[tuple[str, bytes]]] = lambda *_: []
    puback: bool = True
    connack: int = 0
    first: bytes = b""
    seen: list[Packet] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    client: Any = None

    async def script(self, client: Any) -> None:
        """Serve one client, until it leaves or is dropped."""
        self.client, parser = client, codec.Parser()
        with contextlib.suppress(ConnectionError):
            while data := await client.reader.read(65536):
                for packet in parser.feed(data):
                    await client.send(*self._serve(packet))
                    async with self.came:
                        self.seen.append(packet)
                        self.came.notify_all()

    def _serve(self, packet: Packet) -> list[bytes]:
        match packet:
            case Connect():
                return [codec.connack(self.connack), self.first]
            case Subscribe():
                codes = [self.granted(topic) for topic, _ in packet.filters]
                sent = [code for code in codes if code is not None]
                return [codec.suback(packet.packet_id, sent)] if sent else []
            case Unsubscribe():
                return [codec.unsuback(packet.packet_id)]
            case Publish():
                acknowledged = packet.qos and self.puback
                first = [codec.puback(packet.packet_id)] if acknowledged else []
                replies = self.replies(packet.topic, json.loads(packet.payload))
                return first + [codec.publish(*reply) for reply in replies]
        return []

    async def say(self, topic: str, message: object) -> None:
        """Send a message to the client, JSON unless it is bytes."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.client.send(codec.publish(topic, payload))

    def drop(self) -> None:
        """Hang up."""
        self.client.writer.transport.abort()

    @property
    def asked(self) -> list[Asked]:
        """What was published, in order."""
        return [(p.topic, json.loads(p.payload)) for p in self.seen if isinstance(p, Publish)]

    @property
    def subscribed(self) -> list[tuple[str, ...]]:
        """The topics of each SUBSCRIBE."""
        found = [packet for packet in self.seen if isinstance(packet, Subscribe)]
        return [tuple(topic for topic, _ in packet.filters) for packet in found]

    @property
    def left(self) -> bool:
        """Whether the client has said DISCONNECT."""
        return any(isinstance(packet, Disconnect) for packet in self.seen)

    async def until(self, true: Callable[[], bool]) -> None:
        """Return when something is so; it is looked at after each packet of the client."""
        async with asyncio.timeout(30), self.came:
            await self.came.wait_for(true)


@asynccontextmanager
async def connected(
    peer: Peer,
    serve: Callable[..., AbstractAsyncContextManager[Any]],
    server: Callable[..., Server],
    on_message: mqtt.Handler = lambda *_: None,
) -> AsyncIterator[mqtt.MqttConnection]:
    """Yield a connection to a peer; both are gone afterwards."""
    login = Login("gateway", "gateway-01&a1Gateway01", Secret(b"password"))
    async with serve(peer.script) as broker:
        async with asyncio.timeout(30):
            connection = await mqtt.open_connection(server(broker.port), login, 60, on_message)
        try:
            yield connection
        finally:
            await connection.close()
            await broker.until(0)
