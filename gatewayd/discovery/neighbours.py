"""The kernel's neighbour table: a second layer of evidence, which no announcement can write.

It is read over AF_NETLINK (rtnetlink(7)), which needs no rights.  Nothing is ever sent to a
neighbour: the kernel knows only those that the gateway has talked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gatewayd.device.identity import KERNEL, Trust, claim
from gatewayd.discovery.discoverer import MAX_ATTRIBUTES, Sighting

NEW, DELETED, GET = 28, 29, 30  # RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH
REACHABLE, STALE, DELAY, PROBE, PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x80  # NUD_*, linux/neighbour.h
BELIEVED = REACHABLE | STALE | DELAY | PROBE | PERMANENT
"""States in which the kernel knows a MAC.  In the others it still asks, or has given up."""

MAX_NEIGHBOURS = 4096
"""The kernel's own limit on a large LAN (net.ipv4.neigh.default.gc_thresh3)."""

_RTMGRP_NEIGH = 0x4  # linux/rtnetlink.h
_PACKET = 65536  # bytes; the kernel's dumps are cut to 32 KiB at most
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_DESTINATION, _LINK_ADDRESS = 1, 2  # NDA_DST, NDA_LLADDR
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_BODY = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}
_MAC = 6


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of the kernel's table: an address on one link.

    interface: its index.  mac: 12 hex digits; "" if the kernel does not know it, or no longer.
    """

    interface: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    mac: str


def dump_request() -> bytes:
    """Return the request for all neighbours, IPv4 and IPv6."""
    body = _BODY.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), GET, _DUMP, 1, 0) + body


def parse(packet: bytes) -> Iterator[Neighbour]:
    """Yield the neighbours in a packet.  Messages that are cut short or unknown are left out."""
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


_Key = tuple[int, ipaddress.IPv4Address | ipaddress.IPv6Address]


class NeighbourTable:
    """A mirror of the kernel's neighbour table.  limit: how many are kept; the oldest leave."""

    def __init__(self, limit: int = MAX_NEIGHBOURS) -> None:
        self._limit = limit
        self._macs: OrderedDict[_Key, str] = OrderedDict()

    async def run(self) -> None:
        """Follow the kernel until cancelled.  Raises OSError if netlink is not allowed."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.setblocking(False)
            netlink.bind((0, _RTMGRP_NEIGH))
            await loop.sock_sendall(netlink, dump_request())
            while True:
                try:
                    packet, (port, _) = await loop.sock_recvfrom(netlink, _PACKET)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self._macs.clear()  # some changes were lost: read all again
                    await loop.sock_sendall(netlink, dump_request())
                    continue
                if port == 0:  # from the kernel, not from another process
                    self.learn(packet)

    def learn(self, packet: bytes) -> None:
        """Apply one packet of netlink messages from the kernel."""
        for one in parse(packet):
            self._apply(one)

    def mac_of(self, address: str, interface: str) -> str | None:
        """Return the MAC that the kernel found behind an address: 12 hex digits, or None."""
        with contextlib.suppress(OSError, ValueError):
            where = socket.if_nametoindex(interface), ipaddress.ip_address(address)
            return self._macs.get(where)
        return None

    def corroborate(self, sighting: Sighting) -> Sighting:
        """Return a sighting with what the kernel knows of its addresses.

        The kernel's MAC becomes a claim of namespace "l2", and the attribute "mac".  Only if the
        device claims the same MAC do two independent layers agree, and trust rises: without a
        claimed MAC there is nothing to agree with, and a different one may be a second port.
        This proves that the announced address belongs to the claimed MAC; who sent the
        announcement is not known.  Nothing changes if the addresses lead to different MACs.
        """
        found = {self.mac_of(one, sighting.interface) for one in sighting.addresses} - {None}
        seen = claim("mac", KERNEL, found.pop() or "") if len(found) == 1 else None
        if seen is None:
            return sighting
        own = (c for c in sighting.claims if c.kind == "mac" and c.namespace != KERNEL)
        agrees = any(c.value == seen.value for c in own)
        room = len(sighting.attributes) < MAX_ATTRIBUTES or "mac" in sighting.attributes
        return replace(
            sighting,
            claims=sighting.claims | {seen},
            attributes={**sighting.attributes, **({"mac": seen.value} if room else {})},
            trust=max(sighting.trust, Trust.CORROBORATED) if agrees else sighting.trust,
        )

    def _apply(self, one: Neighbour) -> None:
        key = one.interface, one.address
        self._macs.pop(key, None)
        if not one.mac:
            return
        self._macs[key] = one.mac
        if len(self._macs) > self._limit:
            self._macs.popitem(last=False)
