"""The kernel's own view of who is on the LAN: a second layer, which no announcement can write.

Read over AF_NETLINK, which needs no rights.  Nothing is ever sent to a neighbour: only those that
the gateway has talked to are known.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections import OrderedDict
from dataclasses import replace

from gatewayd.device.identity import Trust, claim
from gatewayd.discovery.claims import KERNEL
from gatewayd.discovery.discoverer import MAX_ATTRIBUTES, Sighting
from gatewayd.discovery.neighbour_messages import Neighbour, dump_request, parse

MAX_NEIGHBOURS = 4096
"""The kernel's own limit on a large LAN (net.ipv4.neigh.default.gc_thresh3)."""

_RTMGRP_NEIGH = 0x4  # linux/rtnetlink.h
_PACKET = 65536  # bytes; the kernel's dumps are cut to 32 KiB at most

_Key = tuple[int, ipaddress.IPv4Address | ipaddress.IPv6Address]


class Neighbours:
    """A mirror of the kernel's neighbour table.  limit: how many are kept; the oldest leave."""

    def __init__(self, limit: int = MAX_NEIGHBOURS) -> None:
        self._limit = limit
        self._macs: OrderedDict[_Key, str] = OrderedDict()

    async def run(self) -> None:
        """Follow the kernel until cancelled.  Raises OSError where netlink is not allowed."""
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
                    self._macs.clear()  # some changes were lost: begin anew
                    await loop.sock_sendall(netlink, dump_request())
                    continue
                if port == 0:  # from the kernel, and nobody else
                    self.learn(packet)

    def learn(self, packet: bytes) -> None:
        """Take in what the kernel tells: one packet of netlink messages."""
        for one in parse(packet):
            self._take(one)

    def mac_of(self, address: str, interface: str) -> str | None:
        """Return the MAC that the kernel found behind an address, as 12 hex digits."""
        with contextlib.suppress(OSError, ValueError):
            where = socket.if_nametoindex(interface), ipaddress.ip_address(address)
            return self._macs.get(where)
        return None

    def corroborated(self, sighting: Sighting) -> Sighting:
        """Return a sighting with what the kernel says of its addresses.

        The kernel's MAC becomes a claim of namespace "l2", and the attribute "mac".  Only where
        the device claims the same MAC do two independent layers agree, and trust rises: without
        a claimed MAC there is nothing to agree with, and a different one may be a second port.
        What is proven is that the announced address belongs to the claimed MAC; who sent the
        announcement is not known.  Nothing changes where the addresses lead to different MACs.
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

    def _take(self, one: Neighbour) -> None:
        key = one.interface, one.address
        self._macs.pop(key, None)
        if not one.mac:
            return
        self._macs[key] = one.mac
        if len(self._macs) > self._limit:
            self._macs.popitem(last=False)
