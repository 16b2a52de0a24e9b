"""What MQTT asks of a server and of a client's keep-alive, and what a topic filter means.  Pure.

Source: MQTT Version 3.1.1, OASIS Standard; the numbers in brackets are its sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

MAX_PACKET = 1025 * 1024
"""Bytes of one packet from the cloud: 1 MiB is a message's limit at the more generous vendor, and
its topic and header come on top."""

_LENGTH_BYTES = 4  # at most [2.2.3]
_CONNECT, _CONNACK, _PUBLISH, _SUBACK = 0x10, 0x20, 0x30, 0x90
_QOS_1, _QOS_2 = 0x02, 0x04

_NAMES: Mapping[int, str] = {
    _CONNECT: "CONNECT",
    _CONNACK: "CONNACK",
    _PUBLISH: "PUBLISH",
    0x40: "PUBACK",
    0x50: "PUBREC",
    0x60: "PUBREL",
    0x70: "PUBCOMP",
    0x80: "SUBSCRIBE",
    _SUBACK: "SUBACK",
    0xA0: "UNSUBSCRIBE",
    0xB0: "UNSUBACK",
    0xC0: "PINGREQ",
    0xD0: "PINGRESP",
    0xE0: "DISCONNECT",
}
"""The packets [2.2.1]; 0 and 15 are reserved."""

_SHORTEST_MESSAGE = 3  # a topic has a character [4.7.3]
_MAX_TOPICS = 1024  # of a SUBSCRIBE of ours, generously

_LENGTHS: Mapping[int, tuple[int, int]] = {
    _CONNACK: (2, 2),
    _PUBLISH: (_SHORTEST_MESSAGE, MAX_PACKET),
    0x40: (2, 2),  # PUBACK
    _SUBACK: (3, 2 + _MAX_TOPICS),
    0xB0: (2, 2),  # UNSUBACK
    0xD0: (0, 0),  # PINGRESP
}
"""What a server may send, to the least and the most bytes after the fixed header [3].

Those of QoS 2 are not among them: paho would store such a message until it is released, neither
cloud has them, and we send none.
"""


class PacketError(Exception):
    """The cloud has sent what is no packet, or one that is not accepted."""


def packet_size(data: bytes | bytearray, limit: int = MAX_PACKET, *, first: bool) -> int | None:
    """Return the size of the packet that begins here; None where that is not known yet.

    limit: most bytes of a packet.  first: whether it is the first on its connection, which must
    be a CONNACK, and no other may [3.2].  Raises PacketError, as soon as the header shows it.
    """
    if not data:
        return None
    kind, flags = data[0] & 0xF0, data[0] & 0x0F
    if (kind == _CONNACK) is not first:
        raise PacketError("no CONNACK first" if first else "a second CONNACK")
    if kind == _PUBLISH and flags & _QOS_2:
        raise PacketError("a message of QoS 2")
    if kind not in _LENGTHS:
        raise PacketError(f"{_NAMES.get(kind, 'a reserved packet')}, which no server may send,")
    if kind != _PUBLISH and flags:
        raise PacketError(f"{_NAMES[kind]} with reserved flags")
    return _size(data, kind, limit)


def _size(data: bytes | bytearray, kind: int, limit: int) -> int | None:
    length = 0
    for index, byte in enumerate(data[1 : 1 + _LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            size = 2 + index + length
            least, most = _LENGTHS[kind]
            if size > limit:
                raise PacketError("a packet that is too large")
            if not least <= length <= most:
                raise PacketError(f"{_NAMES[kind]} of a wrong length")
            return size
    if len(data) > _LENGTH_BYTES:
        raise PacketError("a malformed length")
    return None


def is_answered(header: int) -> bool:
    """Whether a client has to answer the packet with this first byte: a message of QoS 1."""
    return header & 0xF0 == _PUBLISH and bool(header & _QOS_1)


ANSWER_TIME = 10.0
"""Seconds that a PINGREQ is given to be answered.  A dead path is noticed so long after the
keep-alive at the latest."""
_MARGIN = 5.0
"""Seconds, at most a tenth of the keep-alive, by which a PINGREQ is sent before it is due."""


class KeepAliveStep(Enum):
    """What is to be done now for a connection."""

    WAIT = "wait"
    PING = "ping"
    GIVE_UP = "give up"


class KeepAlive:
    """When to send a PINGREQ, and when a path is dead [3.1.2.10].

    It is due when nothing was received, or nothing sent, for the time of the keep-alive.  Whatever
    is received answers it: without our acknowledgements, TCP would not let the cloud send more.

    interval: seconds, as in the CONNECT.  now: seconds of a steady clock.
    """

    def __init__(self, interval: float, now: float) -> None:
        self._quiet = interval - min(_MARGIN, interval / 10)
        self._patience = min(ANSWER_TIME, interval)
        self._received = self._sent = now
        self._pinged: float | None = None

    def receive(self, now: float) -> None:
        """Note that something was received."""
        self._received, self._pinged = now, None

    def send(self, now: float) -> None:
        """Note that something was sent."""
        self._sent = now

    def due(self) -> float:
        """Return when the next step is due, unless something is received or sent before."""
        if self._pinged is not None:
            return self._pinged + self._patience
        return min(self._received, self._sent) + self._quiet

    def step(self, now: float) -> KeepAliveStep:
        """Return what is to be done now."""
        if now < self.due():
            return KeepAliveStep.WAIT
        if self._pinged is not None:
            return KeepAliveStep.GIVE_UP
        self._pinged = now
        return KeepAliveStep.PING


def covers(wide: str, narrow: str) -> bool:
    """Whether one topic filter means every topic that another means, or this one topic [4.7]."""
    if wide == narrow:
        return True
    if narrow.startswith("$") and wide[:1] in ("+", "#"):
        return False
    wides, narrows = wide.split("/"), narrow.split("/")
    for index, part in enumerate(wides):
        if part == "#":
            return True
        if index >= len(narrows) or narrows[index] == "#":
            return False
        if part not in ("+", narrows[index]):
            return False
    return len(wides) == len(narrows)
