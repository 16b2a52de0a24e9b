"""The kernel's messages about neighbours, as values: rtnetlink(7).  Pure."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NEW, DELETED, GET = 28, 29, 30  # RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH
REACHABLE, STALE, DELAY, PROBE, PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x80  # NUD_*, linux/neighbour.h
BELIEVED = REACHABLE | STALE | DELAY | PROBE | PERMANENT
"""States in which the kernel knows a MAC.  In the others it still asks, or has given up."""

_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_DESTINATION, _LINK_ADDRESS = 1, 2  # NDA_DST, NDA_LLADDR
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_BODY = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}
_MAC = 6


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What the kernel says of one address on one link.

    mac: 12 hex digits; "" where the kernel does not know it, or does not any more.
    """

    interface: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    mac: str


def dump_request() -> bytes:
    """Return the request for all neighbours, IPv4 and IPv6."""
    body = _BODY.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), GET, _DUMP, 1, 0) + body


def parse(packet: bytes) -> Iterator[Neighbour]:
    """Yield the neighbours that a packet tells of.  What is cut short or unknown is left out."""
    for kind, body in _messages(packet):
        if kind in (NEW, DELETED) and len(body) >= _BODY.size:
            family, interface, state, _, _ = _BODY.unpack_from(body)
            attributes = dict(_attributes(body[_BODY.size :]))
            raw = attributes.get(_DESTINATION, b"")
            if len(raw) != _LENGTHS.get(family, -1):
                continue
            known = kind == NEW and state & BELIEVED
            mac = attributes.get(_LINK_ADDRESS, b"") if known else b""
            address = ipaddress.ip_address(raw)
            yield Neighbour(interface, address, mac.hex() if len(mac) == _MAC else "")


def _messages(packet: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(packet):
        length, kind, _, _, _ = _HEADER.unpack_from(packet, at)
        if not _HEADER.size <= length <= len(packet) - at:
            return
        yield kind, packet[at + _HEADER.size : at + length]
        at += _aligned(length)


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            return
        yield kind, body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return length + 3 & ~3
