"""One connection to a broker: bytes in and out on asyncio, without a thread.

A door reads no more than it can answer for: it pauses reading, and what the broker has more stays
there.  A broker that does not read what is sent to it is not read from either.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from enum import StrEnum

from gatewayd.messages.doors.packets import (
    PINGREQ,
    BrokerError,
    DisconnectPacket,
    Packet,
    PacketParser,
    disconnect,
)
from gatewayd.network.mqtt_rules import KeepAlive, KeepAliveStep
from gatewayd.network.tls import alert_of

READ = 64 * 1024
"""Bytes that are read at a time."""
AT_ONCE = 64
"""Packets that are handled before the loop's other work has its turn."""
MAX_UNSENT = 64 * 1024
"""Bytes that may wait to leave while more is read."""
CLOSE_TIME = 2.0
"""Seconds that a DISCONNECT is given to leave."""

_BEFORE_LOGIN = 3600.0  # until it is known, nothing is due
_PROTOCOL_ERROR = 0x82  # reason code [MQTT 5.0, 2.4]


class ConnectionLoss(StrEnum):
    """Why a connection to a broker has ended."""

    OURS = "closed"
    BROKER = "broker-closed"
    LOST = "lost"
    CERTIFICATE = "certificate-rejected"  # with TLS 1.3 that comes after the handshake
    SILENT = "silent"
    PROTOCOL = "protocol-error"


class BrokerConnection:
    """A connection over a socket that is ready: Unix, TCP or TLS.

    sock: non-blocking; closed with the connection.
    on_packet: called for each packet.  Never blocks; it may pause reading.
    rests: whether what comes next may wait at the broker, until `gather`: what is read together
    takes half the time of what is read one by one.

    closed: why it has ended.  fault: what the broker sent against the protocol; "" for nothing.
    disconnect: the code of the broker's DISCONNECT; None where it sent none.
    """

    def __init__(
        self,
        sock: socket.socket,
        version: int,
        on_packet: Callable[[Packet], None],
        rests: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[ConnectionLoss] = self._loop.create_future()
        self.fault = ""
        self.disconnect: int | None = None
        self._sock, self._descriptor, self._version = sock, sock.fileno(), version
        self._parser, self._on_packet, self._rests = PacketParser(version), on_packet, rests
        self._unsent = bytearray()
        self._paused = self._resting = self._leaving = False
        self._reading = self._writing = False
        self._next_step: asyncio.Handle | None = None
        self._flush_soon: asyncio.Handle | None = None
        self._keepalive = KeepAlive(_BEFORE_LOGIN, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._read_on()

    def keep_alive(self, interval: int) -> None:
        """Begin to keep the connection alive.  interval: seconds, as in the CONNECT."""
        self._keepalive = KeepAlive(interval, self._loop.time())
        self._timer = self._loop.call_at(self._keepalive.due(), self._check_keepalive)

    @property
    def is_congested(self) -> bool:
        """Whether too much waits to leave."""
        return len(self._unsent) > MAX_UNSENT

    def send(self, data: bytes) -> None:
        """Have bytes leave; what is sent in one step of the loop leaves together."""
        if self.closed.done():
            return
        self._unsent += data
        if self._flush_soon is None and not self._writing:
            self._flush_soon = self._loop.call_soon(self._flush)

    def pause(self) -> None:
        """Read no more until `resume`; the packet that is being handled is the last."""
        self._paused = True
        self._stop_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._keepalive.receive(self._loop.time())  # for what could not be received meanwhile
            self._soon(self._handle)

    def gather(self) -> None:
        """Read what has come since it rests."""
        if self._resting and not (self._paused or self.closed.done()):
            self._read()

    async def close(self) -> None:
        """Send DISCONNECT and close; in at most 2 s, and never with an error."""
        try:
            if not self.closed.done():
                self._leaving = True
                self._stop_reading()
                self.send(disconnect(self._version))
                await asyncio.wait({self.closed}, timeout=CLOSE_TIME)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._finish(ConnectionLoss.OURS)

    # Reading.

    def _read(self) -> None:
        self._resting = False
        try:
            data = self._sock.recv(READ)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._read_on()
            return
        except OSError as error:
            rejected = bool(alert_of(error))
            self._finish(ConnectionLoss.CERTIFICATE if rejected else ConnectionLoss.LOST)
            return
        if not data:
            self._finish(ConnectionLoss.BROKER)
            return
        self._keepalive.receive(self._loop.time())
        self._parser.feed(data)
        self._handle()

    def _handle(self) -> None:
        """Handle what was read, AT_ONCE packets; then the loop's other work, and then read on."""
        self._cancel_next_step()
        for _ in range(AT_ONCE):
            if self.closed.done() or self._paused or self.is_congested:
                self._stop_reading()
                return
            try:
                packet = self._parser.next()
            except BrokerError as error:
                self.refuse(str(error))
                return
            if packet is None:
                if self._rests():
                    self._resting = True
                    self._stop_reading()
                else:
                    self._read_on()
                return
            if isinstance(packet, DisconnectPacket):
                self.disconnect = packet.code
                self._finish(ConnectionLoss.BROKER)
                return
            self._on_packet(packet)
        self._soon(self._handle)

    def refuse(self, fault: str) -> None:
        """Close, since the broker has sent what it may not send.  fault: what, as a noun."""
        self.fault = fault
        self._unsent += disconnect(self._version, _PROTOCOL_ERROR)
        self._flush()
        self._finish(ConnectionLoss.PROTOCOL)

    def _read_on(self) -> None:
        """Read when there is something; TLS may have it already, which the kernel does not show."""
        if self.closed.done() or self._paused:
            return
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            self._soon(self._read)
        elif not self._reading:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._read)

    def _stop_reading(self) -> None:
        self._cancel_next_step()
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def _soon(self, step: Callable[[], None]) -> None:
        self._stop_reading()
        self._next_step = self._loop.call_soon(step)

    def _cancel_next_step(self) -> None:
        if self._next_step is not None:
            self._next_step.cancel()
            self._next_step = None

    # Writing.

    def _flush(self) -> None:
        self._flush_soon = None
        if self.closed.done():
            return
        was_congested = self.is_congested
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent[:READ])
                del self._unsent[:sent]
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._descriptor, self._flush)
        except OSError:
            self._finish(ConnectionLoss.LOST)
            return
        else:
            self._keepalive.send(self._loop.time())
            self._stop_writing()
            if self._leaving:
                self._finish(ConnectionLoss.OURS)
                return
        if was_congested and not self.is_congested and not self._paused:
            self._soon(self._handle)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._descriptor)

    # The end.

    def _check_keepalive(self) -> None:
        """Send a PINGREQ when it is due.  A broker that is not read now cannot be judged."""
        now = self._loop.time()
        if self._paused or self._resting:
            self._keepalive.receive(now)
            self._keepalive.send(now)
            if not self._unsent:
                self.send(PINGREQ)
        else:
            match self._keepalive.step(now):
                case KeepAliveStep.GIVE_UP:
                    self._finish(ConnectionLoss.SILENT)
                    return
                case KeepAliveStep.PING:
                    self.send(PINGREQ)
        self._timer = self._loop.call_at(self._keepalive.due(), self._check_keepalive)

    def _finish(self, loss: ConnectionLoss) -> None:
        if self.closed.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._flush_soon is not None:
            self._flush_soon.cancel()
        self._stop_reading()
        self._stop_writing()
        self._sock.close()
        self.closed.set_result(ConnectionLoss.OURS if self._leaving else loss)
