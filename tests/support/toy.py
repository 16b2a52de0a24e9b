"""A protocol of datagrams for tests, and devices that speak it.

A question is `toy?` and its token; an answer `toy!`, the token or eight blanks, a key and words;
a goodbye `toy-` and a key.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

from gatewayd.device.identity import claim
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.protocol import (
    TOKEN,
    Datagram,
    Enquiry,
    Found,
    Goodbye,
    News,
    Own,
    Probe,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.settings import ProbingSettings
from tests.support.cable import BROADCAST, CHILD, CHILD6, INTERFACE, Cable

GROUP4, GROUP6, PORT = "239.255.77.77", "ff02::7777", 7777
NO_TOKEN = b" " * TOKEN


@dataclass
class ToyProtocol:
    """The protocol.  enquired: the keys and addresses that were, one after another."""

    kind: str = "toy"
    groups: Sequence[str] = (GROUP4, GROUP6)
    port: int = PORT
    listens: bool = True
    ipv4_only: bool = False
    answer_time: float = 1.0
    by_broadcast: bool = False
    enquired: list[tuple[str, str]] = field(default_factory=list)
    details: Callable[[Found], Sequence[Found]] | None = None
    most_at_once: int = 0
    _now: int = 0

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:
        to = GROUP6 if ":" in own.address else "broadcast" if self.by_broadcast else GROUP4
        one = Probe(b"toy?" + token, to, PORT, "all toys", token)
        return (one, replace(one, after=0.05, purpose="all toys, once more"))

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:
        return (Probe(b"toy?" + token + key.encode(), address, PORT, "whether it is there", token),)

    def read(self, datagram: Datagram) -> Iterable[News]:
        kind, rest = datagram.payload[:4], datagram.payload[4:]
        if kind == b"toy?":
            return
        if kind == b"toy-":
            yield Goodbye(rest.decode())
            return
        if kind == b"bug!":
            raise LookupError("a fault in a parser")
        token, words = rest[:TOKEN], rest[TOKEN:].decode(errors="replace").split()
        if kind != b"toy!" or not words:
            raise UnreadableAnswer("no-toy")
        if datagram.is_answer and token not in datagram.asked:
            raise UnreadableAnswer("not-asked")
        yield self.found(words)

    @staticmethod
    def found(words: Sequence[str]) -> Found:
        serial = claim("serial", "toy", words[0])
        return Found(
            words[0],
            frozenset({serial} if serial else ()),
            {f"toy.{one}": "yes" for one in words[1:]},
            f"Toy {words[0]}",
            valid_for=0.0,
            is_behind="behind" in words,
            is_directory="directory" in words,
        )

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        self.enquired.append((found.key, enquiry.address))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if "toy.detail" not in found.attributes or self.details is None:
                return (found,)
            token = enquiry.token()
            question = Probe(b"toy?" + token + b"more", enquiry.address, PORT, "more", token)
            if await enquiry.ask(question, 1.0, lambda one: one.payload[4 : 4 + TOKEN] == token):
                return self.details(found)
            raise UnreadableAnswer("no-details")
        finally:
            self._now -= 1


class Toys(DatagramDiscoverer):
    """The discoverer of toys."""

    Settings = ProbingSettings

    def __init__(self, name: str, settings: ProbingSettings, protocol: ToyProtocol) -> None:
        super().__init__(name, settings, protocol, gap=0.1)


def toys(protocol: ToyProtocol | None = None, max_entries: int = 2000) -> Toys:
    """Return a discoverer at the cable."""
    settings = ProbingSettings((INTERFACE,), max_entries=max_entries)
    return Toys("toys", settings, protocol or ToyProtocol())


class ToyDevice(asyncio.DatagramProtocol):
    """A device at the far end: it answers what is sent to the group, to all or to itself.

    words: its key, and what else it says.  asked, ports: what it was asked, and whence.
    """

    def __init__(
        self, cable: Cable, words: str, *addresses: str, broadcast: str = BROADCAST
    ) -> None:
        self.cable, self.words, self._broadcast = cable, words, broadcast
        self.addresses = addresses or (CHILD,)
        self.is_silent = False
        self.asked: list[tuple[bytes, str]] = []
        self.ports: list[int] = []
        self.copies = 1
        self._transports: list[asyncio.DatagramTransport] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for address in self.addresses:
            for one in self._sockets(address):
                transport, _ = await loop.create_datagram_endpoint(lambda: _Port(self), sock=one)
                self._transports.append(transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._transports:
            one.close()
        await asyncio.sleep(0)

    def _sockets(self, address: str) -> Iterator[socket.socket]:
        """Yield the sockets of one address: unicast first, then groups and broadcast."""
        is_ipv6 = ":" in address
        to = [address, GROUP6] if is_ipv6 else [address, GROUP4, self._broadcast]
        with self.cable.at_the_far_end():
            yield from [bound(one, PORT) for one in to]

    def answer(self, request: bytes, to: tuple[str, int]) -> None:
        """Answer a question, from the device's own address."""
        token, rest = request[4 : 4 + TOKEN], request[4 + TOKEN :]
        self.asked.append((request, to[0]))
        self.ports.append(to[1])
        key = self.words.split()[0].encode()
        if request[:4] != b"toy?" or rest not in (b"", key, b"more") or self.is_silent:
            return
        for _ in range(self.copies):
            self.say(b"toy!" + token + self.words.encode(), to)

    def say(self, payload: bytes, to: tuple[str, int] = (GROUP4, PORT)) -> None:
        """Send something from the device's own address of that family."""
        for one in self._transports:
            own = one.get_extra_info("sockname")[0]
            if own.partition("%")[0] in self.addresses and (":" in own) == (":" in to[0]):
                one.sendto(payload, to)

    def announce(self) -> None:
        """Announce itself to the group."""
        self.say(b"toy!" + NO_TOKEN + self.words.encode())


class _Port(asyncio.DatagramProtocol):
    def __init__(self, device: ToyDevice) -> None:
        self._device = device

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._device.answer(data, addr)


def bound(address: str, port: int, *, interface: str = INTERFACE) -> socket.socket:
    """Return a socket in this thread's namespace, bound to an address, a group or a broadcast."""
    index = socket.if_nametoindex(interface)
    if ":" in address:
        one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port, 0, index))
        if address.startswith("ff"):
            request = socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", index)
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        by = struct.pack("@4s4si", bytes(4), bytes(4), index)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
        one.bind((address, port))
        if address.startswith("239."):
            request = struct.pack("@4s4si", socket.inet_aton(address), bytes(4), index)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    one.setblocking(False)
    return one


class Forger:
    """A host at the far end that speaks as any other of 10.77.128.0/17."""

    def __init__(self, cable: Cable) -> None:
        with cable.at_the_far_end():
            self._socket = bound("0.0.0.0", 0)  # noqa: S104  # in a namespace of the test
            self._index = socket.if_nametoindex(INTERFACE)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)

    @staticmethod
    def allow(cable: Cable) -> None:
        """Have the namespace speak as all of them."""
        cable.far_ip("route", "add", "local", "10.77.128.0/17", "dev", "lo")

    def say(self, payload: bytes, number: int, to: tuple[str, int] = (GROUP4, PORT)) -> None:
        """Send something as the host of a number, up to 32,000."""
        address = f"10.77.{128 + number // 250 % 128}.{1 + number % 250}"
        info = struct.pack("@i4s4s", self._index, socket.inet_aton(address), bytes(4))
        with suppress(BlockingIOError):  # the cable is full
            self._socket.sendmsg([payload], [(socket.IPPROTO_IP, _PKTINFO, info)], 0, to)

    def close(self) -> None:
        self._socket.close()


BOTH = (CHILD, CHILD6)
_PKTINFO = 8  # ip(7)
