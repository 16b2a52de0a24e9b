"""By which interface the kernel would reach an address: rtnetlink(7), which needs no rights."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct

from gatewayd.discovery.kernel.netlink import attributes, messages

NEW_ROUTE, GET_ROUTE = 24, 26  # RTM_*, linux/rtnetlink.h
ANSWER = 1.0
"""Seconds in which the kernel answers, which it does at once."""

_REQUEST = 1  # NLM_F_REQUEST
_ERROR = 2  # NLMSG_ERROR
_DESTINATION, _OUTGOING = 1, 4  # RTA_DST, RTA_OIF
_PACKET = 8192  # bytes
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, prefix lengths, tos, table, …, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_INDEX = struct.Struct("=I")


def request(address: ipaddress.IPv4Address | ipaddress.IPv6Address, sequence: int) -> bytes:
    """Return the question for the route to an address.  sequence: returned with the answer."""
    raw = address.packed
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  # IPv4
    body = _ROUTE.pack(family, 8 * len(raw), 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(raw), _DESTINATION) + raw
    return _HEADER.pack(_HEADER.size + len(body), GET_ROUTE, _REQUEST, sequence, 0) + body


def outgoing(packet: bytes, sequence: int) -> int | None:
    """Return the number of the interface that an answer names: 0 where there is no route, and
    None where this is no answer to the question of that number."""
    for one in messages(packet):
        if one.sequence == sequence and one.kind == _ERROR:
            return 0
        if one.sequence == sequence and one.kind == NEW_ROUTE and len(one.body) >= _ROUTE.size:
            raw = attributes(one.body[_ROUTE.size :]).get(_OUTGOING, b"")
            return _INDEX.unpack(raw)[0] if len(raw) == _INDEX.size else 0
    return None


async def interface_to(address: str) -> str:
    """Return the name of the interface by which an address is reached; "" if there is none, or the
    kernel does not say.

    address: an IP address, a link-local one of IPv6 with its interface, "fe80::1%lan0".
    """
    bare, _, zone = address.partition("%")
    if zone:
        return zone
    with contextlib.suppress(OSError):  # a time-out is one, too
        async with asyncio.timeout(ANSWER):
            index = await _asked(ipaddress.ip_address(bare))
        return socket.if_indextoname(index) if index else ""
    return ""


async def _asked(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    loop, sequence = asyncio.get_running_loop(), 1
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.setblocking(False)
        netlink.bind((0, 0))
        await loop.sock_sendall(netlink, request(address, sequence))
        while True:
            packet, (port, _) = await loop.sock_recvfrom(netlink, _PACKET)
            if port:  # from another process, not from the kernel
                continue
            if (index := outgoing(packet, sequence)) is not None:
                return index
