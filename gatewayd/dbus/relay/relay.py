"""The two threads between the socket of a bus and GLib, and who is refused by the header alone.

    bus ── socket ── judged by headers ── socket pair ── GDBus's thread
        ── socket ── as it comes       ── socket pair ──

GDBus takes a whole socket or none, so what it sends passes through here, too.  Before anything is
read, the socket has to be that of root or of this user: see `glib.Connection`.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from array import array
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

from gatewayd.dbus.intake import FEW_BYTES, LARGEST, Intake
from gatewayd.dbus.names import BUS
from gatewayd.dbus.relay.frames import (
    LEFT_OUT,
    Judge,
    MessageHeader,
    MessageKind,
    MessageSieve,
)

BUSY, TOO_LARGE, TOO_MANY_DESCRIPTORS = "Busy", "TooLarge", "TooManyDescriptors"
"""Why a call is refused by its header."""
CHUNK: Final = 128 << 10
MOST_DESCRIPTORS: Final = 253
"""Of one message, in the kernel (SCM_MAX_FD)."""
PATIENCE: Final = 25
"""Seconds in which a bus has to accept a connection, as GLib waits for replies."""

_PLAIN = frozenset("ybnqiuxtdhsog")
"""Types whose values GLib parses as fast as it copies them, also in arrays of octets."""
_CREDENTIALS = struct.Struct("3i")
CLOSED_BY_EXEC: Final = socket.MSG_CMSG_CLOEXEC
"""No program that is started gets a descriptor that came."""
_ROOM = socket.CMSG_SPACE(MOST_DESCRIPTORS * array("i").itemsize)
_TIME = struct.Struct("@ll")
"""A struct timeval: seconds, and microseconds."""


class MessageGate:
    """Who is refused by the header of a message.  intake: counts it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def judge(self, header: MessageHeader) -> str:
        """Return why a message goes no further; "" to let it on.  Counts what is refused here."""
        if header.kind != MessageKind.CALL:
            unwanted = header.kind == MessageKind.SIGNAL and header.sender != BUS
            return LEFT_OUT if unwanted else ""
        why = self._objection(header)
        if why and not header.awaits_reply:
            self._intake.refuse(header.sender)
        return why

    def _objection(self, header: MessageHeader) -> str:
        if self._intake.is_muted(header.sender):
            return BUSY
        if header.size > LARGEST:
            return TOO_LARGE
        if header.descriptors > 1:
            return TOO_MANY_DESCRIPTORS
        is_cheap = header.size <= FEW_BYTES or _PLAIN.issuperset(header.signature.replace("ay", ""))
        return "" if is_cheap or self._intake.may_parse(header.size) else BUSY


class BusRelay:
    """A connection to the socket of a bus, for GLib.

    owners: the users of whom one has to listen there.
    """

    def __init__(self, path: str, owners: Collection[int], judge: Judge) -> None:
        self._path, self._owners, self._judge = path, owners, judge
        self._bus = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours, self._theirs = socket.socketpair()
        self.fault = ""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="bus-relay", daemon=True)

    def open(self) -> int:
        """Begin to connect; return the descriptor for GLib, whose it is from then on.

        It is closed from this end where that fails; `fault` says then why.
        """
        self._thread.start()
        return self._theirs.detach()

    def close(self) -> None:
        """End both threads, whatever they wait for.  Closing twice is fine."""
        self._closed = True
        for end in (self._bus, self._ours):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(self, seconds: float) -> bool:
        """Wait for the end of both threads, once it is closed; return whether they have ended."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        """On a thread of its own: connect, and pass on what the bus sends."""
        outward = threading.Thread(target=self._send, name="bus-relay-out", daemon=True)
        try:
            self.fault = self._connect()
            if self.fault or self._closed:
                return
            outward.start()
            self._receive()
        finally:
            self.close()
            if outward.ident is not None:
                outward.join()
            self._bus.close()
            self._ours.close()

    def _connect(self) -> str:
        """Return what is wrong with the socket, "" for nothing."""
        try:
            # A timeout of Python's would not wait at all for a bus whose backlog is full.
            self._bus.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(PATIENCE, 0))
            self._bus.connect(self._path)
            self._bus.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(0, 0))
            owner = owner_of(self._bus)
        except OSError as error:
            return f"its socket cannot be used: {error.strerror or error}"
        if owner in self._owners:
            return ""
        return f"its socket belongs to uid {owner}, and not to root or to this user"

    def _receive(self) -> None:
        sieve, descriptors = MessageSieve(self._judge), deque[int]()
        greeting = Greeting()
        try:
            while True:
                data, ancillary, _, _ = self._bus.recvmsg(CHUNK, _ROOM, CLOSED_BY_EXEC)
                if not data:
                    return
                descriptors += received(ancillary)
                said, data = greeting.split(data)
                self._ours.sendall(said)
                self._pass_on(sieve, data, descriptors)
        except (OSError, ValueError):
            return
        finally:
            _close(descriptors)

    def _pass_on(self, sieve: MessageSieve, data: bytes, descriptors: deque[int]) -> None:
        plain: list[bytes] = []
        for piece in sieve.feed(data):
            taken = [descriptors.popleft() for _ in range(min(piece.descriptors, len(descriptors)))]
            try:
                if taken and piece.keeps_them:
                    self._ours.sendall(b"".join(plain))
                    plain.clear()
                    _send_with(self._ours, piece.data, taken)
                else:
                    plain.append(piece.data)
            finally:
                _close(taken)
        self._ours.sendall(b"".join(plain))
        if not sieve.is_within_header:
            _close(descriptors)  # of a message that was passed over whole
            descriptors.clear()

    def _send(self) -> None:
        """On another thread: pass on what GLib sends."""
        try:
            while True:
                data, ancillary, _, _ = self._ours.recvmsg(CHUNK, _ROOM, CLOSED_BY_EXEC)
                if not data:
                    return
                if ancillary:
                    self._send_last_with(data, received(ancillary))
                else:
                    self._bus.sendall(data)
        except OSError:
            return
        finally:
            self.close()

    def _send_last_with(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Send to the bus; descriptors are of the last message that begins in the data.

        They must not be there before the first octet of it ("Transports", Unix domain sockets), and
        the kernel joins what GLib wrote before with it: so they go with the last.
        """
        try:
            self._bus.sendall(data[:-1])
            _send_with(self._bus, data[-1:], descriptors)
        finally:
            _close(descriptors)


class Greeting:
    """What a bus says while GLib authenticates: lines, before the first message."""

    def __init__(self) -> None:
        self._within_line = self._is_over = False

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what belongs to it of the octets that came next, and what follows it."""
        at = 0
        while not self._is_over and at < len(data):
            if not self._within_line and data[at] in b"lB":
                self._is_over = True
                break
            end = data.find(b"\n", at)
            self._within_line = end < 0
            at = len(data) if end < 0 else end + 1
        return data[:at], data[at:]


def socket_path(address: str) -> str:
    """Return the path at which a Unix socket is connected to.  Raises ValueError.

    address: as the D-Bus specification has it ("Server Addresses"); of several, the first counts.
    """
    transport, _, rest = address.partition(";")[0].partition(":")
    keys = dict(item.partition("=")[::2] for item in rest.split(","))
    if transport == "unix" and "path" in keys:
        return unquote(keys["path"])
    if transport == "unix" and "abstract" in keys:
        return "\0" + unquote(keys["abstract"])
    raise ValueError(f"{address} is no Unix socket")


def owner_of(connected: socket.socket) -> int:
    """Return the user who listens at the other end (SO_PEERCRED, unix(7)).  Raises OSError."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def received(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors of what recvmsg() has returned.

    Python's recv_fds() is not used, as it passes its flags on to nothing.
    """
    numbers = array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return numbers.tolist()


def _send_with(receiver: socket.socket, data: bytes, descriptors: Iterable[int]) -> None:
    sent = socket.send_fds(receiver, [data], list(descriptors))
    receiver.sendall(data[sent:])


def _close(descriptors: Iterable[int]) -> None:
    for one in descriptors:
        os.close(one)
