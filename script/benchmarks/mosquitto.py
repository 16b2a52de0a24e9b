"""Brokers for a bench: mosquitto, with a bridge to another one or without; and a load."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gatewayd.simulator.mqtt import codec

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin") or "mosquitto"
PATIENCE = 60.0
_POLL = 0.02

COMMON = """\
per_listener_settings false
allow_anonymous true
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 100000
max_inflight_messages 200
set_tcp_nodelay true
user root
log_dest none
"""
"""As gatewayd's own broker has it; a bench runs as root, or has a user namespace."""
TLS = """\
listener {tls_port} 127.0.0.1
certfile {directory}/server.pem
keyfile {directory}/server.key
"""
SOCKET = "listener 0 {path}\n"
"""A Unix socket, as gatewayd's own broker has for it."""
BRIDGE = """\
connection {child}
address localhost:{port}
bridge_cafile {ca_file}
bridge_protocol_version mqttv311
remote_clientid {child}
local_clientid bridge-{child}
cleansession false
notifications false
try_private false
topic # out 1 c/{child}/up/ far/{child}/
"""
"""A bridge of mosquitto's own for one child, over a TLS connection of its own."""


def free_port() -> int:
    """Return a port of this machine that nothing listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Broker:
    """A mosquitto in a directory, while the `async with` lasts.  lines: of its configuration."""

    def __init__(self, directory: Path, lines: str = "") -> None:
        self._directory, self.port = directory, free_port()
        directory.mkdir(exist_ok=True)
        text = f"{COMMON.format(directory=directory)}listener {self.port} 127.0.0.1\n{lines}"
        (directory / "mosquitto.conf").write_text(text)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM, "-c", str(self._directory / "mosquitto.conf"),
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            while True:
                if self._process.returncode is not None:
                    raise RuntimeError("mosquitto does not start")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(_POLL)
                else:
                    writer.close()
                    return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class MqttClient:
    """A connection to a broker, by which a bench publishes or receives (MQTT 3.1.1)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, name: str) -> Self:
        """Connect to a port of this machine.  Raises OSError."""
        return await cls._over(name, *await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def open_local(cls, path: Path, name: str, password: str = "") -> Self:
        """Connect to a Unix socket; with a password as a user of that name.  Raises OSError."""
        return await cls._over(name, *await asyncio.open_unix_connection(path), password)

    @classmethod
    async def _over(
        cls,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        password: str = "",
    ) -> Self:
        client, flags = cls(reader, writer), 0xC2 if password else 0x02
        fields = (name, name, password) if password else (name,)
        body = b"\0\4MQTT\4" + bytes([flags]) + b"\0\0" + b"".join(map(_text, fields))
        client.writer.write(bytes([0x10, len(body)]) + body)
        await client.receive()
        return client

    async def receive(self) -> tuple[int, bytes]:
        """Return the next packet: its first byte, and what follows its length."""
        kind = (await self._reader.readexactly(1))[0]
        size, shift = 0, 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return kind, await self._reader.readexactly(size)

    async def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 0."""
        body = b"\0\1" + len(topic).to_bytes(2, "big") + topic.encode() + b"\0"
        self.writer.write(bytes([0x82, len(body)]) + body)
        await self.receive()

    def close(self) -> None:
        """Leave."""
        self.writer.close()


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


@dataclass(slots=True)
class Arrivals:
    """What has arrived at the far broker.

    latencies: of messages with a time, seconds.  late: how many were behind a later one.
    """

    count: int = 0
    late: int = 0
    latencies: list[float] = field(default_factory=list)
    _newest: dict[bytes, int] = field(default_factory=dict)

    def add(self, body: bytes) -> None:
        """Add a PUBLISH at QoS 0."""
        size = int.from_bytes(body[:2], "big")
        topic, payload = body[2 : 2 + size], body[2 + size :]
        number, at, *_ = payload.split(b" ", 2)
        self.count += 1
        if float(at):
            self.latencies.append(time.monotonic() - float(at))
        if self._newest.get(topic, -1) > int(number):
            self.late += 1
        self._newest[topic] = int(number)

    def quantile(self, part: float) -> float:
        """Return a quantile of the latencies, milliseconds."""
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(part * len(ranked)))] * 1000 if ranked else 0.0


class Load:
    """Children that speak at a near broker, and what of it arrives at a far one.

    near: a connection for each child, by its name.
    """

    def __init__(self, near: Mapping[str, MqttClient], far: MqttClient) -> None:
        self._near, self._far, self._children = near, far, tuple(near)
        self.arrivals, self.said, self.acknowledged = Arrivals(), 0, 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._far.subscribe("far/#")
        acknowledging = (self._acknowledge(one) for one in self._near.values())
        self._tasks = [asyncio.create_task(one) for one in (*acknowledging, self._arrive())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in (*self._near.values(), self._far):
            client.close()

    async def say(self, count: int, rate: float) -> float:
        """Publish so many messages of 200 bytes; return when all have arrived, seconds.

        rate: messages a second; as fast as they are acknowledged, if 0.
        """
        began, first, arrived = time.monotonic(), self.said, self.arrivals.count
        while self.said - first < count:
            due = count if not rate else int((time.monotonic() - began) * rate) + 1
            while self.said - first < min(due, count) and self.said - self.acknowledged < 500:
                self._say_one()
            await asyncio.sleep(0.001)
        await self.until(arrived + count)
        return time.monotonic() - began

    async def until(self, count: int) -> None:
        """Wait until so many messages have arrived.  Raises RuntimeError."""
        end = time.monotonic() + PATIENCE
        while self.arrivals.count < count:
            if time.monotonic() > end:
                raise RuntimeError(f"only {self.arrivals.count} of {count} messages arrived")
            await asyncio.sleep(0.005)

    def _say_one(self) -> None:
        child = self._children[self.said % len(self._children)]
        payload = b"%d %.6f " % (self.said, time.monotonic())
        packet = codec.publish(
            f"c/{child}/up/properties", payload.ljust(200, b"x"), 1, self.said % 65_535 + 1
        )
        self._near[child].writer.write(packet)
        self.said += 1

    async def _acknowledge(self, near: MqttClient) -> None:
        while True:
            await near.receive()
            self.acknowledged += 1

    async def _arrive(self) -> None:
        while True:
            kind, body = await self._far.receive()
            if kind >> 4 == 3:
                self.arrivals.add(body)
