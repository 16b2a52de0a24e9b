"""MQTT 3.1.1 on asyncio: paho-mqtt 1.6 or 2.x, driven by the loop, without a thread.

paho's own connect() would block on DNS, TCP and TLS, so it is given a socket that is ready
(tls.py), and is called only when there is something to do.  It never reconnects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import paho.mqtt.client as paho

from gatewayd.cloud.command_router import ChildCommands
from gatewayd.cloud.paho_socket import (
    PATIENCE,
    Acknowledgement,
    Gone,
    PahoSocket,
    UnacknowledgedPackets,
    message_packet,
    paho_socket,
)
from gatewayd.cloud.provider import (
    CommandHandler,
    LoginFailed,
    MessageDelayed,
    Publication,
    SessionEnd,
)
from gatewayd.cloud.publisher import MessagePublisher
from gatewayd.device.command import ChildCommand, CommandAnswer
from gatewayd.device.message import Message
from gatewayd.device.secret import Secret
from gatewayd.network import connect_errors, tls
from gatewayd.network.connect_errors import ConnectError, ConnectFault, ConnectionEnd
from gatewayd.network.mqtt_rules import MAX_PACKET, KeepAlive, KeepAliveStep, PacketError
from gatewayd.network.tls import Server, dial
from gatewayd.network.websocket_stream import ByteStream, open_websocket

ACCEPTED, PROTOCOL_VERSION, _NOT_AUTHORISED = 0, 1, 5
_CODES: Mapping[int, int] = {0: 0, 132: 1, 133: 2, 136: 3, 134: 4, 135: 5}
"""MQTT 5 reason codes, as which paho 2 shows those of a CONNACK, to the bytes of MQTT 3.1.1."""


def connack(shown: Any) -> int:  # noqa: ANN401  # an int, or a type that paho 1.6 lacks
    """Return the code as sent, however paho shows it; -1 for one MQTT 3.1.1 does not know."""
    code = shown if isinstance(shown, int) else _CODES.get(shown.value, -1)
    return code if ACCEPTED <= code <= _NOT_AUTHORISED else -1


def suback(codes: Any) -> tuple[int, ...]:  # noqa: ANN401  # ints, or what paho 1.6 lacks
    """Return the codes of a SUBACK as sent."""
    return tuple(code if isinstance(code, int) else code.value for code in codes)


@dataclass(frozen=True, slots=True)
class Login:
    """The fields of a CONNECT (MQTT 3.1.1, 3.1.3).

    password: empty where a certificate takes its place.
    clean_session: whether the cloud forgets what it has kept for the device, and keeps nothing.
    """

    client_id: str
    user_name: str
    password: Secret
    clean_session: bool = True


log = logging.getLogger(__name__)

CLOSE_TIME = 2.0
"""Seconds that a DISCONNECT is given to leave."""
IN_FLIGHT = 64
"""Packets at a time that wait to leave, or for their acknowledgement."""
_MOST_IDS = 0xFFFF  # of a packet (MQTT 3.1.1, 2.3.1)
_WRITTEN_AT_ONCE = 64 * 1024  # bytes of messages; TLS wants what it could not write once more
AT_ONCE = 64
"""Packets that are handled before the loop's other work has its turn, and answers of ours that may
wait to leave while more is read."""
REFUSED = 0x80
"""The code of a topic in a SUBACK that was not subscribed to (MQTT 3.1.1, 3.9.3)."""

Handler: TypeAlias = Callable[[str, bytes], None]
"""Takes a message: topic ("" if it is not UTF-8) and payload.  Never blocks; nothing is queued."""


class _Client(paho.Client):  # type: ignore[misc]  # paho 1.6 has no types
    """A paho client that uses the socket that it is given, and the packet identifiers.

    refused: called with the code of a CONNACK that ends it.  new_id: makes an identifier that no
    packet under way has.
    """

    def __init__(
        self,
        login: Login,
        sock: PahoSocket,
        refused: Callable[[int], None],
        new_id: Callable[[], int],
    ) -> None:
        version = getattr(paho, "CallbackAPIVersion", None)
        first = (version.VERSION2,) if version else ()
        super().__init__(
            *first, client_id=login.client_id, clean_session=login.clean_session,
            protocol=paho.MQTTv311,
        )  # fmt: skip
        self.username_pw_set(login.user_name, login.password.reveal() or None)
        self.max_inflight_messages_set(IN_FLIGHT)
        self._given_socket, self._refused, self._connected = sock, refused, False
        self._new_id = new_id

    def _create_socket_connection(self) -> PahoSocket:
        """Take the place of paho's blocking connect; the same name in 1.6.1 to 2.2.0."""
        return self._given_socket

    def _mid_generate(self) -> int:
        """Take the place of paho's own; the same name in 1.6.1 to 2.2.0."""
        return self._new_id()

    def reconnect(self) -> int:
        """Connect once.  The second time, paho wants to answer CONNACK 1 by dialling again."""
        if self._connected:
            self._refused(PROTOCOL_VERSION)
            return int(paho.MQTT_ERR_CONN_REFUSED)
        self._connected = True
        return int(super().reconnect())

    def ping(self) -> int:
        """Send a PINGREQ; by the same name in 1.6.1 to 2.2.0.

        paho's own loop_misc would notice a dead path only after up to twice the keep-alive.
        """
        return int(self._send_pingreq())


async def open_connection(
    server: Server,
    login: Login,
    keepalive: int,
    on_message: Handler | None = None,
    *,
    max_packet: int = MAX_PACKET,
) -> MqttConnection:
    """Connect once, and return when the cloud has accepted.

    keepalive: seconds.  on_message: called for every message, even before this has returned; None
    to count them as dropped.
    max_packet: bytes of the largest packet that is awaited; a larger one ends the connection.
    Raises ConnectError.  Cancelled: the socket is closed at once.
    """
    sock = await dial(server)
    address = tls.peer_of(sock)
    stream: ByteStream = sock
    if server.websocket:
        stream = await open_websocket(sock, server)
    packets = paho_socket(stream, max_packet, sock)
    connection = MqttConnection(packets, login, keepalive, on_message)
    try:
        async with asyncio.timeout(server.reply_timeout):
            code = await connection.answer
    except TimeoutError:
        connection.abort()
        tls.try_last(server, address)
        raise ConnectError(ConnectFault.MQTT_TIMEOUT) from None
    except BaseException:
        connection.abort()
        raise
    if code != ACCEPTED:
        connection.abort()
        if code in (ConnectionEnd.CLOUD, ConnectionEnd.LOST):
            tls.try_last(server, address)
        raise _refusal(code, connection.alert)
    tls.keep_session(server, sock)  # its ticket comes before the CONNACK
    return connection


def _refusal(code: int | ConnectionEnd, alert: str) -> ConnectError:
    if code is ConnectionEnd.REJECTED:
        return ConnectError(ConnectFault.TLS_REJECTED, alert=alert)
    if isinstance(code, ConnectionEnd):
        protocol = code is ConnectionEnd.PROTOCOL
        return ConnectError(ConnectFault.MQTT_PROTOCOL if protocol else ConnectFault.MQTT_CLOSED)
    return (
        ConnectError(ConnectFault.MQTT_REFUSED, code)
        if code > 0
        else ConnectError(ConnectFault.MQTT_PROTOCOL)
    )


class MqttConnection:
    """One connection, made by `open_connection`.

    Messages of QoS 1 are written, and their acknowledgements read, past paho, which takes some
    thirty microseconds for each; it has the rest of the protocol.

    answer: the code of the CONNACK, -1 for an unknown one, or why the connection ended before it.
    closed: why the connection has ended.  Wait for it by asyncio.wait, or by `wait_closed`.
    on_message: may be replaced.  dropped: messages that came while there was none.
    retained: whether the message that is handled now was kept by the cloud for all who subscribe.
    alert: the TLS alert about our certificate, if the cloud closed the connection for that.

    A cloud that sends, and never reads, is not read either once AT_ONCE answers wait: what it sends
    stays in the kernel's buffers, and the keep-alive ends the connection.
    """

    def __init__(
        self, sock: PahoSocket, login: Login, keepalive: int, on_message: Handler | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[int | ConnectionEnd] = self._loop.create_future()
        self.closed: asyncio.Future[ConnectionEnd] = self._loop.create_future()
        self.on_message = on_message or self._drop
        self.dropped, self.retained = 0, False
        self.alert = ""
        self._leaving = self._ended = self._paused = self._resuming = False
        self._unsent = bytearray()
        self._is_about_to_write = self._is_writer_added = self._is_paho_writing = False
        self._is_paho_waiting = False  # to write: to ask paho itself for each message takes long
        self._newest_id = 0
        self._pending = UnacknowledgedPackets(
            IN_FLIGHT, PATIENCE, lambda: self._finish(ConnectionEnd.KEEPALIVE)
        )
        self._socket = sock
        self._descriptor, self._user_name = sock.fileno(), login.user_name
        self._client = client = _Client(login, self._socket, self._answered, self._new_id)
        client.on_connect = lambda *given: self._answered(connack(given[3]))
        client.on_message = self._deliver
        client.on_publish = client.on_unsubscribe = lambda *given: self._pending.acknowledge(
            given[2]
        )
        client.on_subscribe = lambda *given: self._subscribed(given[2], given[3])
        client.on_socket_register_write = lambda *_: self._paho_waits(True)
        client.on_socket_unregister_write = lambda *_: self._paho_waits(False)
        client.on_socket_close = lambda *_: self._unwatch()
        self._loop.add_reader(self._descriptor, self._read)
        self._keepalive = KeepAlive(keepalive, self._loop.time())
        self._timer = self._loop.call_at(self._keepalive.due(), self._check_keepalive)
        client.connect("unused", 1, keepalive)  # paho insists on a host and a port

    async def wait_closed(self) -> ConnectionEnd:
        """Return why the connection has ended, when it has."""
        return await asyncio.shield(self.closed)

    async def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Return when the message has left (QoS 0), or the cloud has it (1).  Raises Gone."""
        if not qos:
            await self._send(lambda: self._client.publish(topic, payload).mid)
        elif await self.post(topic, payload) is None:
            raise Gone

    def post(self, topic: str, payload: bytes) -> asyncio.Future[Acknowledgement | None]:
        """Publish at QoS 1; the future ends when the cloud has it, or with None as this has ended.

        What is posted leaves in this order; all of it waits while IN_FLIGHT packets are under way.
        """
        return self._pending.post(partial(self._queue, topic, payload))

    def _queue(self, topic: str, payload: bytes) -> int:
        """Queue a message of QoS 1; return its packet identifier."""
        number = self._new_id()
        self._unsent += message_packet(topic, payload, number)
        self._write_soon()
        return number

    def _new_id(self) -> int:
        while True:
            self._newest_id = self._newest_id % _MOST_IDS + 1
            if self._newest_id not in self._pending:
                return self._newest_id

    async def subscribe(self, topics: Sequence[str]) -> tuple[int, ...]:
        """Subscribe to one or more topics; return a code for each, as sent.  Raises Gone."""
        wanted = [(topic, 1) for topic in topics]
        codes = await self._send(lambda: self._client.subscribe(wanted)[1])
        return (codes + (REFUSED,) * len(topics))[: len(topics)]

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """Return when the cloud has done so.  Raises Gone."""
        await self._send(lambda: self._client.unsubscribe(list(topics))[1])

    async def _send(self, step: Callable[[], int | None]) -> tuple[int, ...]:
        """Let paho queue a packet; it is written when the loop comes round."""
        return await self._pending.send(lambda: self._drive(step, ConnectionEnd.LOST) or 0)

    async def close(self) -> None:
        """Send DISCONNECT and close; in at most 2 s, and never with an error."""
        try:
            if not self.closed.done():
                self._leaving = True
                self._drive(self._client.disconnect, ConnectionEnd.OURS)
                self._write()
            if not self.closed.done():  # else it has left at once
                await asyncio.wait({self.closed}, timeout=CLOSE_TIME)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once, without a DISCONNECT."""
        self._finish(ConnectionEnd.OURS)

    def _drop(self, _topic: str, _payload: bytes) -> None:
        self.dropped += 1

    def _answered(self, code: int) -> None:
        if not self.answer.done():
            self.answer.set_result(code)

    def _subscribed(self, number: int, codes: Any) -> None:  # noqa: ANN401  # paho has no types
        self._pending.acknowledge(number, suback(codes))

    def _deliver(self, _client: object, _data: object, message: Any) -> None:  # noqa: ANN401  # paho has no types
        try:
            topic = str(message.topic)
        except UnicodeDecodeError:
            topic = ""
        self.retained = bool(message.retain)
        self.on_message(topic, bytes(message.payload))

    def _read(self) -> None:
        try:
            before, alive = self._socket.arrived, self._socket.fill()
        except PacketError as error:
            self._refuse(error)
            return
        except OSError as error:
            self.alert = tls.alert_of(error)
            self._finish(ConnectionEnd.REJECTED if self.alert else ConnectionEnd.LOST)
            return
        if self._socket.arrived > before:
            self._keepalive.receive(self._loop.time())
        self._ended = not alive
        self._handle()

    def _handle(self) -> None:
        """Let paho handle what was read: AT_ONCE packets, and then the loop's other work."""
        try:
            for _ in range(AT_ONCE):
                if self.closed.done():
                    return
                if number := self._socket.puback():
                    self._pending.acknowledge(number)
                elif self._socket.advance():
                    self._drive(self._client.loop_read, ConnectionEnd.PROTOCOL)
                else:
                    self._handled_all()
                    return
        except PacketError as error:
            self._refuse(error)
        if self._socket.answers < AT_ONCE:
            self._handle_later()
        else:
            self._pause()

    def _refuse(self, error: PacketError) -> None:
        log.warning("The cloud sent %s to %s; its connection is closed.", error, self._user_name)
        self._finish(ConnectionEnd.PROTOCOL)

    def _handled_all(self) -> None:
        """Read on, unless too many answers wait to leave: a cloud may send, and never read."""
        if self._ended:
            self._finish(ConnectionEnd.CLOUD)
        elif self._socket.answers >= AT_ONCE and self._wants_to_write:
            self._pause()
        elif self._paused:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read)

    def _handle_later(self) -> None:
        """Let the loop's other work have its turn, and then handle more of what was read."""
        if self.closed.done() or self._resuming:
            return
        self._loop.remove_reader(self._descriptor)
        self._paused = self._resuming = True
        self._loop.call_soon(self._resume)

    def _pause(self) -> None:
        """Read no more until our answers have left, and what was read is handled."""
        if self.closed.done():
            return
        self._paused = True
        self._loop.remove_reader(self._descriptor)
        self._write()

    def _resume(self) -> None:
        self._resuming = False
        if self._paused and not self.closed.done():
            self._handle()

    @property
    def _wants_to_write(self) -> bool:
        return bool(self._unsent) or self._is_paho_waiting

    def _paho_waits(self, waits: bool) -> None:
        self._is_paho_waiting = waits
        if waits:
            self._write_soon()

    def _write_soon(self) -> None:
        """Write when the loop comes round: what is queued by then leaves together."""
        if not self._is_about_to_write:
            self._is_about_to_write = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Write our messages, and then paho's packets; but first what was begun, by either."""
        self._is_about_to_write = False
        if not self._is_paho_writing and not self.closed.done():
            self._write_unsent()
        if (self._is_paho_writing or not self._unsent) and not self.closed.done():
            self._write_of_paho()
        if self.closed.done():
            return
        if self._wants_to_write:
            self._loop.add_writer(self._descriptor, self._write)
            self._is_writer_added = True
            return
        if self._is_writer_added:
            self._loop.remove_writer(self._descriptor)
            self._is_writer_added = False
        self._keepalive.send(self._loop.time())
        self._socket.answers = 0
        if self._paused and not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _write_unsent(self) -> None:
        try:
            while unsent := self._unsent:
                some = unsent if len(unsent) <= _WRITTEN_AT_ONCE else unsent[:_WRITTEN_AT_ONCE]
                del unsent[: self._socket.send(some)]
        except BlockingIOError:
            return
        except ConnectionError:
            self._finish(ConnectionEnd.LOST)

    def _write_of_paho(self) -> None:
        if self._is_paho_waiting:
            self._drive(self._client.loop_write, ConnectionEnd.LOST)
            self._is_paho_writing = not self.closed.done() and self._client.want_write()

    def _check_keepalive(self) -> None:
        step = self._keepalive.step(self._loop.time())
        if step is KeepAliveStep.GIVE_UP:
            self._finish(ConnectionEnd.KEEPALIVE)
            return
        if step is KeepAliveStep.PING:
            self._drive(self._client.ping, ConnectionEnd.LOST)
        if not self.closed.done():
            self._timer = self._loop.call_at(self._keepalive.due(), self._check_keepalive)

    def _drive(self, step: Callable[[], int | None], end: ConnectionEnd) -> int | None:
        """Let paho work; return its result.  If it gave the connection up, `end` is why."""
        result = None
        try:
            result = step()
        except Exception as error:  # noqa: BLE001  # border: paho's parsing lets any error through
            log.warning(
                "The cloud sent what cannot be read to %s: %s.",
                self._user_name,
                type(error).__name__,
            )
            self._finish(ConnectionEnd.PROTOCOL)
        if self._client.socket() is None:
            self._finish(end)
        return result

    def _unwatch(self) -> None:
        if self.closed.done():  # paho's destructor comes late: the number may be another's by then
            return
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)

    def _finish(self, end: ConnectionEnd) -> None:
        if self.closed.done():
            return
        self._timer.cancel()
        self._unwatch()
        self._socket.close()
        self._pending.end()
        self.closed.set_result(ConnectionEnd.OURS if self._leaving else end)
        if not self.answer.done():
            self.answer.set_result(end)


@asynccontextmanager
async def preparing(connection: MqttConnection, host: str, port: int) -> AsyncIterator[None]:
    """Close a new connection if what is done with it first fails.

    host, port: of the cloud.  Raises LoginFailed in the place of TimeoutError and Gone.
    """
    try:
        yield
    except TimeoutError as error:
        connection.abort()
        silent = connect_errors.reason(ConnectFault.MQTT_TIMEOUT, host, port)
        raise LoginFailed(silent) from error
    except Gone as error:
        connection.abort()
        raise LoginFailed(connect_errors.ENDS[connection.closed.result()]) from error
    except BaseException:
        connection.abort()
        raise


async def subscribe_to_commands(
    connection: MqttConnection, topics: Sequence[str], device: str
) -> bool:
    """Subscribe to the commands that a device is sent; return whether any of it was granted.

    A refusal is no error: a cloud may send them without a subscription, and the device can speak.
    device: its name, for the log.  Raises Gone.
    """
    codes = await connection.subscribe(topics)
    if REFUSED in codes:
        refused = topics[codes.index(REFUSED)]
        log.info("The cloud refused %s subscriptions to commands, as %s.", device, refused)
    return any(code != REFUSED for code in codes)


class MqttSession:
    """A device that is logged in over a connection of its own.

    make_publisher: makes the publisher of what the device says, when it says something for the
    first time.  make_commands: makes the commands that the device is sent, and has them handle what
    comes, when the first comes or is waited for: to most devices none ever does.
    Implements Session, SupportsMessages, SupportsCommands.
    """

    def __init__(
        self,
        connection: MqttConnection,
        make_publisher: Callable[[], MessagePublisher],
        make_commands: Callable[[], ChildCommands],
    ) -> None:
        self._connection, self._make_publisher = connection, make_publisher
        self._make_commands = make_commands
        self._commands: ChildCommands | None = None

    def handle_first(self, topic: str, payload: bytes) -> None:
        """Handle the first message that comes: the connection's handler until then."""
        self._open_commands()
        self._connection.on_message(topic, payload)

    def _open_commands(self) -> ChildCommands:
        if self._commands is None:
            self._commands = commands = self._make_commands()
            self._connection.closed.add_done_callback(lambda _: commands.end())
        return self._commands

    @cached_property
    def _publisher(self) -> MessagePublisher:
        return self._make_publisher()

    @property
    def max_payload(self) -> int:
        """Bytes of the largest payload that the cloud may take from this device."""
        return self._publisher.max_payload

    async def publish(self, message: Message) -> Publication:
        """Publish a message once, as SupportsMessages says."""
        try:
            return await self._publisher.publish(message, self._connection.closed)
        except Gone as gone:
            closed = self._connection.closed
            end = closed.result() if closed.done() else ConnectionEnd.LOST
            return MessageDelayed(connect_errors.ENDS[end], gone.left)

    def receive_commands(self, handler: CommandHandler | None) -> None:
        """Have each command handled from now on, as SupportsCommands says."""
        if not self._connection.closed.done():
            self._open_commands().receive_commands(handler)

    async def answer(self, command: ChildCommand, answer: CommandAnswer) -> bool:
        """Answer a command once, as SupportsCommands says."""
        return self._commands is not None and await self._commands.answer(command, answer)

    async def wait_closed(self) -> SessionEnd:
        """Return how the session ended, when it has."""
        end = await self._connection.wait_closed()
        return SessionEnd(connect_errors.ENDS[end], by_cloud=end is ConnectionEnd.CLOUD)

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine."""
        await self._connection.close()
