"""One client of an MQTT 3.1.1 server: its packets, its keep-alive, and the script of its answer.

An `MqttHandler` decides on the answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.channel import Channel, NamedConnection
from gatewayd.simulator.mqtt.codec import MalformedPacket
from gatewayd.simulator.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Publish,
    Subscribe,
    Unsubscribe,
)
from gatewayd.simulator.mqtt.websocket import WebSocketEnd

CONNECT_LIMIT = 4_096
"""The largest CONNECT accepted, in bytes, as the client is not authenticated yet."""

REFUSED = 0x80
"""The SUBACK code of a refused filter (3.9.3)."""


@dataclass(frozen=True, slots=True)
class ReplyStep:
    """A step of an answer: wait, send, perhaps close.  after: seconds since the last step."""

    data: bytes = b""
    after: float = 0.0
    close: bool = False


@dataclass(frozen=True, slots=True)
class ConnectReply:
    """The answer to a CONNECT.  accepted: whether further packets are handled."""

    accepted: bool
    steps: tuple[ReplyStep, ...]


class Unacknowledged(Exception):
    """A message is not to be acknowledged.  hang_up: whether the connection is closed instead."""

    def __init__(self, *, hang_up: bool) -> None:
        super().__init__()
        self.hang_up = hang_up


class MqttHandler(Protocol):
    """A handler of packets."""

    def on_connect(self, link: MqttLink, connect: Connect) -> ConnectReply:
        """Answer the first packet of a connection."""

    def on_publish(self, link: MqttLink, publish: Publish) -> None:
        """Handle a message of an accepted client; QoS 1 is acknowledged after this returns.

        Raises Unacknowledged.
        """

    def on_close(self, link: MqttLink) -> None:
        """Called once when a connection that had sent CONNECT is closed."""


class SubscriptionHandler(Protocol):
    """A handler of subscriptions."""

    def on_subscribe(self, link: MqttLink, filters: Sequence[str]) -> list[bool]:
        """Return whether each filter is granted."""

    def on_unsubscribe(self, link: MqttLink, filters: Sequence[str]) -> None:
        """Remove subscriptions."""


class MqttWitness(Protocol):
    """What is shown of each connection, beside its handler."""

    def connected(self, link: MqttLink, connect: Connect, *, accepted: bool) -> None:
        """Called with the first packet of a connection, once it is answered."""

    def published(self, link: MqttLink, publish: Publish) -> None:
        """Called with each message of an accepted client, before it is handled."""

    def closed(self, link: MqttLink) -> None:
        """Called once when a connection that had sent CONNECT is closed."""


@dataclass(frozen=True, slots=True)
class MqttLimits:
    """The limits of a server.

    connect: seconds from accepting a connection to its CONNECT.
    patience: the keep-alive times that a client may be silent (3.1.2.10).
    packet: bytes of the largest packet; the vendor accepts messages of 256 KiB.
    """

    connect: float = 10.0
    patience: float = 1.5
    connections: int = 10_000
    packet: int = 256 * 1024 + 256


@dataclass(slots=True)
class MqttService:
    """The part that all links of one server share.

    context: for TLS; None to serve plain TCP only.
    plain: whether the same port serves plain TCP too, as the vendor's port 1883 does.
    subscriptions: decides on filters; None grants all.
    witness: is shown what arrives; None for no one.
    counts: connections, peak, full, malformed, silent, no-connect.
    tls_failures: handshakes that failed, by OpenSSL's reason.
    """

    hooks: MqttHandler
    context: ssl.SSLContext | None
    plain: bool = False
    limits: MqttLimits = field(default_factory=MqttLimits)
    subscriptions: SubscriptionHandler | None = None
    witness: MqttWitness | None = None
    counts: Counter[str] = field(default_factory=Counter)
    tls_failures: Counter[str] = field(default_factory=Counter)
    links: set[MqttLink] = field(default_factory=set)


class MqttLink:
    """The connection of one client, over WebSocket if it begins so.

    tls: the socket, for its certificate and version; None for plain TCP.
    peer: the IP address of the client.
    granted: filter → QoS, of the filters that a handler granted.
    """

    def __init__(self, service: MqttService, sock: socket.socket) -> None:
        self.granted: dict[str, int] = {}
        self.peer = _peer(sock)
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._parser = codec.Parser(CONNECT_LIMIT)
        self._greeted = self._accepted = False
        self._patience = service.limits.connect
        self._last_received = self._loop.time()
        self._watchdog = self._loop.call_later(self._patience, self._check_silence)
        self._script: asyncio.TimerHandle | None = None
        self._websocket: WebSocketEnd | None = None
        self._is_first = True
        failed = service.tls_failures.update
        self._channel = Channel(
            sock, self, service.context, plain=service.plain, failed=lambda why: failed([why])
        )
        service.links.add(self)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS connection, or None."""
        return self._channel.tls

    @property
    def server_name(self) -> str | None:
        """The server name that the client sent, if the context remembers names; else None."""
        return self.tls.asked if isinstance(self.tls, NamedConnection) else None

    def send(self, data: bytes) -> None:
        """Send a packet."""
        self._channel.send(data if self._websocket is None else self._websocket.framed(data))

    def close(self) -> None:
        """Close when everything is written."""
        self._channel.close()

    def abort(self) -> None:
        """Close at once."""
        self._channel.abort()

    def received(self, data: bytes) -> None:
        """Handle bytes of the channel."""
        if self._greeted:
            self._last_received = self._loop.time()
        if self._is_first and data.startswith(WebSocketEnd.BEGINS):
            self._service.counts["websockets"] += 1
            self._websocket = WebSocketEnd(self._channel.send)
        self._is_first = False
        try:
            if self._websocket is not None:
                data = self._websocket.receive(data)
            for packet in self._parser.feed(data):
                self._handle(packet)
                if not self._channel.open:
                    return
        except MalformedPacket:
            self._service.counts["malformed"] += 1
            self._channel.abort()

    def closed(self, _reason: str) -> None:
        """Handle the end of the channel."""
        self._watchdog.cancel()
        if self._script:
            self._script.cancel()
        self._service.links.discard(self)
        if self._greeted:
            self._service.hooks.on_close(self)
            if self._service.witness:
                self._service.witness.closed(self)

    def _handle(self, packet: Packet) -> None:
        if isinstance(packet, Connect) == self._greeted:
            raise MalformedPacket("CONNECT comes first, and once")  # 3.1
        if isinstance(packet, Connect):
            self._greet(packet)
        elif isinstance(packet, Disconnect):
            self._channel.close()
        elif self._accepted:
            self._serve(packet)

    def _greet(self, connect: Connect) -> None:
        self._greeted = True
        self._parser.limit = self._service.limits.packet
        self._last_received = self._loop.time()
        self._watchdog.cancel()
        if connect.keepalive:
            self._patience = connect.keepalive * self._service.limits.patience
            self._check_silence()
        reply = self._service.hooks.on_connect(self, connect)
        self._accepted = reply.accepted
        if self._service.witness:
            self._service.witness.connected(self, connect, accepted=reply.accepted)
        self._play(reply.steps)

    def _serve(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._take(packet)
            case Subscribe():
                self.send(codec.suback(packet.packet_id, self._grant(packet.filters)))
            case Unsubscribe():
                self._unsubscribe(packet.filters)
                self.send(codec.unsuback(packet.packet_id))
            case Pingreq():
                self.send(codec.PINGRESP)

    def _take(self, packet: Publish) -> None:
        if self._service.witness:
            self._service.witness.published(self, packet)
        try:
            self._service.hooks.on_publish(self, packet)
        except Unacknowledged as fault:
            if fault.hang_up:
                self.abort()
        else:
            if packet.qos:
                self.send(codec.puback(packet.packet_id))

    def _grant(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Return the SUBACK code of each filter."""
        if (asked := self._service.subscriptions) is None:
            return [min(qos, 1) for _, qos in filters]
        granted = asked.on_subscribe(self, [name for name, _ in filters])
        codes = [
            min(qos, 1) if one else REFUSED for one, (_, qos) in zip(granted, filters, strict=True)
        ]
        self.granted |= {
            name: code for (name, _), code in zip(filters, codes, strict=True) if code != REFUSED
        }
        return codes

    def _unsubscribe(self, filters: Sequence[str]) -> None:
        if asked := self._service.subscriptions:
            asked.on_unsubscribe(self, filters)
        for name in filters:
            self.granted.pop(name, None)

    def _check_silence(self) -> None:
        """Close a client that was silent for too long; else check again when it may have been."""
        left = self._last_received + self._patience - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._check_silence)
        else:
            self._service.counts["silent" if self._greeted else "no-connect"] += 1
            self._channel.abort()

    def _play(self, steps: Sequence[ReplyStep]) -> None:
        for at, step in enumerate(steps):
            if step.after:
                rest = (dataclasses.replace(step, after=0.0), *steps[at + 1 :])
                self._script = self._loop.call_later(step.after, self._play, rest)
                return
            if step.data:
                self.send(step.data)
            if step.close:
                self._channel.close()
                return


def _peer(sock: socket.socket) -> str:
    """Return the address of the other end; "" where it has gone already, or has none."""
    try:
        name = sock.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""
