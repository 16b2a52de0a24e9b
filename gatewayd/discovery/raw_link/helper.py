"""The link helper: it asks all PROFINET devices who they are, and passes their answers on.

It has CAP_NET_RAW, which would let it send and read any frame.  So it makes the one frame that it
sends itself, the kernel filters what it reads, and its client decides no more than where and when
it asks, and that not often.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from gatewayd.discovery.kernel.packet_filter import attach
from gatewayd.discovery.raw_link.frames import (
    ETHERTYPE,
    MAX_FRAME,
    MAX_INTERFACES,
    MAX_NAME,
    SENDER,
    LinkEvent,
    LinkReport,
    answer_of,
    answers_alone,
    identify_all,
)

INTERVAL: Final = 1.0
"""Seconds from one question until the next, at least; also until the first."""
MAX_ANSWERS: Final = 2048
"""Answers to one question that are passed on for each interface."""
MAX_OF_ONE: Final = 4
"""Those of one MAC: a device answers once, and another must not use up what there is for all."""

_TURN, _HUNG = 5.0, 20  # seconds of a turn of the loop, and after which it is killed
_AT_ONCE = 64
_REMEMBERED = 4  # questions to which answers are passed on
_FIRST_MESSAGE = 5.0  # seconds
_ETHERNET = 1  # ARPHRD_ETHER, linux/if_arp.h
_GET_INDEX, _REQUEST = 0x8933, struct.Struct("@16si20x")  # SIOCGIFINDEX and ifreq, netdevice(7)


class LinkPort:
    """One interface: the socket on it, which is opened again when the interface was made again.

    name: of the interface.  open_socket: returns a socket that is bound to it; raises OSError.
    """

    def __init__(self, name: str, open_socket: Callable[[str], socket.socket]) -> None:
        self._name, self._open = name, open_socket
        self._index = 0
        self._asked: deque[int] = deque(maxlen=_REMEMBERED)
        self._left = 0
        self._passed: Counter[bytes] = Counter()
        self.socket: socket.socket | None = None

    def ask(self, xid: int) -> None:
        """Send Identify-All.  Raises OSError."""
        if self.socket is not None and index_of(self.socket, self._name) != self._index:
            self.close()
        if self.socket is None:
            self.socket = self._open(self._name)
            self._index = index_of(self.socket, self._name)
        _, _, _, kind, mac = self.socket.getsockname()
        if kind != _ETHERNET:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self.socket.send(identify_all(mac, xid))
        self._asked.append(xid)
        self._left = MAX_ANSWERS
        self._passed.clear()

    def answers(self) -> list[bytes]:
        """Return the frames that wait, as far as they answer what was asked."""
        found: list[bytes] = []
        if self.socket is None:
            return found
        with suppress(OSError):  # none waits, or the interface is down, which the next ask shows
            for _ in range(_AT_ONCE):
                frame = self.socket.recv(MAX_FRAME)
                answer = answer_of(frame)
                if answer is not None and self._may_pass(answer[0], frame[SENDER]):
                    found.append(frame)
        return found

    def _may_pass(self, xid: int, sender: bytes) -> bool:
        """Whether an answer is passed on; count it if so."""
        is_asked = xid in self._asked
        if not is_asked or self._left <= 0 or self._passed[sender] >= MAX_OF_ONE:
            return False
        self._left -= 1
        self._passed[sender] += 1
        return True

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.socket is not None:
            self.socket.close()
        self.socket = None


class LinkHelper:
    """The link helper: it serves one client, until that closes the connection.

    client: a connected socket of kind SOCK_SEQPACKET.
    now: CLOCK_MONOTONIC, seconds.  xid: a number of 32 bits at each call.
    """

    def __init__(
        self,
        client: socket.socket,
        open_socket: Callable[[str], socket.socket],
        now: Callable[[], float],
        xid: Callable[[], int],
    ) -> None:
        self._client, self._open = client, open_socket
        self._now, self._xid = now, xid
        self._ports: Sequence[LinkPort] = ()
        self._due = now() + INTERVAL
        self._wanted: set[int] = set()
        self._unsent: dict[int, LinkReport] = {}

    def run(self) -> None:
        """Serve until the client closes the connection.  Raises OSError, ValueError."""
        self._client.settimeout(_FIRST_MESSAGE)
        first = self._client.recv(MAX_INTERFACES * (MAX_NAME + 1) + 1)
        names = interface_names(first) if first else []
        self._client.setblocking(False)
        self._ports = [LinkPort(one, self._open) for one in names]
        try:
            while names and self._serve():
                signal.alarm(_HUNG)
        finally:
            signal.alarm(0)
            for port in self._ports:
                port.close()

    def _serve(self) -> bool:
        """Do what there is to do; False once the client has closed the connection."""
        left = self._due - self._now() if self._wanted else _TURN
        if left > 0:
            open_ones = [port.socket for port in self._ports if port.socket is not None]
            unsent = [self._client] if self._unsent else []
            wait = min(left, _TURN)
            readable, _, _ = select.select([self._client, *open_ones], unsent, [], wait)
            if self._client in readable:
                if not (message := self._client.recv(1)):
                    return False
                self._wanted.update(one for one in message if one < len(self._ports))
            for number, port in enumerate(self._ports):
                for frame in port.answers() if port.socket in readable else ():
                    with suppress(BlockingIOError):  # its client is slow: the answer is lost
                        self._client.send(LinkReport(LinkEvent.ANSWER, number, frame).encode())
        self._send_reports()
        if self._wanted and self._now() >= self._due:
            self._due = self._now() + INTERVAL
            self._ask()
        return True

    def _ask(self) -> None:
        """Ask on each interface on which it is wanted."""
        wanted, self._wanted = self._wanted, set()
        for number in sorted(wanted):
            port = self._ports[number]
            try:
                port.ask(self._xid())
            except OSError as error:
                port.close()
                code = (error.errno or errno.EIO).to_bytes(2, "big")
                self._unsent[number] = LinkReport(LinkEvent.FAULT, number, code)
            else:
                self._unsent[number] = LinkReport(LinkEvent.ASKED, number)
        self._send_reports()

    def _send_reports(self) -> None:
        """Send what has become of the question, as far as the client reads; the rest follows."""
        with suppress(BlockingIOError):
            for number in tuple(self._unsent):
                self._client.send(self._unsent[number].encode())
                del self._unsent[number]


def interface_names(message: bytes) -> list[str]:
    """Return the names in a client's first message, which ends each by NUL.  Raises ValueError."""
    *names, rest = message.split(b"\0")
    if rest or not 0 < len(names) <= MAX_INTERFACES:
        raise ValueError("its client names too many interfaces, or none")
    if not all(0 < len(one) <= MAX_NAME for one in names):
        raise ValueError("its client names an interface that there cannot be")
    return [os.fsdecode(one) for one in names]


def index_of(link: socket.socket, name: str) -> int:
    """Return the kernel's number of an interface, another one when it is made again.

    link: any socket; one of AF_PACKET needs no other family to be allowed.  Raises OSError.
    """
    answer = fcntl.ioctl(link, _GET_INDEX, _REQUEST.pack(os.fsencode(name), 0))
    index: int = _REQUEST.unpack(answer)[1]
    return index


def open_link(name: str) -> socket.socket:
    """Return a socket that receives answers on an interface, and nothing else.  Raises OSError.

    It receives nothing until it is bound, and then has its filter.
    """
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        attach(made, answers_alone())
        made.setblocking(False)
        made.bind((name, ETHERTYPE))
    except BaseException:
        made.close()
        raise
    return made
