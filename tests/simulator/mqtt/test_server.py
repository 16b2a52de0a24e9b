"""The server with hooks of our own: what a cloud may rely on."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.link import ConnectReply, MqttLink, MqttService, ReplyStep
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.simulator.mqtt.server import MqttServer
from gatewayd.testing.waiting import until
from tests.simulator.alibaba.client import connect_packet, registering
from tests.simulator.wire import trusting, wire
from tests.support.simulated_ca import CERTIFICATE

HELLO = connect_packet(registering("TH20-0001"))


@dataclass
class Hooks:
    """Accepts by a script, and remembers."""

    steps: tuple[ReplyStep, ...] = (ReplyStep(codec.connack(0)),)
    seen: list[str] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)

    def on_connect(self, link: MqttLink, connect: Connect) -> ConnectReply:
        assert link.tls is not None
        assert link.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert link.tls.version() in {"TLSv1.2", "TLSv1.3"}
        self.seen.append("connect " + connect.username.split("&")[0])
        return ConnectReply(accepted=True, steps=self.steps)

    def on_publish(self, link: MqttLink, publish: Publish) -> None:
        self.published.append(publish.payload)
        link.send(codec.publish("echo", publish.payload))

    def on_close(self, link: MqttLink) -> None:
        self.seen.append("close")


async def test_hooks_are_called_in_order() -> None:
    hooks = Hooks()
    server = MqttServer(MqttService(hooks, CERTIFICATE.server_context()))
    server.start("127.0.0.1")
    async with wire(server.port, trusting(), HELLO) as one:
        assert await one.code() == 0
        one.writer.write(codec.publish("t", b"first") + codec.publish("t", b"second"))
        assert await one.push() == ("echo", b"first")
        assert await one.push() == ("echo", b"second")
        one.leave()
        await one.ended()
    server.stop()
    server.stop()
    assert hooks.seen == ["connect TH20-0001", "close"]


async def test_a_script_is_played_step_by_step() -> None:
    steps = (
        ReplyStep(b"\x20\x02"),
        ReplyStep(b"\x00\x00", after=0.01),
        ReplyStep(after=0.01, close=True),
    )
    server = MqttServer(MqttService(Hooks(steps), CERTIFICATE.server_context()))
    server.start("127.0.0.1")
    async with wire(server.port, trusting(), HELLO) as one:
        assert await one.code() == 0
        assert await one.ended() == b""
    server.stop()


async def test_stopping_closes_what_is_open_and_ends_scripts() -> None:
    hooks = Hooks((ReplyStep(codec.connack(0)), ReplyStep(b"never", after=3600)))
    server = MqttServer(MqttService(hooks, CERTIFICATE.server_context()))
    server.start("127.0.0.1")
    async with wire(server.port, trusting(), HELLO) as one, wire(server.port, trusting()) as other:
        assert await one.code() == 0
        await until(lambda: len(server.service.links) == 2)
        server.stop()
        assert await one.ended() == b""
        assert await other.ended() == b""
    assert hooks.seen == ["connect TH20-0001", "close"]
    assert not server.service.links


@dataclass
class Clerk:
    """Grants what begins with a slash, and remembers what is taken back."""

    returned: list[str] = field(default_factory=list)

    def on_subscribe(self, link: MqttLink, filters: Sequence[str]) -> list[bool]:
        return [one.startswith("/") for one in filters]

    def on_unsubscribe(self, link: MqttLink, filters: Sequence[str]) -> None:
        self.returned += filters


async def test_the_handler_decides_on_subscriptions() -> None:
    clerk, context = Clerk(), CERTIFICATE.server_context()
    server = MqttServer(MqttService(Hooks(), context, subscriptions=clerk))
    server.start("127.0.0.1")
    async with wire(server.port, trusting(), HELLO) as one:
        assert await one.code() == 0
        filters = b"\0\2/a\0" + b"\0\1b\1" + b"\0\2/c\2"
        one.writer.write(b"\x82" + bytes((2 + len(filters),)) + b"\0\1" + filters)
        assert await one.reader.readexactly(7) == b"\x90\x05\0\1\x00\x80\x01"
        (link,) = server.service.links
        assert link.granted == {"/a": 0, "/c": 1}
        one.writer.write(b"\xa2\x06\0\2\0\2/a")
        assert await one.reader.readexactly(4) == b"\xb0\x02\0\2"
        assert link.granted == {"/c": 1}
    server.stop()
    assert clerk.returned == ["/a"]


async def test_without_anybody_to_ask_all_is_granted() -> None:
    server = MqttServer(MqttService(Hooks(), CERTIFICATE.server_context()))
    server.start("127.0.0.1")
    async with wire(server.port, trusting(), HELLO) as one:
        assert await one.code() == 0
        one.writer.write(b"\x82\x06\0\1\0\1b\2")
        assert await one.reader.readexactly(5) == b"\x90\x03\0\1\x01"
        (link,) = server.service.links
        assert link.granted == {}
    server.stop()
