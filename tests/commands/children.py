"""A child that listens for commands at a broker, by paho as Debian has it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.messages.doors.intakes import PATIENCE

V311, V5 = paho.MQTTv311, paho.MQTTv5


@dataclass(frozen=True)
class Received:
    """What a child received.  response, correlation: of MQTT 5; "" and b"" for none."""

    topic: str
    payload: bytes
    response: str = ""
    correlation: bytes = b""


@dataclass
class ListeningChild:
    """A child's program, on paho's own thread.

    react: returns what to publish, as topic and payload, for what was received.
    """

    client: Any
    react: Callable[[Received], Sequence[tuple[str, bytes]]]
    received: list[Received] = field(default_factory=list)

    def receive(self, _client: Any, _data: Any, message: Any) -> None:
        if message.topic.endswith("/down/status"):
            return
        properties = getattr(message, "properties", None)  # of MQTT 5
        one = Received(
            message.topic,
            message.payload,
            getattr(properties, "ResponseTopic", ""),
            getattr(properties, "CorrelationData", b""),
        )
        self.received.append(one)
        for topic, payload in self.react(one):
            self.say(topic, payload, one.correlation if topic == one.response else b"")

    def say(self, topic: str, payload: bytes, correlation: bytes = b"") -> None:
        properties = None
        if correlation:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation
        self.client.publish(topic, payload, qos=1, properties=properties)


def silent(_: Received) -> Sequence[tuple[str, bytes]]:
    """Answer nothing."""
    return ()


@contextlib.asynccontextmanager
async def listening_child(  # noqa: PLR0913  # six by keyword: what a client is made of
    port: int,
    name: str,
    password: str,
    *,
    version: int = V5,
    topics: Sequence[str] = (),
    react: Callable[[Received], Sequence[tuple[str, bytes]]] = silent,
    kept: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ListeningChild]:
    """Connect a child that subscribes, by default to its own `down/`.

    kept: whether the broker keeps its session while it is away, for a minute with MQTT 5.
    """
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    api = getattr(paho, "CallbackAPIVersion", None)
    first = (api.VERSION2,) if api else ()
    clean = {} if version == V5 else {"clean_session": not kept}
    client: Any = paho.Client(*first, client_id=name, protocol=version, **clean)
    if password:
        client.username_pw_set(name, password)
    if tls is not None:
        client.tls_set_context(tls)
    wanted = topics or (f"c/{name}/down/#",)
    child = ListeningChild(client, react)
    client.on_message = child.receive
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(ready.set)
    client.on_connect = lambda *_: client.subscribe([(topic, 1) for topic in wanted])
    more: dict[str, Any] = {}
    if version == V5 and kept:
        more = {"clean_start": False, "properties": Properties(PacketTypes.CONNECT)}
        more["properties"].SessionExpiryInterval = 60
    await asyncio.to_thread(client.connect, "127.0.0.1", port, **more)
    client.loop_start()
    try:
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
        yield child
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
