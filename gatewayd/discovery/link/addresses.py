"""The addresses on a link: which senders are on it, and which a device can have."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from gatewayd.discovery.kernel.interfaces import LanInterface

MAX_ADDRESSES = 8
"""Addresses of one device."""

_V6 = 6


@dataclass(frozen=True, slots=True)
class Network:
    """An IP network, as numbers.  bits: of an address, 32 or 128."""

    bits: int
    prefix: int
    mask: int

    def __contains__(self, address: str) -> bool:
        """Whether an address is in the network.  address: without scope.  Raises ValueError."""
        one = ipaddress.ip_address(address)
        return one.max_prefixlen == self.bits and int(one) & self.mask == self.prefix


def networks(link: LanInterface) -> frozenset[Network]:
    """Return the networks that an interface is on."""
    return frozenset(
        Network(one.max_prefixlen, int(one.network.network_address), int(one.netmask))
        for one in link.addresses
    )


def usable_addresses(addresses: tuple[str, ...], interface: str) -> tuple[str, ...]:
    """Return the addresses that a host can have, IPv4 first, at most 8.

    Loopback addresses count only on "lo": elsewhere they would mean this gateway itself.  A
    link-local address of IPv6 is one on that interface alone, and names it: "fe80::1%lan0".
    """
    parsed = (ipaddress.ip_address(one.partition("%")[0]) for one in addresses)
    fit = [
        one
        for one in dict.fromkeys(parsed)
        if not (one.is_multicast or one.is_unspecified or one.is_reserved)
        and (interface == "lo" or not one.is_loopback)
    ]
    fit.sort(key=lambda one: one.version)
    return tuple(_with_scope(one, interface) for one in fit)[:MAX_ADDRESSES]


def _with_scope(one: ipaddress.IPv4Address | ipaddress.IPv6Address, interface: str) -> str:
    return f"{one}%{interface}" if one.version == _V6 and one.is_link_local else str(one)
