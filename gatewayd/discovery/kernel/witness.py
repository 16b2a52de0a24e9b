"""Who is there now, as the kernel finds out: a neighbour that has just answered, or does not.

A device that is to be asked is sent one empty datagram, to UDP port 9 (discard, RFC 863), with one
hop to live: it is not for its answer, but for the question by ARP (RFC 826) or neighbour discovery
(RFC 4861, 7.2) which the kernel has to send first.  A device cannot leave that unanswered and be
reached.  Many answer the datagram, too, as the port is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.device.identity import mac as single_mac
from gatewayd.discovery.kernel.neighbours import (
    ALL,
    DELAY,
    GET,
    MAX_NEIGHBOURS,
    PROBE,
    REACHABLE,
    STALE,
    Neighbour,
    parse,
)
from gatewayd.discovery.kernel.netlink import follow

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FAILED = 0x20  # NUD_FAILED: three questions were not answered
WITNESSED = REACHABLE | STALE | DELAY | PROBE
"""States of a neighbour that has once answered.  Not PERMANENT, which an operator has written, nor
NOARP, of multicast groups and of interfaces where none is asked."""

PORT = 9
ASK = 2.8
"""Seconds in which a device has to answer.  The kernel asks three times, a second apart."""
READ_EVERY = 60.0
"""Seconds until the table is read again: the kernel reports no confirmation of what it believes
anyway, as by a connection that goes on."""

GRAIN = 0.02
"""Seconds by which the kernel's times are rounded: its ticks, and those that it shows."""

_GROUP = 0x4  # RTMGRP_NEIGH, linux/rtnetlink.h
_V6 = 6


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A neighbour that the kernel has seen.

    interface: its index.  mac: 12 hex digits, of a single device.
    at: when it was confirmed last, seconds of the event loop's clock.
    """

    interface: int
    address: Address
    mac: str
    at: float


_Key: TypeAlias = tuple[int, Address]


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Whether a device is at an address.  at: when that was asked.  answer: once it is known."""

    mac: str
    at: float
    answer: asyncio.Future[bool]

    def settle(self, answer: bool) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class NeighbourWitness:
    """The witness: a mirror of the kernel's neighbour table that knows when each was confirmed.

    now: seconds of the event loop's clock.  seen: called with each neighbour that is read.
    limit: how many are kept; those leave first that were read last.
    """

    def __init__(
        self,
        now: Callable[[], float],
        seen: Callable[[Witnessed], None],
        limit: int = MAX_NEIGHBOURS,
    ) -> None:
        self._now, self._seen, self._limit = now, seen, limit
        self._known: OrderedDict[_Key, Witnessed] = OrderedDict()
        self._places: dict[tuple[int, str], dict[Address, float]] = {}
        self._unread: set[_Key] = set()
        self._questions: dict[_Key, list[_Question]] = {}

    async def run(self) -> None:
        """Follow the kernel until cancelled.  Raises OSError if netlink is not allowed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_EVERY):
                    await follow(_GROUP, [(GET, ALL)], self)

    def restart(self) -> None:
        """Begin to read the table again; what is known stays until it was read."""
        self._unread = set(self._known)

    def complete(self) -> None:
        """Forget what was not read again: the kernel has it no longer."""
        for key in self._unread:
            self._forget(key)
        self._unread = set()

    def learn(self, packet: bytes) -> None:
        """Apply one packet of netlink messages from the kernel."""
        for one in parse(packet):
            self._apply(one)

    def repeat(self) -> None:
        """Call `seen` again with each neighbour that is known."""
        for one in tuple(self._known.values()):
            self._seen(one)

    def find(self, address: str, interface: str) -> Witnessed | None:
        """Return who was last seen at an address; None if that is not known.

        address: without scope.  interface: its name.
        """
        with contextlib.suppress(OSError, ValueError):
            return self._known.get(_key(address, interface))
        return None

    def addresses(self, interface: int, mac: str) -> tuple[str, ...]:
        """Return where a MAC was seen, the one that was confirmed last first.

        interface: its index.  mac: 12 hex digits.
        """
        places = self._places.get((interface, mac), {})
        return tuple(str(one) for one in sorted(places, key=lambda one: -places[one]))

    async def ask(self, address: str, interface: str, mac: str, since: float) -> bool:
        """Return whether a device is at an address, in at most 2.8 s.

        address: without scope.  interface: its name.  mac: 12 hex digits.
        since: what was confirmed after that needs no question; seconds of the loop's clock.
        A device that the kernel believes already, and that leaves the datagram unanswered, may be
        taken for one that is not there: the kernel asks it 5 s later.  Then it was seen since.
        Raises OSError if it cannot be asked.
        """
        key = _key(address, interface)
        known = self._known.get(key)
        if known is not None and known.at > since:
            return known.mac == mac
        loop = asyncio.get_running_loop()
        question = _Question(mac, self._now() - GRAIN, loop.create_future())
        self._questions.setdefault(key, []).append(question)
        try:
            with _sender(key, interface) as sender, contextlib.suppress(TimeoutError):
                sender.send(b"")
                loop.add_reader(sender, self._receive, key, sender, question)
                try:
                    async with asyncio.timeout(ASK):
                        return await question.answer
                finally:
                    loop.remove_reader(sender)
        finally:
            self._withdraw(key, question)
        return False

    def _receive(self, key: _Key, sender: socket.socket, question: _Question) -> None:
        """Read what comes back: an answer, that the port is closed, or the kernel's own error.

        An answer may be here before the kernel has said whose it is.
        """
        try:
            sender.recv(1)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            pass  # by the device
        except OSError:
            question.settle(False)
        known = self._known.get(key)
        if known is not None and known.mac == question.mac:
            question.settle(True)

    def _withdraw(self, key: _Key, question: _Question) -> None:
        left = [one for one in self._questions.pop(key, []) if one is not question]
        if left:
            self._questions[key] = left

    def _apply(self, one: Neighbour) -> None:
        key = one.interface, one.address
        self._unread.discard(key)
        self._forget(key)
        mac = single_mac(one.mac) if one.state & WITNESSED else ""
        at = self._now() - one.age
        if mac:
            self._keep(key, Witnessed(*key, mac, at))
        for question in self._questions.get(key, ()):
            if one.state == FAILED:
                question.settle(False)
            elif mac and at >= question.at:
                question.settle(mac == question.mac)

    def _keep(self, key: _Key, one: Witnessed) -> None:
        self._known[key] = one
        self._places.setdefault((one.interface, one.mac), {})[one.address] = one.at
        if len(self._known) > self._limit:
            self._forget(next(iter(self._known)))
        self._seen(one)

    def _forget(self, key: _Key) -> None:
        one = self._known.pop(key, None)
        if one is None:
            return
        place = one.interface, one.mac
        del self._places[place][one.address]
        if not self._places[place]:
            del self._places[place]


def _key(address: str, interface: str) -> _Key:
    """Raises OSError, ValueError."""
    return socket.if_nametoindex(interface), ipaddress.ip_address(address)


def _sender(key: _Key, interface: str) -> socket.socket:
    """Return a socket whose datagrams go to one address, by one interface, and no further."""
    index, address = key
    is_v6 = address.version == _V6
    sender = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sender.setblocking(False)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if is_v6:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
            sender.connect((str(address), PORT, 0, index if address.is_link_local else 0))
        else:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            sender.connect((str(address), PORT))
    except OSError:
        sender.close()
        raise
    return sender
