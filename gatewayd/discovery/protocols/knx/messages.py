"""KNXnet/IP: what an interface or a router of a KNX installation says of itself.

Source of facts: the KNX Standard, 3/8/2 Core, and captures of devices.  Only what searches and
describes is made here: an interface has few tunnels, and none is opened.  Numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from gatewayd.discovery.probing.protocol import UnreadableAnswer

PORT = 3671
GROUP = "224.0.23.12"

_HEADER = struct.Struct("!BBHH")  # its size, version, service, size of the message
_VERSION = (0x06, 0x10)  # the size of the header, and version 1.0
_SEARCH, _SEARCH_EXTENDED, _DESCRIBE = 0x0201, 0x020B, 0x0203  # requests
_FOUND, _FOUND_EXTENDED, _DESCRIPTION = 0x0202, 0x020C, 0x0204  # and their answers
_ENDPOINT = struct.Struct("!BBIH")  # its size, UDP or TCP, IPv4 address, port
_UDP = 0x01
_BLOCK = 2  # bytes of the head of a description block: its size, what it is about
_DEVICE, _FAMILIES = 0x01, 0x02
_ABOUT_DEVICE = struct.Struct("!BBHH6s4x6s30s")
"""Medium, status, individual address, project; serial number; a multicast address; MAC; name."""
_MAX_BLOCKS = 32
_MEDIA = {0x02: "TP1", 0x04: "PL110", 0x10: "RF", 0x20: "IP"}
_SERVICES = {
    4: "tunnelling",
    5: "routing",
    6: "remote-logging",
    7: "remote-configuration",
    8: "object-server",
}
"""The service families that not every device has.  One of security is in extended answers alone,
so that a device would come with it and without it by turns."""


@dataclass(frozen=True, slots=True)
class KnxDevice:
    """What a device says of itself.

    serial, mac: 12 hex digits.  individual_address: on the bus, as "1.1.250".
    medium: of the bus, "" if it is an unknown one.  services: of _SERVICES, in their order.
    port: of its control endpoint.
    """

    serial: str
    mac: str
    name: str
    individual_address: str
    medium: str
    services: tuple[str, ...]
    port: int


def search_requests(address: str, port: int) -> Sequence[bytes]:
    """Return the questions to all devices: of version 1, and of version 2, which some ignore.

    address, port: where answers are to be sent.
    """
    return tuple(_request(one, address, port) for one in (_SEARCH, _SEARCH_EXTENDED))


def description_request(address: str, port: int) -> bytes:
    """Return the question to one device.  address, port: where the answer is to be sent."""
    return _request(_DESCRIBE, address, port)


def _request(service: int, address: str, port: int) -> bytes:
    endpoint = _ENDPOINT.pack(_ENDPOINT.size, _UDP, int(IPv4Address(address)), port)
    return _HEADER.pack(*_VERSION, service, _HEADER.size + len(endpoint)) + endpoint


def parse_answer(message: bytes) -> KnxDevice:
    """Return the device that answers to a search or a description.  Raises UnreadableAnswer.

    A block of an unknown kind is skipped; one that is too short or too long ends the message.
    """
    try:
        return _parsed(message)
    except struct.error:
        raise UnreadableAnswer("truncated") from None


def _parsed(message: bytes) -> KnxDevice:
    *version, service, size = _HEADER.unpack_from(message)
    if tuple(version) != _VERSION:
        raise UnreadableAnswer("no-knx")
    message, start, port = message[:size], _HEADER.size, PORT
    if service in (_FOUND, _FOUND_EXTENDED):
        length, _, _, port = _ENDPOINT.unpack_from(message, start)
        start += max(length, _ENDPOINT.size)
    elif service != _DESCRIPTION:
        raise UnreadableAnswer("foreign-message")
    blocks = dict(_blocks(message, start))
    about = blocks.get(_DEVICE, b"")
    medium, _, individual, _, serial, mac, name = _ABOUT_DEVICE.unpack_from(about)
    families = set(blocks.get(_FAMILIES, b"")[::2])  # each with its version
    return KnxDevice(
        serial=serial.hex(),
        mac=mac.hex(),
        name=name.partition(b"\0")[0].decode("latin-1").strip(),
        individual_address=f"{individual >> 12}.{individual >> 8 & 0xF}.{individual & 0xFF}",
        medium=_MEDIA.get(medium, ""),
        services=tuple(word for family, word in _SERVICES.items() if family in families),
        port=port or PORT,
    )


def _blocks(message: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield what each description block is about, and what it says."""
    for _ in range(_MAX_BLOCKS):
        size, about = (*message[start : start + _BLOCK], 0, 0)[:_BLOCK]
        if size < _BLOCK or start + size > len(message):
            return
        yield about, message[start + _BLOCK : start + size]
        start += size
