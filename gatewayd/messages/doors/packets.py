"""The packets of MQTT 5 and 3.1.1 that a door and its broker exchange.  Pure.

A door subscribes with QoS 1 and publishes with QoS 1, and reads births with QoS 0: what belongs to
QoS 2, to enhanced authentication and to topic aliases, which a door does not allow, ends the
connection.

Sources: MQTT Version 5.0 and MQTT Version 3.1.1, OASIS Standards; the numbers in brackets are
sections of the former.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

V5, V311 = 5, 4
"""Protocol levels [3.1.2.2]."""

MAX_PAYLOAD = 1024 * 1024
"""Bytes of a payload that is received; a larger one is passed over."""
MAX_PACKET = MAX_PAYLOAD + 70 * 1024
"""Bytes of a packet that is received: a topic of 64 KiB and properties come on top."""
MAX_CORRELATION = 1024
"""Bytes of correlation data that a receipt repeats, and that a command has."""
MAX_PACKET_ID = 0xFFFF
FOREVER = 0xFFFFFFFF
"""A session that does not expire [3.1.2.11.2]."""

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 1, 2, 3, 4, 8, 9
_UNSUBSCRIBE, _UNSUBACK = 10, 11
_PINGRESP, _DISCONNECT = 13, 14
_DUP, _RETAIN, _QOS_1, _QOS_2 = 0x08, 0x01, 0x02, 0x04
_LENGTH_BYTES, _MORE = 4, 0x80
_PUBACK_START = bytes((_PUBACK << 4, 2))
_WORD, _LONG = 2, 4

NO_MATCH = 0x10
"""The code of a PUBACK: no session subscribes to the topic [3.4.2.1]."""

PINGREQ: Final = b"\xc0\x00"
REFUSED = 0x80
"""Codes from here on are refusals [2.4]."""


class BrokerError(Exception):
    """The broker has sent what is no packet, or one that it may not send."""


@dataclass(frozen=True, slots=True)
class ConnackPacket:
    """The answer to CONNECT [3.2].

    code: 0 for accepted.  keepalive: seconds that the broker wants; None for ours.
    receive_maximum: messages of QoS 1 that it has in flight from us.
    maximum_packet: bytes of a packet that it accepts; 0 for any.
    """

    code: int
    session_present: bool = False
    keepalive: int | None = None
    receive_maximum: int = MAX_PACKET_ID
    maximum_packet: int = 0


class PublishPacket(NamedTuple):
    """A message [3.3].

    topic: "" where it is no text.  packet: its identifier; 0 with QoS 0.
    too_large: whether its payload was passed over.
    """

    topic: str
    payload: bytes
    packet: int = 0
    repeated: bool = False
    retained: bool = False
    response_topic: str = ""
    correlation: bytes = b""
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class PubackPacket:
    """The acknowledgement of a message of ours [3.4]."""

    packet: int
    code: int = 0


@dataclass(frozen=True, slots=True)
class SubackPacket:
    """The answer to SUBSCRIBE, with a code for each filter [3.9]; or to UNSUBSCRIBE [3.11]."""

    packet: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PingrespPacket:
    """The answer to PINGREQ [3.13]."""


@dataclass(frozen=True, slots=True)
class DisconnectPacket:
    """The broker closes the connection [3.14]."""

    code: int = 0


Packet: TypeAlias = (
    ConnackPacket | PublishPacket | PubackPacket | SubackPacket | PingrespPacket | DisconnectPacket
)


# What a door sends.


@dataclass(frozen=True, slots=True)
class ConnectPacket:
    """How a door introduces itself [3.1].

    password: None for none.  keepalive, session_expiry: seconds.
    receive_maximum: messages of QoS 1 that may be in flight to us; MQTT 5 only, as is the expiry.
    clean: whether the broker is to keep nothing, before or after this connection.
    """

    client_id: str
    user_name: str = ""
    password: bytes | None = None
    keepalive: int = 60
    session_expiry: int = FOREVER
    receive_maximum: int = 200
    clean: bool = False

    def encode(self, version: int) -> bytes:
        """Encode it."""
        flags = (0x80 if self.user_name else 0) | (0x40 if self.password is not None else 0)
        flags |= 0x02 if self.clean else 0
        body = _sized(b"MQTT") + bytes((version, flags)) + _word(self.keepalive)
        if version == V5:
            body += _properties(
                b"\x11" + (0 if self.clean else self.session_expiry).to_bytes(_LONG, "big"),
                b"\x21" + _word(self.receive_maximum),
                b"\x27" + MAX_PACKET.to_bytes(_LONG, "big"),
            )
        body += _sized(self.client_id.encode())
        if self.user_name:
            body += _sized(self.user_name.encode())
        if self.password is not None:
            body += _sized(self.password)
        return _packet(_CONNECT << 4, body)


def subscribe(version: int, packet: int, filters: Sequence[str]) -> bytes:
    """Encode SUBSCRIBE with QoS 1, and without retained messages where MQTT 5 allows that [3.8]."""
    return _subscribe(version, packet, filters, 1 | 2 << 4 if version == V5 else 1)


def subscribe_to_kept(version: int, packet: int, filters: Sequence[str]) -> bytes:
    """Encode SUBSCRIBE with QoS 0, whereupon all retained messages come, again each time [3.8]."""
    return _subscribe(version, packet, filters, 0)


def _subscribe(version: int, packet: int, filters: Sequence[str], option: int) -> bytes:
    options = bytes((option,))
    listed = b"".join(_sized(one.encode()) + options for one in filters)
    properties = _properties() if version == V5 else b""
    return _packet(_SUBSCRIBE << 4 | 2, _word(packet) + properties + listed)


def unsubscribe(version: int, packet: int, filters: Sequence[str]) -> bytes:
    """Encode UNSUBSCRIBE [3.10]."""
    properties = _properties() if version == V5 else b""
    listed = b"".join(_sized(one.encode()) for one in filters)
    return _packet(_UNSUBSCRIBE << 4 | 2, _word(packet) + properties + listed)


class PublishProperties(NamedTuple):
    """Properties of a message of ours, which only MQTT 5 has [3.3.2.3]; each is left out if empty.

    expiry: seconds after which the broker does not deliver it any more.
    """

    correlation: bytes = b""
    response_topic: str = ""
    expiry: int = 0

    def encode(self) -> bytes:
        """Encode them, with their length."""
        return _properties(
            b"\x02" + self.expiry.to_bytes(_LONG, "big") if self.expiry else b"",
            b"\x08" + _sized(self.response_topic.encode()) if self.response_topic else b"",
            b"\x09" + _sized(self.correlation) if self.correlation else b"",
        )


NO_PROPERTIES: Final = PublishProperties()


def publish(
    version: int,
    packet: int,
    topic: str,
    payload: bytes,
    *,
    retained: bool = False,
    properties: PublishProperties = NO_PROPERTIES,
) -> bytes:
    """Encode PUBLISH with QoS 1, or with QoS 0 where the packet identifier is 0 [3.3]."""
    body = _sized(topic.encode()) + (_word(packet) if packet else b"")
    if version == V5:
        body += properties.encode()
    header = _PUBLISH << 4 | (_QOS_1 if packet else 0) | (_RETAIN if retained else 0)
    return _packet(header, body + payload)


def puback(packet: int) -> bytes:
    """Encode PUBACK, with the code 0 [3.4.2.1]."""
    return _PUBACK_START + packet.to_bytes(_WORD, "big")


def disconnect(version: int, code: int = 0) -> bytes:
    """Encode DISCONNECT [3.14]; only MQTT 5 has a code."""
    return bytes((_DISCONNECT << 4, 1, code)) if version == V5 and code else b"\xe0\x00"


def _word(number: int) -> bytes:
    return number.to_bytes(_WORD, "big")


def _sized(data: bytes) -> bytes:
    return _word(len(data)) + data


def _properties(*encoded: bytes) -> bytes:
    data = b"".join(encoded)
    return _length(len(data)) + data


def _packet(header: int, body: bytes) -> bytes:
    return bytes((header,)) + _length(len(body)) + body


def _length(number: int) -> bytes:
    """Encode a variable byte integer [1.5.5]."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, _MORE)
        encoded.append(digit | (_MORE if number else 0))
        if not number:
            return bytes(encoded)


# What a broker sends.


class PacketParser:
    """A parser of what a broker sends.  version: V5 or V311.

    Holds at most one packet of MAX_PACKET bytes, and one feed.  After BrokerError it is discarded.
    """

    def __init__(self, version: int) -> None:
        self._version = version
        self._buffer = bytearray()
        self._at = 0  # where the next packet begins
        self._skip = 0  # bytes of a message that is passed over, still to come

    def feed(self, data: bytes) -> None:
        """Accept bytes as received."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next(self) -> Packet | None:
        """Return the next packet that is complete; None where there is none.

        Raises BrokerError.
        """
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            return None
        header = buffer[at]
        _check_header(header, self._version)
        cut = self._cut()
        if cut is None:
            return None
        start, length = cut
        end = start + length
        if end - at > MAX_PACKET:
            return self._pass_over(header, start, end)
        if end > len(buffer):
            return None
        self._at = end
        return _decode(header, bytes(buffer[start:end]), self._version)

    def _cut(self) -> tuple[int, int] | None:
        """Return where the body of the next packet begins, and its length [2.1.4]."""
        buffer, first, length = self._buffer, self._at + 1, 0
        for index in range(_LENGTH_BYTES):
            place = first + index
            if place >= len(buffer):
                return None
            byte = buffer[place]
            length |= (byte & ~_MORE) << (7 * index)
            if not byte & _MORE:
                return place + 1, length
        raise BrokerError("a malformed length")

    def _pass_over(self, header: int, start: int, end: int) -> Packet | None:
        """Return a message that is too large without its payload, once its head is there."""
        if header >> 4 != _PUBLISH:
            raise BrokerError("a packet that is too large")
        head = _head(header, _Reader(memoryview(self._buffer)[start:].tobytes()))
        if head is None:
            return None
        self._skip = max(0, end - len(self._buffer))
        self._at = min(end, len(self._buffer))
        topic, packet = head
        return PublishPacket(topic, b"", packet, bool(header & _DUP), too_large=True)


class _Reader:
    """A reader of the fields of a packet.  Each method raises BrokerError."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        start, end = self._at, self._at + count
        if end > len(self._body):
            raise BrokerError("a packet that ends too early")
        self._at = end
        return self._body[start:end]

    def byte(self) -> int:
        return self.take(1)[0]

    def word(self) -> int:
        body, start = self._body, self._at
        if start + _WORD > len(body):
            raise BrokerError("a packet that ends too early")
        self._at = start + _WORD
        return body[start] << 8 | body[start + 1]

    def long(self) -> int:
        return int.from_bytes(self.take(_LONG), "big")

    def binary(self) -> bytes:
        return self.take(self.word())

    def text(self) -> str:
        """Take a text [1.5.4]; "" for one that is none, which costs the message and no more."""
        raw = self.take(self.word())
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return ""
        return "" if "\0" in text else text

    def pair(self) -> None:
        self.binary()
        self.binary()

    def variable(self) -> int:
        """Take a variable byte integer [1.5.5]."""
        number = 0
        for index in range(_LENGTH_BYTES):
            byte = self.byte()
            number |= (byte & ~_MORE) << (7 * index)
            if not byte & _MORE:
                return number
        raise BrokerError("a malformed length")

    def packet_id(self) -> int:
        """Take a packet identifier, which is never 0 [2.2.1]."""
        if not (number := self.word()):
            raise BrokerError("a packet identifier of 0")
        return number

    def rest(self) -> bytes:
        start, self._at = self._at, len(self._body)
        return self._body[start:]

    def properties(self) -> dict[int, object]:
        """Take the properties [2.2.2]."""
        found: dict[int, object] = {}
        if not (length := self.variable()):
            return found
        inside = _Reader(self.take(length))
        while inside.left:
            number = inside.variable()
            take = _PROPERTIES.get(number)
            if take is None:
                raise BrokerError("an unknown property")
            if number in found and number not in _REPEATABLE:
                raise BrokerError("a property that comes twice")
            found[number] = take(inside)
        return found


_RECEIVE_MAXIMUM, _MAXIMUM_PACKET, _SERVER_KEEPALIVE = 0x21, 0x27, 0x13
_RESPONSE_TOPIC, _CORRELATION, _TOPIC_ALIAS = 0x08, 0x09, 0x23
_SUBSCRIPTION, _USER = 0x0B, 0x26
_REPEATABLE = (_SUBSCRIPTION, _USER)

_PROPERTIES: Mapping[int, Callable[[_Reader], object]] = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _Reader.byte),
    **dict.fromkeys((_SERVER_KEEPALIVE, _RECEIVE_MAXIMUM, 0x22, _TOPIC_ALIAS), _Reader.word),
    **dict.fromkeys((0x02, 0x11, 0x18, _MAXIMUM_PACKET), _Reader.long),
    **dict.fromkeys((0x03, _RESPONSE_TOPIC, 0x12, 0x15, 0x1A, 0x1C, 0x1F), _Reader.text),
    **dict.fromkeys((_CORRELATION, 0x16), _Reader.binary),
    _SUBSCRIPTION: _Reader.variable,
    _USER: _Reader.pair,
}
"""How each property is read [2.2.2.2]."""


def decode(header: int, body: bytes, version: int) -> Packet:
    """Read one packet: its first byte, and all that follows its length.  Raises BrokerError."""
    _check_header(header, version)
    return _decode(header, body, version)


def _decode(header: int, body: bytes, version: int) -> Packet:
    """Read one packet whose first byte was checked.  Raises BrokerError."""
    reader = _Reader(body)
    if header >> 4 == _PUBLISH:
        return _publish(header, reader, version)
    return _PACKETS[header >> 4](reader, version)


def _check_header(header: int, version: int) -> None:
    """Refuse what cannot be a packet by its first byte.  Raises BrokerError."""
    kind, flags = header >> 4, header & 0x0F
    if kind == _PUBLISH:
        if flags & _QOS_2:
            raise BrokerError("a message of QoS 2")
        return
    if kind not in _PACKETS or (kind == _DISCONNECT and version != V5):
        raise BrokerError("a packet that no broker may send to a door")
    if flags:
        raise BrokerError("a packet with reserved flags")


def _head(header: int, reader: _Reader) -> tuple[str, int] | None:
    """Return topic and identifier of a message; None where they are not complete yet."""
    try:
        topic = reader.text()
        return topic, reader.packet_id() if header & _QOS_1 else 0
    except BrokerError:
        if reader.left > MAX_PACKET - MAX_PAYLOAD:
            raise
        return None


def _publish(header: int, reader: _Reader, version: int) -> PublishPacket:
    topic = reader.text()
    packet = reader.packet_id() if header & _QOS_1 else 0
    repeated, retained = bool(header & _DUP), bool(header & _RETAIN)
    if version != V5:
        payload = reader.rest()
        return _limited(PublishPacket(topic, payload, packet, repeated, retained))
    properties = reader.properties()
    if not properties:
        return _limited(PublishPacket(topic, reader.rest(), packet, repeated, retained))
    if _TOPIC_ALIAS in properties:
        raise BrokerError("a topic alias, which was not allowed")
    response, correlation = properties.get(_RESPONSE_TOPIC, ""), properties.get(_CORRELATION, b"")
    assert isinstance(response, str)
    assert isinstance(correlation, bytes)
    payload = reader.rest()
    return _limited(
        PublishPacket(topic, payload, packet, repeated, retained, response, correlation)
    )


def _limited(message: PublishPacket) -> PublishPacket:
    """Leave out a payload that is too large."""
    if len(message.payload) <= MAX_PAYLOAD:
        return message
    return message._replace(payload=b"", too_large=True)


def _connack(reader: _Reader, version: int) -> ConnackPacket:
    flags, code = reader.byte(), reader.byte()
    present = bool(flags & 1)
    if version != V5 or not reader.left:  # a broker of 3.1.1 answers so to MQTT 5, too
        return ConnackPacket(code, present)
    properties = reader.properties()
    keepalive = properties.get(_SERVER_KEEPALIVE)
    receive = properties.get(_RECEIVE_MAXIMUM, MAX_PACKET_ID)
    maximum = properties.get(_MAXIMUM_PACKET, 0)
    assert keepalive is None or isinstance(keepalive, int)
    assert isinstance(receive, int)
    assert isinstance(maximum, int)
    if not receive:
        raise BrokerError("a receive maximum of 0")
    return ConnackPacket(code, present, keepalive, receive, maximum)


def _acknowledgement(reader: _Reader, _version: int) -> PubackPacket:
    packet = reader.packet_id()
    return PubackPacket(packet, reader.byte() if reader.left else 0)  # properties may follow


def _suback(reader: _Reader, version: int) -> SubackPacket:
    packet = reader.packet_id()
    if version == V5:
        reader.properties()
    return SubackPacket(packet, tuple(reader.rest()))


def _pingresp(reader: _Reader, _version: int) -> PingrespPacket:
    if reader.left:
        raise BrokerError("a PINGRESP with content")
    return PingrespPacket()


def _disconnect(reader: _Reader, _version: int) -> DisconnectPacket:
    return DisconnectPacket(reader.byte() if reader.left else 0)


_PACKETS: Mapping[int, Callable[[_Reader, int], Packet]] = {
    _CONNACK: _connack,
    _PUBACK: _acknowledgement,
    _SUBACK: _suback,
    _UNSUBACK: _suback,  # of the same form; of MQTT 3.1.1 without codes
    _PINGRESP: _pingresp,
    _DISCONNECT: _disconnect,
}
