"""A broker that plays a script to each door that connects, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gatewayd.messages.door_settings import DoorSettings, TopicSettings
from gatewayd.messages.doors.access import SiteBrokerAccess
from gatewayd.messages.doors.door import Door, Retry
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.doors.site.topics import SiteTopics
from gatewayd.messages.intake import MessageIntake
from gatewayd.runtime.clock import SYSTEM_CLOCK
from tests.messages.doors.intakes import CHILD, Children

CONNACK = bytes.fromhex("20 03 00 00 00")
CONNACK_AGAIN = bytes.fromhex("20 03 01 00 00")  # session present
CONNACK_311 = bytes.fromhex("20 02 00 00")
PINGRESP = bytes.fromhex("d0 00")


def suback(version: int = 5, code: int = 1) -> bytes:
    body = bytes.fromhex("ffff") + (b"\x00" if version == 5 else b"") + bytes((code,))
    return bytes((0x90, len(body))) + body


def message(packet: int, payload: bytes = b'{"v":1}', *, dup: bool = False) -> bytes:
    """A PUBLISH of MQTT 5 to the topic s/kitchen."""
    topic = b"s/kitchen"
    body = len(topic).to_bytes(2, "big") + topic
    body += (packet.to_bytes(2, "big") if packet else b"") + b"\x00" + payload
    length, encoded = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes((digit | (128 if length else 0),))
        if not length:
            break
    return bytes((0x30 | (2 if packet else 0) | (8 if dup else 0),)) + encoded + body


@dataclass
class Peer:
    """One door, as the broker sees it.  connect: its CONNECT."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connect: bytes = b""

    @property
    def version(self) -> int:
        return self.connect[8]

    async def packet(self) -> bytes:
        """Read one packet, whose length must fit in two bytes."""
        head = await self.reader.readexactly(2)
        length = head[1] & 0x7F
        if head[1] & 0x80:
            head += await self.reader.readexactly(1)
            length += head[2] << 7
        return head + await self.reader.readexactly(length)

    async def send(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))
        await self.writer.drain()

    async def accept(self) -> None:
        """Answer CONNECT, and SUBSCRIBE.  Raises ConnectionError where the door ends instead."""
        await self.send(CONNACK if self.version == 5 else CONNACK_311)
        said = (await self.packet())[0]
        if said == 0xE0:  # DISCONNECT: a test is over in the middle of a further connection
            raise ConnectionAbortedError
        assert said == 0x82
        await self.send(suback(self.version))

    async def gone(self) -> None:
        """Return when the door has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


@dataclass
class ScriptedBroker:
    """scripts: one for each connection, the last for all further ones."""

    scripts: list[Script]
    port: int = 0
    connections: int = 0
    faults: list[BaseException] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        peer = Peer(reader, writer)
        try:
            peer.connect = await peer.packet()
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the door has closed: what it says of that is what is asserted
        except BaseException as error:
            self.faults.append(error)
            raise
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def scripted(*scripts: Script, path: Path | None = None) -> AsyncIterator[ScriptedBroker]:
    """Run a broker, on a port or a Unix socket; fails where a script has."""
    broker = ScriptedBroker(list(scripts))
    if path is not None:
        server: asyncio.Server = await asyncio.start_unix_server(broker.serve, path)
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(broker.serve, sock=listener)
        broker.port = listener.getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if "ScriptedBroker.serve" in repr(task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not [one for one in broker.faults if not isinstance(one, asyncio.CancelledError)]


SITE = DoorSettings(
    host="127.0.0.1",
    keepalive=1,
    reply_timeout=60,
    retry_first=0.1,
    retry_last=1,
    topics=(TopicSettings("s/{name}"),),
)


def no_secret(_credential: str, _file: Path | None) -> object:
    raise AssertionError("no secret is configured")


def site_door(settings: DoorSettings, intake: MessageIntake) -> Door:
    """A door whose child `kitchen` publishes to s/kitchen."""
    children = Children({(ChildKey.NAME, "kitchen"): CHILD})
    access = SiteBrokerAccess(settings, "gatewayd-test-site", no_secret)  # type: ignore[arg-type]  # it is never called
    retry = Retry(settings.retry_first, settings.retry_last)
    return Door("site", access, SiteTopics(settings, children), intake, SYSTEM_CLOCK, retry)
