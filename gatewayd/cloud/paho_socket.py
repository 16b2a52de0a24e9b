"""The socket that paho uses, with whole packets of bounded size; and unacknowledged packets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

MAX_PACKET = 1025 * 1024
"""Bytes of one packet from the cloud: 1 MiB is a message's limit at the more generous vendor, and
its topic and header come on top."""

_CHUNK = 4096
_LENGTH_BYTES = 4  # at most, MQTT 3.1.1, 2.2.3
_CONNACK, _PUBLISH, _QOS_2 = 0x20, 0x30, 0x04


class PacketError(Exception):
    """The cloud has sent what is no packet, or one that is not accepted."""


def packet_size(data: bytes | bytearray) -> int | None:
    """Return the size of the packet that begins here; None where that is not known yet.

    Refused are packets over MAX_PACKET, and messages of QoS 2, which paho would store until they
    are released: neither cloud has them.  Raises PacketError.
    """
    if data and data[0] & 0xF0 == _PUBLISH and data[0] & _QOS_2:
        raise PacketError("a message of QoS 2")
    length = 0
    for index, byte in enumerate(data[1 : 1 + _LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            size = 2 + index + length
            if size > MAX_PACKET:
                raise PacketError("a packet that is too large")
            return size
    if len(data) > _LENGTH_BYTES:
        raise PacketError("a malformed length")
    return None


class PahoSocket:
    """A TLS socket that reads ahead.

    paho reads byte by byte, keeps what it has read without a limit, and handles one packet in a
    call, though TLS may have buffered more of them, which no file descriptor shows.  So packets are
    cut here, and paho is called once for each.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._raw = bytearray()
        self._packet = bytearray()
        self._greeted = False

    def fill(self) -> bool:
        """Read what has come; False at the end of the stream.  Raises OSError.

        A reset may show as the end, too: Python 3.11 does not distinguish them under TLS.
        """
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            self._raw += data
            if not data or not self._sock.pending():
                return bool(data)

    def advance(self) -> bool:
        """Make the next packet ready for paho; False where none is complete.

        Raises PacketError, also where the first is no CONNACK (MQTT 3.1.1, 3.2).
        """
        if not self._greeted and self._raw[:1] not in (b"", bytes([_CONNACK])):
            raise PacketError("no CONNACK first")
        size = packet_size(self._raw)
        if size is None or len(self._raw) < size:
            return False
        self._packet += self._raw[:size]
        del self._raw[:size]
        self._greeted = True
        return True

    def recv(self, size: int) -> bytes:
        """Give paho the next bytes of the packet that is ready."""
        if not self._packet:
            raise BlockingIOError
        data = bytes(self._packet[:size])
        del self._packet[:size]
        return data

    def send(self, data: bytes) -> int:
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


class Gone(Exception):
    """The connection has ended: the cloud may have the packet."""


class UnacknowledgedPackets:
    """The packets that wait for their acknowledgement.  limit: how many at most; others wait."""

    def __init__(self, limit: int) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._answers: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._over = False

    async def send(self, step: Callable[[], int]) -> tuple[int, ...]:
        """Send a packet, and return the codes of its acknowledgement.  Raises Gone.

        step: sends it, and returns its packet identifier.  Cancelled: the packet keeps its slot
        until it is acknowledged, as it is still under way.
        """
        await self._slots.acquire()
        number = 0 if self._over else step()
        if self._over:
            self._slots.release()
            raise Gone
        answer: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        return await answer

    def acknowledge(self, number: int, codes: tuple[int, ...] = ()) -> None:
        """Handle an acknowledgement; an unexpected one is ignored."""
        answer = self._answers.pop(number, None)
        if answer is None:
            return
        self._slots.release()
        if not answer.done():
            answer.set_result(codes)

    def end(self) -> None:
        """End all waits: the connection has ended."""
        self._over = True
        for answer in self._answers.values():
            self._slots.release()
            if not answer.done():
                answer.set_exception(Gone())
        self._answers.clear()
