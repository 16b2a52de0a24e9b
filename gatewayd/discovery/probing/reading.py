"""How much is read: budgets before anything is parsed, and a bounded number in each turn.

A flood is paused between turns: what waits meanwhile stays in the buffer of the kernel, which drops
what has no room.  So a flood on one socket neither takes the event loop from others, nor the budget
of devices on record, nor that of answers to what was asked.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.discovery.link.sockets import IP_PKTINFO, PACKET_INFO
from gatewayd.runtime.rate_limiter import Bucket, Budget, FloodAlarm, Senders

log = logging.getLogger(__name__)

MAX_DATAGRAM = 8 << 10
"""Bytes of a datagram; a larger one is dropped."""
READ_AT_ONCE = 32
"""Datagrams that are read from a socket in one turn of the event loop."""
PAUSE = 0.005
"""Seconds between two turns of a socket in a flood."""
CALM = 60.0
"""Seconds without excess after which another flood is logged."""
PACKET = 256
"""Bytes that a datagram costs besides its own, for the time that it takes."""

SENDER = Budget(packets=20, cost=16 << 10, burst=64)
"""Of one sender: what 256 devices behind one address say at once, several times each."""
KNOWN = Budget(packets=400, cost=256 << 10, burst=64)
"""Of all devices on record: ten datagrams of 2,000 devices at once."""
STRANGERS = Budget(packets=200, cost=256 << 10, burst=64)
"""Of all others: six datagrams of 2,000 devices at once.  Once for what is announced, and once for
answers."""

_CONTROL = 64  # bytes for in_pktinfo and its header


class DatagramBudgets:
    """The judge of the datagrams of one interface.

    what: is read, for the log, as "SSDP on lan0".
    is_known: whether an address is that of a device on record.
    """

    def __init__(self, what: str, is_known: Callable[[str], bool], now: float) -> None:
        self._what, self._is_known = what, is_known
        self._senders = {known: Senders(SENDER) for known in (False, True)}
        self._known = Bucket(KNOWN, now)
        self._strangers = {is_answer: Bucket(STRANGERS, now) for is_answer in (False, True)}
        self._alarm = FloodAlarm(CALM)
        self._excess = FloodAlarm(PAUSE)

    def judge(self, sender: str, size: int, now: float, *, is_answer: bool) -> str:
        """Return why a datagram is not read, kebab-case; "" if it is.

        size: in bytes.  is_answer: whether it came to the port that questions are sent from.
        """
        if size > MAX_DATAGRAM:
            return "oversized"
        cost, known = PACKET + size, self._is_known(sender)
        own = self._senders[known].of(sender, now)
        share = self._known if known else self._strangers[is_answer]
        is_own = own.covers(cost, now)
        if not is_own or not share.covers(cost, now):
            self._ring(now)
            return "link-flood" if is_own else "sender-flood"
        own.spend(cost)
        share.spend(cost)
        return ""

    def is_flooded(self, now: float) -> bool:
        """Whether something was dropped just now because there was too much."""
        return self._excess.is_on(now)

    def _ring(self, now: float) -> None:
        self._excess.ring(now)
        if self._alarm.ring(now):
            log.warning(
                "%s is flooded; packets of strangers are dropped unread.",
                self._what,
                extra={"message_id": "lan-flooded"},
            )


@dataclass(frozen=True, slots=True)
class RawDatagram:
    """One datagram as the kernel has it.

    sender: its IP address as text, with the scope that the kernel gives.
    to: the address in its header, of IPv4, as far as the socket says it.
    """

    payload: bytes
    sender: str
    port: int
    to: str


class SocketReader:
    """The reader of one socket, which it owns.

    receive: called with each datagram.  is_flooded: whether to pause between two turns.
    """

    def __init__(
        self,
        one: socket.socket,
        receive: Callable[[RawDatagram], None],
        is_flooded: Callable[[], bool],
    ) -> None:
        self._socket, self._receive, self._is_flooded = one, receive, is_flooded
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Read no more, and close the socket."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                received = read_datagram(self._socket)
            except OSError:  # nothing waits, or the interface has just gone
                return
            self._receive(received)
        if self._is_flooded():
            self._loop.remove_reader(self._socket)
            self._paused = self._loop.call_later(PAUSE, self._resume)


def read_datagram(one: socket.socket) -> RawDatagram:
    """Read what waits at a socket, with one byte more than may be parsed.  Raises OSError."""
    payload, extra, _, address = one.recvmsg(MAX_DATAGRAM + 1, _CONTROL)
    to = (
        socket.inet_ntoa(PACKET_INFO.unpack(data)[2])
        for level, kind, data in extra
        if (level, kind, len(data)) == (socket.IPPROTO_IP, IP_PKTINFO, PACKET_INFO.size)
    )
    return RawDatagram(payload, address[0], address[1], next(to, ""))
