"""Devices that three sources show: multicast DNS, SSDP, and births at a broker of MQTT."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Self

from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild, fleet

SPREAD: Final = 1.0
"""Seconds within which all of them answer, each at a random moment."""
SERVICE: Final = "_gatewayd-child._tcp.local"
MDNS, SSDP = ("224.0.0.251", 5353), ("239.255.255.250", 1900)
_IP_PKTINFO: Final = 8  # ip(7)

Open = Callable[[tuple[str, int]], socket.socket]
"""Opens a socket at the devices' end of the cable that receives what is for a group and a port."""


def devices(count: int, network: str) -> tuple[LanChild, ...]:
    """Return devices, each with a UUID beside its serial number and its MAC."""
    rng = random.Random(count)  # play, not cryptography
    made = fleet(count, count, network=network, service=SERVICE)
    return tuple(
        replace(one, extra=(("uuid", str(uuid.UUID(int=rng.getrandbits(128), version=4))),))
        for one in made
    )


def uuid_of(child: LanChild) -> str:
    """Return the UUID of such a device."""
    return dict(child.extra)["uuid"]


def answer(child: LanChild) -> bytes:
    """Return its answer to a search of SSDP."""
    lines = (
        "HTTP/1.1 200 OK",
        "CACHE-CONTROL: max-age=1800",
        "EXT:",
        "SERVER: Linux/6.1 UPnP/1.1 toy/1.0",
        "ST: upnp:rootdevice",
        f"USN: uuid:{uuid_of(child)}::upnp:rootdevice",
    )
    return "\r\n".join((*lines, "", "")).encode()


def births(child: LanChild) -> Iterator[tuple[str, bytes]]:
    """Yield topics and payloads by which it announces itself at a broker, as Tasmota does."""
    mac = child.mac.replace(":", "").upper()
    config = {
        "ip": child.address, "dn": child.instance, "hn": child.host, "mac": mac, "md": child.model,
        "t": child.host, "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"], "sw": "14.1.0",
        "ofln": "Offline", "onln": "Online",
    }  # fmt: skip
    yield f"tasmota/discovery/{mac}/config", json.dumps(config).encode()
    yield f"tele/{child.host}/LWT", b"Online"


class ThriceShown:
    """The devices, while the `async with` lasts: each answers from its own address.

    open_socket: for each group.  interface: its index.
    """

    def __init__(
        self, children: Sequence[LanChild], open_socket: Open, interface: int, rng: random.Random
    ) -> None:
        self._children, self._open, self._index, self._rng = children, open_socket, interface, rng
        self._sockets: list[socket.socket] = []
        self._answered: set[tuple[str, int]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for group, receive in ((MDNS, self._ask_by_name), (SSDP, self._search)):
            one = self._open(group)
            self._sockets.append(one)
            loop.add_reader(one, receive, one)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.remove_reader(one)
            one.close()

    def _ask_by_name(self, one: socket.socket) -> None:
        query, whence = one.recvfrom(9000)
        if query[2] & 0x80 or whence in self._answered:  # an answer, or a question put again
            return
        self._answered.add(whence)
        packets = (dns.encode(records.announcement(child)) for child in self._children)
        self._answer(one, packets, MDNS)

    def _search(self, one: socket.socket) -> None:
        query, whence = one.recvfrom(9000)
        if query.startswith(b"M-SEARCH"):
            self._answer(one, map(answer, self._children), whence)

    def _answer(self, one: socket.socket, packets: Iterator[bytes], to: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        for child, packet in zip(self._children, packets, strict=True):
            loop.call_later(SPREAD * self._rng.random(), self._send, one, child, packet, to)

    def _send(
        self, one: socket.socket, child: LanChild, packet: bytes, to: tuple[str, int]
    ) -> None:
        if one.fileno() < 0:
            return
        info = struct.pack("@i4s4s", self._index, socket.inet_aton(child.address), bytes(4))
        one.sendmsg([packet], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, to)


def group_socket(group: tuple[str, int], interface: str) -> socket.socket:
    """Return a socket in this thread's namespace that receives what is for a group and a port.

    It is bound to no address, so that it sends from any.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    index = socket.if_nametoindex(interface)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    request = struct.pack("@4s4si", socket.inet_aton(group[0]), bytes(4), index)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    by = struct.pack("@4s4si", bytes(4), bytes(4), index)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
    made.bind(("", group[1]))
    return made
