"""A TCP connection to a device on the link, and never further.

The address is what a sighting shows, and so may be forged.  Its packets have a hop limit of 1 (as
RFC 5082 uses the limit the other way): what is behind a router is never reached, whatever address
a stranger announces, and the interface is that of the sighting.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

_HOPS = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device answers.  address: numeric.  interface: of the gateway; "" where no sighting
    has one."""

    address: str
    interface: str


def place_of(address: str, interface: str) -> Place | None:
    """Return a place to connect to; None for an address that cannot be one device's on a link."""
    bare, _, scope = address.partition("%")
    try:
        ip = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if ip.is_multicast or ip.is_loopback or ip.is_unspecified or str(ip) == "255.255.255.255":
        return None
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or not (interface or scope)):
        return None
    return Place(str(ip), interface or scope)


@contextlib.asynccontextmanager
async def connection_to(place: Place, port: int) -> AsyncIterator[socket.socket]:
    """Yield a connection, non-blocking.  Raises OSError."""
    is_v6 = ":" in place.address
    with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET) as made:
        made.setblocking(False)
        if place.interface:
            name = place.interface.encode()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        if is_v6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOPS)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOPS)
        scope = socket.if_nametoindex(place.interface) if is_v6 else 0
        address = (place.address, port, 0, scope) if is_v6 else (place.address, port)
        await asyncio.get_running_loop().sock_connect(made, address)
        yield made
