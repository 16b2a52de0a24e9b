"""The kernel's neighbour table: a second layer of evidence, which no announcement can write.

Nothing is ever sent to a neighbour: the kernel knows only those that the gateway has talked to.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from gatewayd.device.identity import KERNEL, Trust, claim
from gatewayd.discovery.discoverer import MAX_ATTRIBUTES, Sighting
from gatewayd.discovery.kernel.netlink import attributes, follow, messages

NEW, DELETED, GET = 28, 29, 30  # RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH
REACHABLE, STALE, DELAY, PROBE, PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x80  # NUD_*, linux/neighbour.h
BELIEVED = REACHABLE | STALE | DELAY | PROBE | PERMANENT
"""States in which the kernel knows a MAC.  In the others it still asks, or has given up."""

MAX_NEIGHBOURS = 4096
"""The kernel's own limit on a large LAN (net.ipv4.neigh.default.gc_thresh3)."""

MAX_ADDRESSES = 8
"""Addresses of one MAC: behind a router there are more."""

_V6 = 6
_RTMGRP_NEIGH = 0x4  # linux/rtnetlink.h
_DESTINATION, _LINK_ADDRESS, _TIMES = 1, 2, 3  # NDA_DST, NDA_LLADDR, NDA_CACHEINFO
_BODY = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type
ALL = _BODY.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
"""What is requested of the whole table, of IPv4 and IPv6."""
_AGES = struct.Struct("=IIII")  # nda_cacheinfo: confirmed, used, updated, references
_TICKS = 100  # of these ages in a second, whatever the kernel's own ticks are (USER_HZ)
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}
_MAC = 6


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of the kernel's table: an address on one link.

    interface: its index.  mac: 12 hex digits; "" if the kernel does not know it, or no longer.
    state: NUD_*; 0 for an entry that is gone.  age: seconds since it was confirmed.
    """

    interface: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    mac: str
    state: int = field(default=0, compare=False)
    age: float = field(default=math.inf, compare=False)


def parse(packet: bytes) -> Iterator[Neighbour]:
    """Yield the neighbours in a packet.  Messages that are cut short or unknown are left out."""
    for kind, _, _, body in messages(packet):
        if kind in (NEW, DELETED) and len(body) >= _BODY.size:
            family, interface, state, _, _ = _BODY.unpack_from(body)
            found = attributes(body[_BODY.size :])
            raw = found.get(_DESTINATION, b"")
            if len(raw) != _LENGTHS.get(family, -1):
                continue
            known = kind == NEW and state & BELIEVED
            mac = found.get(_LINK_ADDRESS, b"") if known else b""
            address = ipaddress.ip_address(raw)
            yield Neighbour(
                interface,
                address,
                mac.hex() if len(mac) == _MAC else "",
                state if kind == NEW else 0,
                _age(found.get(_TIMES, b"")),
            )


def _age(times: bytes) -> float:
    if len(times) < _AGES.size:
        return math.inf
    confirmed: int = _AGES.unpack_from(times)[0]
    return confirmed / _TICKS


_Key = tuple[int, ipaddress.IPv4Address | ipaddress.IPv6Address]


class NeighbourTable:
    """A mirror of the kernel's neighbour table.

    limit: how many are kept; the oldest leave.  found: called with an address, without scope, of
    which the MAC is known from now on, or is another one.
    """

    def __init__(
        self, limit: int = MAX_NEIGHBOURS, found: Callable[[str], None] = lambda _: None
    ) -> None:
        self._limit, self._found = limit, found
        self._macs: OrderedDict[_Key, str] = OrderedDict()

    async def run(self) -> None:
        """Follow the kernel until cancelled.  Raises OSError if netlink is not allowed."""
        await follow(_RTMGRP_NEIGH, [(GET, ALL)], self)

    def restart(self) -> None:
        """Forget all neighbours; all that the kernel has are read again."""
        self._macs.clear()

    def complete(self) -> None:
        """Nothing follows: each neighbour is known as it is learned."""

    def learn(self, packet: bytes) -> None:
        """Apply one packet of netlink messages from the kernel."""
        for one in parse(packet):
            self._apply(one)

    def mac_of(self, address: str, interface: str) -> str | None:
        """Return the MAC that the kernel found behind an address: 12 hex digits, or None.

        address: of a link-local one, the scope may follow, as in "fe80::1%lan0".
        """
        with contextlib.suppress(OSError, ValueError):
            bare = ipaddress.ip_address(address.partition("%")[0])
            return self._macs.get((socket.if_nametoindex(interface), bare))
        return None

    def addresses_of(self, mac: str) -> list[str]:
        """Return where the kernel found a MAC, at most 8: a link-local address with its interface.

        mac: 12 hex digits.
        """
        found: list[str] = []
        for (index, address), one in self._macs.items():
            if one == mac and len(found) < MAX_ADDRESSES:
                with contextlib.suppress(OSError):  # an interface that has just gone
                    is_scoped = address.version == _V6 and address.is_link_local
                    name = f"%{socket.if_indextoname(index)}" if is_scoped else ""
                    found.append(f"{address}{name}")
        return found

    def corroborate(self, sighting: Sighting) -> Sighting:
        """Return a sighting with what the kernel knows of its addresses.

        The kernel's MAC becomes a claim of namespace "l2", and the attribute "mac".  Only if the
        device claims the same MAC do two independent layers agree, and trust rises: without a
        claimed MAC there is nothing to agree with, and a different one may be a second port.
        This proves that the announced address belongs to the claimed MAC; who sent the
        announcement is not known.  So rules match none of its other addresses then: a host may
        announce one of another network beside its own.
        Of different MACs that of the device's claims counts: an address of another host among its
        own, which a forged answer can add, takes nothing from it.  Nothing changes if it claims
        none of them, or several, or if the addresses are those of what the device is behind.
        """
        if sighting.is_behind:
            return sighting
        macs = {one: self.mac_of(one, sighting.interface) for one in sighting.addresses}
        own = {c.value for c in sighting.claims if c.kind == "mac" and c.namespace != KERNEL}
        known = {mac for mac in macs.values() if mac}
        found = known & own or known
        seen = claim("mac", KERNEL, found.pop()) if len(found) == 1 else None
        if seen is None:
            return sighting
        agrees = seen.value in own
        there = [one for one, mac in macs.items() if mac == seen.value]
        proven = {"address": there[0], "addresses": " ".join(there)}
        room = len(sighting.attributes) < MAX_ATTRIBUTES or "mac" in sighting.attributes
        return replace(
            sighting,
            claims=sighting.claims | {seen},
            attributes={
                **sighting.attributes,
                **({"mac": seen.value} if room else {}),
                **(proven if agrees and len(there) < len(macs) else {}),
            },
            trust=max(sighting.trust, Trust.CORROBORATED) if agrees else sighting.trust,
        )

    def _apply(self, one: Neighbour) -> None:
        key = one.interface, one.address
        before = self._macs.pop(key, None)
        if not one.mac:
            return
        self._macs[key] = one.mac
        if len(self._macs) > self._limit:
            self._macs.popitem(last=False)
        if one.mac != before:
            self._found(str(one.address))
