"""The network interfaces as they are now: which run, and with which addresses.

They come and go, are renamed, renumbered, and made again with another index: the kernel says so by
events, and nothing is polled.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from gatewayd.discovery.kernel.netlink import attributes, follow, messages

IPV4, IPV6 = 4, 6
MAX_LINKS = 1024
"""Interfaces that are kept; of more than these, only those that are asked for."""
MAX_ADDRESSES = 64
"""Addresses of one interface that are kept."""
MAX_SHOWN = 16
"""Of these, those that a recording has."""

NEW_LINK, DELETED_LINK, GET_LINK = 16, 17, 18  # RTM_*, linux/rtnetlink.h
NEW_ADDRESS, DELETED_ADDRESS, GET_ADDRESS = 20, 21, 22
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_UP, _RUNNING = 0x1, 0x40  # IFF_*, netdevice(7)
_NAME = 3  # IFLA_IFNAME
_ADDRESS, _LOCAL, _TIMES, _FLAGS = 1, 2, 6, 8  # IFA_*, linux/if_addr.h
_OPTIMISTIC, _FAILED, _TENTATIVE = 0x04, 0x08, 0x40  # IFA_F_*
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_OWNED = struct.Struct("=BBBBi")  # ifaddrmsg: family, prefix length, flags, scope, index
_CACHE = struct.Struct("=IIII")  # ifa_cacheinfo: lifetimes, made, updated
_WORD = struct.Struct("=I")
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}

OwnAddress: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
"""An address of an interface, with the network that it is on."""


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


@dataclass(frozen=True, slots=True)
class LanInterface:
    """One interface.

    index: the kernel's number of it, another one when it is made again; 0 if it does not exist.
    is_running: whether it is up, and has a carrier.
    addresses: those that can be used, the kernel's first one first.
    is_alone: whether no other interface has an IPv6 address of it, as a bridge and its port do.
    made: when each address was made, in hundredths of a second of the kernel's clock.
    """

    name: str
    index: int = 0
    is_running: bool = False
    addresses: tuple[OwnAddress, ...] = ()
    is_alone: bool = True
    made: tuple[int, ...] = ()

    @property
    def ipv4(self) -> str:
        """The IPv4 address to send from; "" if it has none."""
        return next((str(one.ip) for one in self.addresses if one.version == IPV4), "")

    @property
    def ipv6(self) -> str:
        """The IPv6 address to send from, a link-local one if it has any; "" if it has none."""
        own = [one for one in self.addresses if one.version == IPV6]
        best = sorted(own, key=lambda one: not one.is_link_local)
        return str(best[0].ip) if best else ""

    @property
    def is_usable(self) -> bool:
        """Whether anything can be received on it."""
        return self.is_running and bool(self.addresses)

    @property
    def networks(self) -> frozenset[Network]:
        """The networks that it is on."""
        return frozenset(
            Network(one.max_prefixlen, int(one.network.network_address), int(one.netmask))
            for one in self.addresses
        )

    @property
    def facts(self) -> dict[str, str | int]:
        """What a recording says of it: gatewayd-recording(5)."""
        addresses = " ".join(map(str, self.addresses[:MAX_SHOWN]))
        running = int(self.is_running)
        return {"interface": self.name, "index": self.index, "running": running,
                "addresses": addresses}  # fmt: skip

    @property
    def endpoint(self) -> tuple[int, str, str, int, int]:
        """What sockets are bound to: once it differs, they are deaf.

        An interface that was made again may have the index and the addresses of before; but these
        were made later.  The kernel may not have said that it was gone, if it had much to say.
        """
        if not self.is_usable:
            return 0, "", "", 0, 0
        return self.index, self.ipv4, self.ipv6, self._made(self.ipv4), self._made(self.ipv6)

    def _made(self, address: str) -> int:
        known = zip(self.addresses, self.made, strict=False)
        return next((at for one, at in known if str(one.ip) == address), 0)


class ReadAddress(NamedTuple):
    """An address in a message.  interface: its index.  made: as in `LanInterface`.

    is_usable: False for one that is still in doubt.
    """

    kind: int
    interface: int
    own: OwnAddress
    made: int
    is_usable: bool


@dataclass(slots=True)
class _Entry:
    name: str = ""
    flags: int = 0
    addresses: dict[tuple[int, int], ReadAddress] = field(default_factory=dict)


def parse_links(packet: bytes) -> Iterator[tuple[int, int, int, str]]:
    """Yield kind, index, flags and name for each interface in a packet."""
    for kind, _, _, body in messages(packet):
        if kind in (NEW_LINK, DELETED_LINK) and len(body) >= _LINK.size:
            family, _, index, flags, _ = _LINK.unpack_from(body)
            name = attributes(body[_LINK.size :]).get(_NAME, b"").partition(b"\0")[0]
            if family == socket.AF_UNSPEC and index > 0:  # a bridge says more of its ports
                yield kind, index, flags, name.decode(errors="replace")


def parse_addresses(packet: bytes) -> Iterator[ReadAddress]:
    """Yield the addresses in a packet."""
    for kind, _, _, body in messages(packet):
        if kind in (NEW_ADDRESS, DELETED_ADDRESS) and len(body) >= _OWNED.size:
            family, prefix, flags, _, index = _OWNED.unpack_from(body)
            found = attributes(body[_OWNED.size :])
            raw = found.get(_LOCAL) or found.get(_ADDRESS, b"")
            if len(raw) != _LENGTHS.get(family, -1) or prefix > 8 * len(raw) or index <= 0:
                continue
            if len(found.get(_FLAGS, b"")) == _WORD.size:
                (flags,) = _WORD.unpack(found[_FLAGS])
            waits = flags & _TENTATIVE and not flags & _OPTIMISTIC
            made = ipaddress.ip_interface((raw, prefix))
            times = found.get(_TIMES, b"")
            at = _CACHE.unpack(times)[2] if len(times) == _CACHE.size else 0
            yield ReadAddress(kind, index, made, at, not (waits or flags & _FAILED))


class InterfaceTable:
    """A mirror of the kernel's interfaces.

    names: those that are asked for.  changed: called when one of them is not as it was.
    """

    def __init__(self, names: Collection[str], changed: Callable[[], None]) -> None:
        self._names, self._changed = frozenset(names), changed
        self._entries: dict[int, _Entry] = {}
        self._links: dict[str, LanInterface] = {}
        self._is_complete = False

    async def run(self) -> None:
        """Follow the kernel until cancelled.  Raises OSError if netlink is not allowed."""
        tables = [
            (GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)),
            (GET_ADDRESS, _OWNED.pack(socket.AF_UNSPEC, 0, 0, 0, 0)),
        ]
        await follow(_GROUPS, tables, self)

    def link(self, name: str) -> LanInterface:
        """Return an interface as it was when the kernel was last read as a whole."""
        return self._links.get(name) or LanInterface(name)

    def restart(self) -> None:
        """Forget all, but for what is shown until all was read again."""
        self._entries.clear()
        self._is_complete = False

    def complete(self) -> None:
        """Show what was read."""
        self._is_complete = True
        self._publish()

    def learn(self, packet: bytes) -> None:
        """Apply one packet of netlink messages from the kernel."""
        for kind, index, flags, name in parse_links(packet):
            self._apply_link(kind, index, flags, name)
        for one in parse_addresses(packet):
            self._apply_address(one)
        if self._is_complete:
            self._publish()

    def _apply_link(self, kind: int, index: int, flags: int, name: str) -> None:
        if kind == DELETED_LINK:
            self._entries.pop(index, None)
        elif entry := self._entry(index, name):
            entry.name, entry.flags = name or entry.name, flags

    def _apply_address(self, one: ReadAddress) -> None:
        key = one.own.version, int(one.own.ip)
        if one.kind == DELETED_ADDRESS or not one.is_usable:
            if entry := self._entries.get(one.interface):
                entry.addresses.pop(key, None)
        elif (entry := self._entry(one.interface, "")) and (
            key in entry.addresses or len(entry.addresses) < MAX_ADDRESSES
        ):
            entry.addresses[key] = one

    def _entry(self, index: int, name: str) -> _Entry | None:
        if index not in self._entries and (len(self._entries) < MAX_LINKS or name in self._names):
            self._entries[index] = _Entry()
        return self._entries.get(index)

    def _publish(self) -> None:
        made = {name: LanInterface(name) for name in self._names}
        for index, entry in self._entries.items():
            if entry.name in made:
                made[entry.name] = self._made(index, entry)
        if made != self._links:
            self._links = made
            self._changed()

    def _made(self, index: int, entry: _Entry) -> LanInterface:
        is_running = entry.flags & _UP and entry.flags & _RUNNING
        own = {key for key in entry.addresses if key[0] == IPV6}
        others = (one for other, one in self._entries.items() if other != index)
        is_alone = all(own.isdisjoint(one.addresses) for one in others)
        addresses = tuple(one.own for one in entry.addresses.values())
        made = tuple(one.made for one in entry.addresses.values())
        return LanInterface(entry.name, index, bool(is_running), addresses, is_alone, made)
