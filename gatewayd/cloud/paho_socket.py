"""The socket that paho uses, with whole packets of bounded size; and unacknowledged packets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

from gatewayd.network.mqtt_rules import MAX_PACKET, is_answered, packet_size
from gatewayd.network.websocket_stream import ByteStream

_CHUNK = 4096
_PUBLISH_QOS_1, _PUBACK = 0x32, b"\x40\x02"
_PUBACK_SIZE = 4
_SEVEN_BITS, _MORE = 0x7F, 0x80


def message_packet(topic: str, payload: bytes, number: int) -> bytes:
    """Return a PUBLISH of QoS 1 (MQTT 3.1.1, 3.3).  number: its packet identifier."""
    name = topic.encode()
    length = 2 + len(name) + 2 + len(payload)
    header = bytearray((_PUBLISH_QOS_1,))
    while length > _SEVEN_BITS:
        header.append(length & _SEVEN_BITS | _MORE)
        length >>= 7
    header.append(length)
    return b"".join((header, len(name).to_bytes(2), name, number.to_bytes(2), payload))


class PahoSocket:
    """A TLS socket, or a WebSocket over it, that reads ahead.

    paho reads byte by byte, keeps what it has read without a limit, and handles one packet in a
    call, though TLS may have buffered more of them, which no file descriptor shows.  So packets are
    cut here, and paho is called once for each.

    limit: most bytes of a packet, and so of what is kept of one that has not come as a whole.
    answers: packets that paho has to answer, since its user has set this to 0.
    arrived: bytes that have come; no ping of a WebSocket counts, which a proxy may send for a dead
    cloud.
    """

    def __init__(self, sock: ByteStream, limit: int = MAX_PACKET) -> None:
        self._sock, self._limit = sock, limit
        self.answers = self.arrived = 0
        self._raw = bytearray()
        self._packet = bytearray()
        self._greeted = False

    def fill(self) -> bool:
        """Read what has come, 16 KiB at most; False at the end of the stream.  Raises OSError.

        A reset may show as the end, too: Python 3.11 does not distinguish them under TLS.
        Raises PacketError for a frame that no server may send.
        """
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            self._raw += data
            self.arrived += len(data)
            if not data or not self._sock.pending():
                return bool(data)

    def advance(self) -> bool:
        """Make the next packet ready for paho; False where none is complete.

        Raises PacketError where it is not one that the cloud may send now.
        """
        size = packet_size(self._raw, self._limit, first=not self._greeted)
        if size is None or len(self._raw) < size:
            return False
        self.answers += is_answered(self._raw[0])
        self._packet += self._raw[:size]
        del self._raw[:size]
        self._greeted = True
        return True

    def puback(self) -> int:
        """Take the next packet, if it is a PUBACK; return its packet identifier, 0 for none."""
        raw = self._raw
        if len(raw) < _PUBACK_SIZE or not self._greeted or not raw.startswith(_PUBACK):
            return 0
        number = raw[2] << 8 | raw[3]
        del raw[:_PUBACK_SIZE]
        return number

    def recv(self, size: int) -> bytes:
        """Give paho the next bytes of the packet that is ready."""
        if not self._packet:
            raise BlockingIOError
        data = bytes(self._packet[:size])
        del self._packet[:size]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Write some bytes; return how many.  Raises BlockingIOError, ConnectionError."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except OSError as error:  # paho 1.6 handles no other kind
            raise ConnectionError from error

    def fileno(self) -> int:
        """Return the file descriptor; -1 once closed."""
        return self._sock.fileno()

    def setblocking(self, blocking: bool) -> None:
        """Ignore what paho asks for: the socket is non-blocking, and stays so."""

    def close(self) -> None:
        """Close the socket; twice is fine."""
        self._sock.close()


MaySend: TypeAlias = Callable[[], bool]
"""Whether something may be sent for a child now.  It costs no more than to read a clock."""

MAY_SEND: ContextVar[MaySend | None] = ContextVar("may_send", default=None)
"""What connections to clouds ask before each send, where they are opened in this context.

None, the default, where nothing is asked: a gateway that is alone.  It is of the context, since no
provider has to know of it, and so none can forget it.
"""

_STUCK = 4000
"""Milliseconds after which the kernel gives up what the other end does not acknowledge, where that
must not arrive late (TCP_USER_TIMEOUT of tcp(7)); it counts on while this process is stopped."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER of socket(7) with no time: what the kernel has not sent is dropped by the close."""


class FencedSocket(PahoSocket):
    """A `PahoSocket` that asks before each send, and that leaves nothing to be sent late.

    sock: the socket of TLS, which a WebSocket may hide.  may_send: once it says no, a send fails,
    and what waits in the kernel is dropped as this is closed.

    A part of a record that TLS keeps for the next send is not sent either.
    """

    def __init__(
        self, stream: ByteStream, limit: int, sock: socket.socket, may_send: MaySend
    ) -> None:
        super().__init__(stream, limit)
        self._raw_socket, self._may_send = sock, may_send
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK)

    def send(self, data: bytes | bytearray) -> int:
        """Write some bytes; return how many.  Raises BlockingIOError, ConnectionError."""
        if not self._may_send():
            raise ConnectionError("nothing may be sent any more")
        return super().send(data)

    def close(self) -> None:
        """Close the socket; twice is fine."""
        if not self._may_send() and self._raw_socket.fileno() != -1:
            self._raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        super().close()


def paho_socket(stream: ByteStream, limit: int, sock: socket.socket) -> PahoSocket:
    """Return the socket for paho, which asks before each send where this context says so.

    stream: what is read and written.  sock: that of TLS behind it.
    """
    may_send = MAY_SEND.get()
    if may_send is None:
        return PahoSocket(stream, limit)
    return FencedSocket(stream, limit, sock, may_send)


class Gone(Exception):
    """The connection has ended: the cloud may have the packet.

    left: False where that is known not to have left.
    """

    def __init__(self, *, left: bool = True) -> None:
        super().__init__()
        self.left = left


PATIENCE = 60.0
"""Seconds that a packet may take to be acknowledged, once it is the first of those under way: as
long as 1 MB takes at 140 kbit/s."""

Acknowledgement: TypeAlias = tuple[int, ...]
"""The codes of an acknowledgement; () where it has none."""


class UnacknowledgedPackets:
    """The packets that wait for their acknowledgement.

    limit: how many at most; others wait.  late: called if the first of them has not been
    acknowledged for so many seconds of `patience`, whether or not others were: acknowledgements
    come in the order of the packets (MQTT 3.1.1, 4.6).
    """

    def __init__(
        self, limit: int, patience: float = PATIENCE, late: Callable[[], None] = lambda: None
    ) -> None:
        self._limit, self._over = limit, False
        self._patience, self._late = patience, late
        self._loop = asyncio.get_running_loop()
        self._first_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._answers: dict[int, asyncio.Future[Acknowledgement | None]] = {}
        self._waiting: deque[_Waiting] = deque()

    def __contains__(self, number: int) -> bool:
        """Whether a packet with this identifier is under way."""
        return number in self._answers

    async def send(self, step: Callable[[], int]) -> Acknowledgement:
        """Send a packet, as `post` does, and return its acknowledgement.  Raises Gone."""
        codes = await self.post(step)
        if codes is None:
            raise Gone
        return codes

    def post(self, step: Callable[[], int]) -> asyncio.Future[Acknowledgement | None]:
        """Send a packet, after those that wait.

        step: sends it, and returns its packet identifier.
        The future ends with the acknowledgement, or with None as the connection has ended.  Ended
        before, the packet keeps its place until it is acknowledged, as it is still under way.
        """
        answer: asyncio.Future[Acknowledgement | None]
        answer = asyncio.get_running_loop().create_future()
        if self._over:
            answer.set_result(None)
        elif self._waiting or len(self._answers) >= self._limit:
            self._waiting.append((step, answer))
        else:
            self._start(step, answer)
        return answer

    def acknowledge(self, number: int, codes: Acknowledgement = ()) -> None:
        """Handle an acknowledgement; an unexpected one is ignored."""
        first = next(iter(self._answers), None)
        answer = self._answers.pop(number, None)
        if answer is None:
            return
        if number == first:
            self._first_since = self._loop.time()
        if not answer.done():
            answer.set_result(codes)
        while self._waiting and len(self._answers) < self._limit:
            step, waiting = self._waiting.popleft()
            if not waiting.done():
                self._start(step, waiting)

    def end(self) -> None:
        """End all waits: the connection has ended."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        for answer in (*self._answers.values(), *(answer for _, answer in self._waiting)):
            if not answer.done():
                answer.set_result(None)
        self._answers.clear()
        self._waiting.clear()

    def _start(
        self, step: Callable[[], int], answer: asyncio.Future[Acknowledgement | None]
    ) -> None:
        number = step()
        if not self._over:
            if not self._answers:
                self._first_since = self._loop.time()
            self._answers[number] = answer
            if self._timer is None:
                self._timer = self._loop.call_later(self._patience, self._check)
        elif not answer.done():
            answer.set_result(None)

    def _check(self) -> None:
        self._timer = None
        if not self._answers:
            return
        due = self._first_since + self._patience
        if due <= self._loop.time():
            self._late()
        else:
            self._timer = self._loop.call_at(due, self._check)


_Waiting: TypeAlias = tuple[Callable[[], int], asyncio.Future[Acknowledgement | None]]
