"""A door's session at its broker, over one connection: logged in, subscribed, acknowledging."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from gatewayd.messages.doors.connection import BrokerConnection, ConnectionLoss
from gatewayd.messages.doors.faults import DoorError, DoorFault, refusal
from gatewayd.messages.doors.held import HeldAcknowledgements, HeldMessage
from gatewayd.messages.doors.outgoing import OutgoingMessage
from gatewayd.messages.doors.packets import (
    MAX_PACKET_ID,
    REFUSED,
    V5,
    ConnackPacket,
    ConnectPacket,
    Packet,
    PubackPacket,
    PublishPacket,
    SubackPacket,
    puback,
    publish,
    subscribe,
    subscribe_to_kept,
    unsubscribe,
)

FILTERS = 64
"""Topic filters of one SUBSCRIBE."""
_SUBSCRIBE_ID = MAX_PACKET_ID
"""Nothing is published before the answer, so no message has this identifier then."""

NOT_MQTT_5 = (DoorFault.VERSION, DoorFault.CLOSED)
"""How a broker that speaks only MQTT 3.1.1 answers to MQTT 5: it says so, or says nothing."""

T = TypeVar("T")


class SessionHandler(Protocol):
    """What acts on what a session receives.  Never blocks."""

    def on_message(self, message: PublishPacket, acknowledge: Callable[[], None]) -> None:
        """Handle a message.  acknowledge: to be called once, when it is settled."""

    def on_published(self, packet: int, code: int) -> None:
        """Note that the broker has a message of ours, or refuses it: the code of its PUBACK."""


class DoorSession:
    """One connection to a broker, and what is held of it.

    sock: ready for use.  endpoint: for people.  timeout: seconds for each answer.
    rests: as in `BrokerConnection`.
    """

    def __init__(
        self,
        sock: socket.socket,
        version: int,
        handler: SessionHandler,
        endpoint: str,
        timeout: float,
        rests: Callable[[], bool] = lambda: False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._version, self._handler = version, handler
        self._endpoint, self._timeout = endpoint, timeout
        self._held = HeldAcknowledgements()
        self._packets = 0
        self._connack: asyncio.Future[ConnackPacket] = loop.create_future()
        self._suback: asyncio.Future[SubackPacket] = loop.create_future()
        self.connection = BrokerConnection(sock, version, self._received, rests)

    async def log_in(self, login: ConnectPacket) -> ConnackPacket:
        """Send CONNECT; return the broker's answer.  Raises DoorError."""
        self.connection.send(login.encode(self._version))
        connack = await self._answer(self._connack)
        if connack.code:
            raise DoorError.of(refusal(self._version, connack.code), self._endpoint)
        self.connection.keep_alive(min(login.keepalive, connack.keepalive or login.keepalive))
        return connack

    async def subscribe(self, filters: Sequence[str]) -> bool:
        """Subscribe; return whether the broker has granted all.  Raises DoorError."""
        granted = True
        async for part, codes in self._in_parts(filters, subscribe):
            granted = granted and len(codes) == len(part) and max(codes) < REFUSED
        return granted

    async def subscribe_to_kept(self, topic_filter: str) -> bool:
        """Subscribe with QoS 0; return whether the broker grants it, once it has said so.

        All that it keeps may come first: it has to answer within the timeout after the last of
        that.  Raises DoorError.
        """
        self._suback = asyncio.get_running_loop().create_future()
        self.connection.send(subscribe_to_kept(self._version, _SUBSCRIBE_ID, [topic_filter]))
        while True:
            before = self._packets
            try:
                codes = (await self._answer(self._suback)).codes
            except DoorError as error:
                if error.reason.code != DoorFault.NO_ANSWER or self._packets == before:
                    raise
            else:
                return bool(codes) and max(codes) < REFUSED

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe, also from what the broker does not know.  Raises DoorError."""
        async for _ in self._in_parts(filters, unsubscribe):
            pass

    async def _in_parts(
        self, filters: Sequence[str], encode: Callable[[int, int, Sequence[str]], bytes]
    ) -> AsyncIterator[tuple[Sequence[str], Sequence[int]]]:
        """Send packets with FILTERS filters each; yield those, and the codes of the answer."""
        for first in range(0, len(filters), FILTERS):
            part = filters[first : first + FILTERS]
            self._suback = asyncio.get_running_loop().create_future()
            self.connection.send(encode(self._version, _SUBSCRIBE_ID, part))
            yield part, (await self._answer(self._suback)).codes

    @property
    def expires(self) -> bool:
        """Whether the broker drops a message that has expired, and says if nothing listens."""
        return self._version == V5

    def publish(self, packet: int, message: OutgoingMessage) -> None:
        """Send a message of our own.  packet: 0 for one that is not acknowledged."""
        encoded = publish(
            self._version,
            packet,
            message.topic,
            message.payload,
            retained=message.retained,
            properties=message.properties,
        )
        self.connection.send(encoded)

    async def wait_closed(self) -> DoorError:
        """Return why the session has ended, when it has."""
        await asyncio.wait({self.connection.closed})
        return self._end(DoorFault.LOST)

    async def _answer(self, answer: asyncio.Future[T]) -> T:
        """Return an answer of the broker.  Raises DoorError."""
        both: set[Awaitable[object]] = {answer, self.connection.closed}
        await asyncio.wait(
            {asyncio.ensure_future(one) for one in both},
            timeout=self._timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answer.done():
            return answer.result()
        if self.connection.closed.done():
            raise self._end(DoorFault.CLOSED)
        raise DoorError.of(DoorFault.NO_ANSWER, self._endpoint)

    def _end(self, without_a_word: DoorFault) -> DoorError:
        """Return why the connection has ended.

        without_a_word: what it means that the broker gave no reason.
        """
        connection, fault, detail = self.connection, without_a_word, ""
        match connection.closed.result():
            case ConnectionLoss.SILENT:
                fault = DoorFault.SILENT
            case ConnectionLoss.CERTIFICATE:
                fault = DoorFault.CERTIFICATE
            case ConnectionLoss.PROTOCOL:
                fault, detail = DoorFault.NOT_MQTT, f"The broker sent {connection.fault}."
            case ConnectionLoss.BROKER if connection.disconnect:
                fault = refusal(V5, connection.disconnect)
        return DoorError.of(fault, self._endpoint, detail)

    def _received(self, packet: Packet) -> None:
        """Act on a packet.  CONNACK comes first, and once."""
        self._packets += 1
        if isinstance(packet, ConnackPacket) is self._connack.done():
            self.connection.refuse("no CONNACK first, or a second one")
            return
        match packet:
            case PublishPacket():
                held = self._held.hold(packet.packet)
                self._handler.on_message(packet, partial(self._acknowledge, held))
            case PubackPacket(number, code):
                self._handler.on_published(number, code)
            case ConnackPacket():
                self._connack.set_result(packet)
            case SubackPacket() if not self._suback.done():
                self._suback.set_result(packet)

    def _acknowledge(self, held: HeldMessage) -> None:
        """Acknowledge a message, and those after it that have waited for it."""
        for packet in self._held.settle(held):
            self.connection.send(puback(packet))
