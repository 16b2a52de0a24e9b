"""Sockets that are bound to one interface, and see nothing of the others."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from gatewayd.discovery.kernel.interfaces import LanInterface

RECEIVE_BUFFER = 4 << 20
"""Bytes; 5,000 devices that answer at once fit.  The kernel's limit is net.core.rmem_max."""

_NAME_SIZE = 16  # IFNAMSIZ, linux/if.h
_V6 = 6


def bind_to_interface(one: socket.socket, name: str) -> None:
    """Bind a socket to an interface, once: the second time needs CAP_NET_RAW (socket(7)).

    One that has a link-local address is bound to its interface by that.  Raises OSError.
    """
    bound = one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _NAME_SIZE)
    if bound.partition(b"\0")[0] != name.encode():
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())


def join_group(one: socket.socket, group: str, index: int) -> None:
    """Have a socket receive what is sent to a group, on one interface.  Raises OSError.

    index: of the interface: another one may have the same address.
    """
    address = ipaddress.ip_address(group)
    with _joined_before():
        if address.version == _V6:
            request = address.packed + struct.pack("@I", index)
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        else:
            request = struct.pack("@4s4si", address.packed, bytes(4), index)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


@contextlib.contextmanager
def _joined_before() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise


def open_asking_socket(link: LanInterface, own: str) -> socket.socket:
    """Open a socket to ask from: at a port of its own, by one interface, no further than its link.

    own: an address of the interface.  What is sent does not come back.  Raises OSError.
    """
    is_ipv6 = ":" in own
    made = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        bind_to_interface(made, link.name)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if is_ipv6:
            level = socket.IPPROTO_IPV6
            made.setsockopt(level, socket.IPV6_MULTICAST_IF, link.index)
            made.setsockopt(level, socket.IPV6_MULTICAST_HOPS, 1)
            made.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 0)
            scope = link.index if ipaddress.ip_address(own).is_link_local else 0
            made.bind((own, 0, 0, scope))
        else:
            level = socket.IPPROTO_IP
            by = struct.pack("@4s4si", bytes(4), bytes(4), link.index)  # ip_mreqn, ip(7)
            made.setsockopt(level, socket.IP_MULTICAST_IF, by)
            made.setsockopt(level, socket.IP_MULTICAST_TTL, 1)
            made.setsockopt(level, socket.IP_MULTICAST_LOOP, 0)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            made.bind((own, 0))
    except OSError:
        made.close()
        raise
    return made


def open_group_socket(link: LanInterface, group: str, port: int) -> socket.socket:
    """Open a socket that receives what is sent to a group on one interface, and nothing else.

    It is bound to the group itself; other programs may receive the same.  Raises OSError.
    """
    is_ipv6 = ":" in group
    made = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        bind_to_interface(made, link.name)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        made.bind((group, port, 0, link.index) if is_ipv6 else (group, port))
        join_group(made, group, link.index)
    except OSError:
        made.close()
        raise
    return made


def open_port_socket(link: LanInterface, port: int) -> socket.socket:
    """Open a socket that receives what is sent to a UDP port of IPv4 on one interface.

    It takes the port for itself: a second receiver of unicast would take what is for the first.
    It says with each datagram to whom that was sent.  Raises OSError.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        bind_to_interface(made, link.name)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        made.bind(("", port))
    except OSError:
        made.close()
        raise
    return made


IP_PKTINFO = 8  # ip(7)
PACKET_INFO = struct.Struct("@i4s4s")
"""in_pktinfo: the interface's index, its address, and the destination in the header."""
