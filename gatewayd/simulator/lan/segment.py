"""The sockets of the simulated LAN: non-blocking, without tasks."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger(__name__)

Endpoint = tuple[str, int]

MDNS_PORT = 5353
GROUP: Endpoint = ("224.0.0.251", MDNS_PORT)
"""Where all listen.  On a segment of IPv6, it stands for the group of IPv6."""
GROUP6 = "ff02::fb"

_BURST = 64  # datagrams read before others get their turn
_MAX_DATAGRAM = 65_535
_RECEIVE_BUFFER = 1 << 20  # bytes; the kernel may grant less

# Numbers of Linux that Python 3.11 has no names for (ip(7)).
_IP_PKTINFO = 8
_IPV6_PKTINFO = 50  # ipv6(7)
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29  # linux/in6.h


class Segment:
    """Multicast DNS on one interface, through one socket for any number of devices.

    interface_address: an IPv4 address of the interface; 127.0.0.1 works as a plain user, though
    `lo` has no multicast flag.  Or the name of the interface: then all is sent by IPv6.
    """

    def __init__(self, interface_address: str) -> None:
        self.interface_address = interface_address
        self._is_ipv4 = _is_ipv4(interface_address)
        self._socket: socket.socket | None = None
        self._local: dict[str, bool] = {}

    def open(self, receive: Callable[[bytes, Endpoint], None] | None = None) -> None:
        """Join the group; call `receive` with each datagram and its sender.  Raises OSError."""
        make = _multicast_socket if self._is_ipv4 else _multicast_socket6
        self._socket = make(self.interface_address)
        if receive is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._read, receive)

    def close(self) -> None:
        """Leave the group."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def send(self, packet: bytes, to: Endpoint = GROUP, *, source: str = "") -> bool:
        """Send one datagram; False if it was lost, as datagrams are.

        source: the sender's address; where this machine does not own it, the interface's.
        """
        assert self._socket is not None, "the segment is closed"
        extra = [_from(source)] if source and self._owns(source) else []
        if to == GROUP and not self._is_ipv4:
            to = GROUP6, MDNS_PORT
        try:
            self._socket.sendmsg([packet], extra, 0, to)
        except OSError as error:
            log.debug("A datagram was lost: %s.", error)
            return False
        return True

    def _owns(self, address: str) -> bool:
        if address not in self._local:
            family = socket.AF_INET if self._is_ipv4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                self._local[address] = _binds(probe, address)
        return self._local[address]

    def _read(self, receive: Callable[[bytes, Endpoint], None]) -> None:
        for _ in range(_BURST):
            if self._socket is None:
                return
            try:
                packet, sender = self._socket.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            receive(packet, self._endpoint(sender))

    def _endpoint(self, sender: tuple[Any, ...]) -> Endpoint:
        """Return where an answer to a sender goes: to a link-local address, by the interface."""
        scope = f"%{self.interface_address}" if sender[0].startswith("fe80:") else ""
        return f"{sender[0]}{scope}", sender[1]


class TcpGreeter:
    """A TCP port that sends a greeting and hangs up, as proof of presence."""

    def __init__(self, address: str, port: int, greeting: bytes) -> None:
        self._greeting = greeting
        self._socket = socket.create_server((address, port))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._greet)

    def _greet(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it has gone again
            return
        with connection:
            connection.setblocking(False)
            connection.send(self._greeting)

    def close(self) -> None:
        """Close the port."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def _is_ipv4(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True


def _multicast_socket(interface_address: str) -> socket.socket:
    interface, group = socket.inet_aton(interface_address), socket.inet_aton(GROUP[0])
    options = (
        (socket.IP_MULTICAST_IF, interface),
        (socket.IP_MULTICAST_TTL, 255),
        (socket.IP_MULTICAST_LOOP, 1),
        # Otherwise it would receive from groups that others joined on other interfaces.
        (_IP_MULTICAST_ALL, 0),
        (socket.IP_ADD_MEMBERSHIP, group + interface),
    )
    return _opened(socket.AF_INET, socket.IPPROTO_IP, options)


def _multicast_socket6(interface: str) -> socket.socket:
    index, group = socket.if_nametoindex(interface), socket.inet_pton(socket.AF_INET6, GROUP6)
    options = (
        (socket.IPV6_V6ONLY, 1),
        (socket.IPV6_MULTICAST_IF, index),
        (socket.IPV6_MULTICAST_HOPS, 255),
        (_IPV6_MULTICAST_ALL, 0),
        (socket.IPV6_JOIN_GROUP, group + struct.pack("@I", index)),
    )
    return _opened(socket.AF_INET6, socket.IPPROTO_IPV6, options)


def _opened(
    family: socket.AddressFamily, level: int, options: Iterable[tuple[int, int | bytes]]
) -> socket.socket:
    """Return a socket at the port of mDNS, with these options of its level."""
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        for option, value in options:
            one.setsockopt(level, option, value)
        one.bind(("", MDNS_PORT))
    except OSError:
        one.close()
        raise
    return one


def _from(source: str) -> tuple[int, int, bytes]:
    """Return the control message that sets the source address (ip(7), IP_PKTINFO; RFC 3542, 6)."""
    if ":" in source:
        address = socket.inet_pton(socket.AF_INET6, source)
        return socket.IPPROTO_IPV6, _IPV6_PKTINFO, address + struct.pack("@I", 0)
    return socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("@i4s4x", 0, socket.inet_aton(source))


def _binds(probe: socket.socket, address: str) -> bool:
    try:
        probe.bind((address, 0))
    except OSError:
        return False
    return True
