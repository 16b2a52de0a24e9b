"""Tables of the kernel, read and followed over AF_NETLINK: rtnetlink(7), which needs no rights.

A library for this costs 27 MB of memory in each process, and this reads four kinds of message.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

AGAIN = 0.2
"""Seconds until the tables are read again after changes were lost, so that a storm of changes
costs little."""

_ERROR, _DONE = 2, 3  # NLMSG_*, linux/netlink.h
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: the table has changed while it was read
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_PACKET = 65536  # bytes; the kernel's dumps are cut to 32 KiB at most
_MAX_SEQUENCE = 1 << 31
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_CODE = struct.Struct("=i")  # nlmsgerr: a negative errno
_NESTED = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


class NetlinkMessage(NamedTuple):
    """One message.  kind: RTM_* or NLMSG_*.  sequence: of the request that it answers, or 0."""

    kind: int
    flags: int
    sequence: int
    body: bytes


class KernelMirror(Protocol):
    """A copy of tables of the kernel."""

    def restart(self) -> None:
        """Forget everything; all of the tables follows."""

    def learn(self, packet: bytes) -> None:
        """Apply one packet of messages from the kernel."""

    def complete(self) -> None:
        """Note that all of the tables was learned."""


def dump_request(kind: int, body: bytes, sequence: int = 1) -> bytes:
    """Return the request for a whole table.  kind: RTM_GET*.  body: its structure."""
    return _HEADER.pack(_HEADER.size + len(body), kind, _DUMP, sequence, 0) + body


def messages(packet: bytes) -> Iterator[NetlinkMessage]:
    """Yield the messages in a packet, as far as they are whole."""
    at = 0
    while at + _HEADER.size <= len(packet):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(packet, at)
        if not _HEADER.size <= length <= len(packet) - at:
            return
        yield NetlinkMessage(kind, flags, sequence, packet[at + _HEADER.size : at + length])
        at += _aligned(length)


def attributes(body: bytes) -> dict[int, bytes]:
    """Return the attributes in the rest of a message, as far as they are whole."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            break
        found[kind & _NESTED] = body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return length + 3 & ~3


class DumpReader:
    """The reader of several tables, one after another, as the kernel serves one at a time.

    requests: kind and body for each table.
    is_started, is_complete: whether anything, and all, was read since it was begun.
    is_spoilt: whether all was read, but a table has changed meanwhile, or was busy: begin again.
    """

    def __init__(self, requests: Sequence[tuple[int, bytes]]) -> None:
        self._requests = requests
        self._sequence = self._at = 0
        self._intact = True
        self.is_started = self.is_complete = self.is_spoilt = False

    def begin(self) -> bytes:
        """Return the first request."""
        self._at, self._intact = 0, True
        self.is_started = self.is_complete = self.is_spoilt = False
        return self._request()

    def follow(self, packet: bytes) -> bytes | None:
        """Return the next request, once a table is read; None if there is none yet, or no more.

        Raises OSError if the kernel refuses the request.
        """
        for one in messages(packet):
            if one.sequence != self._sequence or self.is_complete or self.is_spoilt:
                continue
            self.is_started = True
            self._intact = self._intact and not one.flags & _INTERRUPTED
            if one.kind == _ERROR:
                self._intact = False
                _check(one.body)
            if one.kind in (_DONE, _ERROR):
                self._at += 1
                if self._at < len(self._requests):
                    return self._request()
                self.is_complete, self.is_spoilt = self._intact, not self._intact
        return None

    def _request(self) -> bytes:
        kind, body = self._requests[self._at]
        self._sequence = self._sequence % _MAX_SEQUENCE + 1
        return dump_request(kind, body, self._sequence)


def _check(body: bytes) -> None:
    """Raise OSError for an error that will not pass by itself."""
    code = -_CODE.unpack_from(body)[0] if len(body) >= _CODE.size else errno.EIO
    if code not in (errno.EBUSY, errno.EINTR, errno.EAGAIN):
        raise OSError(code, os.strerror(code))


async def follow(groups: int, requests: Sequence[tuple[int, bytes]], mirror: KernelMirror) -> None:
    """Have a mirror follow the kernel until cancelled.  Raises OSError if netlink is not allowed.

    Where changes were lost, as there were more than the socket holds, all is read again; what
    still waits from before then is not applied, for what followed it may be among the lost.

    groups: RTMGRP_* of the changes.  requests: kind and body for each table.
    """
    loop = asyncio.get_running_loop()
    reader = DumpReader(requests)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.setblocking(False)
        netlink.bind((0, groups))
        while True:
            mirror.restart()
            await loop.sock_sendall(netlink, reader.begin())
            await _until_lost(netlink, reader, mirror)
            await asyncio.sleep(AGAIN)


async def _until_lost(netlink: socket.socket, reader: DumpReader, mirror: KernelMirror) -> None:
    """Read, and return when all has to be read again."""
    loop = asyncio.get_running_loop()
    completed = False
    while not reader.is_spoilt:
        try:
            packet, (port, _) = await loop.sock_recvfrom(netlink, _PACKET)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return
            raise
        if port:  # from another process, not from the kernel
            continue
        if request := reader.follow(packet):
            await loop.sock_sendall(netlink, request)
        if reader.is_started:
            mirror.learn(packet)
        if reader.is_complete and not completed:
            completed = True
            mirror.complete()
