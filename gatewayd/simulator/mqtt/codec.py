"""MQTT 3.1.1 as a server speaks it: bytes in, packets out, and back.  Pure.

Sections are those of the OASIS standard "MQTT Version 3.1.1".  Only what the clouds offer is
supported: QoS 0 and 1, no will, and no retained messages, by the pages of both vendors (Alibaba:
"MQTT protocol", alibabacloud.com/help/en/iot/user-guide/mqtt-protocol; Huawei: usermanual-iothub/
iot_01_00111).  Anything else that a client sends is a `MalformedPacket`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from gatewayd.simulator.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Unsubscribe,
)


class MalformedPacket(Exception):
    """A packet that is malformed, or not supported: close the connection (4.8)."""


class PacketReader:
    """A reader of the fields in a packet's body.  Each method raises MalformedPacket."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        """The number of unread bytes."""
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        """Take so many bytes."""
        if count > self.left:
            raise MalformedPacket("ends too early")
        self._at += count
        return self._body[self._at - count : self._at]

    def byte(self) -> int:
        """Take one byte as a number."""
        return self.take(1)[0]

    def word(self) -> int:
        """Take two bytes as a number, the higher first (1.5.2)."""
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        """Take bytes that follow their length (3.1.3.5)."""
        return self.take(self.word())

    def packet_id(self) -> int:
        """Take a packet identifier, which is never 0 (2.3.1)."""
        if not (number := self.word()):
            raise MalformedPacket("packet identifier 0")
        return number

    def text(self) -> str:
        """Take a UTF-8 string, which holds no U+0000 and no surrogate (1.5.3)."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise MalformedPacket("text is no UTF-8") from None
        if "\0" in text:
            raise MalformedPacket("text with U+0000")
        return text

    def topic(self) -> str:
        """Take a topic name or filter, which is never empty (4.7.3)."""
        if not (topic := self.text()):
            raise MalformedPacket("empty topic")
        return topic


MAX_LENGTH = 268_435_455
"""The largest remaining length that four bytes can say (2.2.3)."""

PINGRESP = b"\xd0\x00"
"""PINGRESP (3.13)."""

_LENGTH_BYTES, _MORE = 4, 0x80
_RESERVED, _CLEAN, _WILL, _WILL_DETAILS = 0x01, 0x02, 0x04, 0x38
_PASSWORD, _USERNAME = 0x40, 0x80
_DUP, _RETAIN, _QOS_SHIFT, _QOS_MASK, _MAX_QOS, _OFFERED_QOS = 0x08, 0x01, 1, 0x03, 2, 1
_PUBLISH = 3


class Parser:
    """A parser of a stream of bytes into packets.

    limit: the largest remaining length accepted, in bytes; may be changed between packets.
    """

    def __init__(self, limit: int = MAX_LENGTH) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield each packet that is now complete.  Raises MalformedPacket: then discard the parser.

        Holds at most `limit` bytes and one feed.
        """
        self._buffer += data
        while (cut := _cut(self._buffer, self.limit)) is not None:
            start, end = cut
            header, body = self._buffer[0], bytes(self._buffer[start:end])
            del self._buffer[:end]
            yield decode(header, body)


def decode(header: int, body: bytes) -> Packet:
    """Read one packet: its first byte, and all that follows the remaining length (2.2).

    Raises MalformedPacket.
    """
    kind, flags = header >> 4, header & 0x0F
    reader = PacketReader(body)
    if kind == _PUBLISH:
        return _publish(flags, reader)
    if (known := _PACKETS.get(kind)) is None:
        raise MalformedPacket("a packet that a client may not send here")
    wanted, read = known
    if flags != wanted:
        raise MalformedPacket("reserved flags are wrong")  # 2.2.2
    packet = read(reader)
    if reader.left:
        raise MalformedPacket("bytes are left over")
    return packet


def connack(code: int, *, present: bool = False) -> bytes:
    """Encode CONNACK with a return code of table 3.1 (3.2).

    present: whether a session of before goes on.
    """
    return bytes((0x20, 2, int(present), code))


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 1) -> bytes:
    """Encode PUBLISH of QoS 0 or 1; the packet identifier is sent with QoS 1 only (3.3)."""
    body = _sized(topic.encode()) + (_word(packet_id) if qos else b"") + payload
    return bytes((_PUBLISH << 4 | qos << _QOS_SHIFT,)) + _length(len(body)) + body


def puback(packet_id: int) -> bytes:
    """Encode PUBACK (3.4)."""
    return b"\x40\x02" + _word(packet_id)


def suback(packet_id: int, granted: Sequence[int]) -> bytes:
    """Encode SUBACK: for each filter the QoS granted, or 0x80 for none (3.9)."""
    return b"\x90" + _length(2 + len(granted)) + _word(packet_id) + bytes(granted)


def unsuback(packet_id: int) -> bytes:
    """Encode UNSUBACK (3.11)."""
    return b"\xb0\x02" + _word(packet_id)


def _connect(reader: PacketReader) -> Connect:
    """Read CONNECT (3.1)."""
    opening = Connect(reader.text(), reader.byte())
    if not opening.known:
        reader.take(reader.left)
        return opening
    flags, keepalive = reader.byte(), reader.word()
    _check_connect_flags(flags)
    client_id = reader.text()
    return Connect(
        opening.protocol,
        opening.level,
        client_id,
        keepalive,
        clean=bool(flags & _CLEAN),
        username=reader.text() if flags & _USERNAME else "",
        password=reader.binary() if flags & _PASSWORD else b"",
    )


def _check_connect_flags(flags: int) -> None:
    if flags & _RESERVED:
        raise MalformedPacket("the reserved connect flag is set")  # 3.1.2.3
    if flags & _WILL_DETAILS and not flags & _WILL:
        raise MalformedPacket("will flags without a will")  # 3.1.2.6, 3.1.2.7
    if flags & _WILL:
        raise MalformedPacket("a will, which is not offered")
    if flags & _PASSWORD and not flags & _USERNAME:
        raise MalformedPacket("a password without a user name")  # 3.1.2.9


def _publish(flags: int, reader: PacketReader) -> Publish:
    qos = flags >> _QOS_SHIFT & _QOS_MASK
    if qos > _OFFERED_QOS:
        raise MalformedPacket("a QoS that is not offered")
    if flags & _RETAIN:
        raise MalformedPacket("a retained message, which is not offered")
    if flags & _DUP and not qos:
        raise MalformedPacket("a duplicate of QoS 0")  # 3.3.1.1
    topic = reader.topic()
    if "+" in topic or "#" in topic:
        raise MalformedPacket("a wildcard in a topic name")  # 3.3.2.1
    packet_id = reader.packet_id() if qos else 0
    return Publish(topic, reader.take(reader.left), qos, packet_id)


def _subscribe(reader: PacketReader) -> Subscribe:
    packet_id, filters = reader.packet_id(), [_filter(reader)]
    while reader.left:
        filters.append(_filter(reader))
    return Subscribe(packet_id, tuple(filters))


def _filter(reader: PacketReader) -> tuple[str, int]:
    one = reader.topic(), reader.byte()
    if one[1] > _MAX_QOS:
        raise MalformedPacket("a QoS above 2")  # 3.8.3.1
    return one


def _unsubscribe(reader: PacketReader) -> Unsubscribe:
    packet_id, filters = reader.packet_id(), [reader.topic()]
    while reader.left:
        filters.append(reader.topic())
    return Unsubscribe(packet_id, tuple(filters))


# fmt: off
_PACKETS: Mapping[int, tuple[int, Callable[[PacketReader], Packet]]] = {
    1:  (0, _connect),
    4:  (0, lambda reader: Puback(reader.packet_id())),
    8:  (2, _subscribe),
    10: (2, _unsubscribe),
    12: (0, lambda _: Pingreq()),
    14: (0, lambda _: Disconnect()),
}
# fmt: on
"""Packet type (table 2.1) → its required flags (table 2.2), and its reader."""


def _cut(buffer: bytearray, limit: int) -> tuple[int, int] | None:
    """Return the start and the end of the first packet's body; None if incomplete (2.2.3)."""
    length = 0
    for at, byte in enumerate(buffer[1 : 1 + _LENGTH_BYTES]):
        length |= (byte & ~_MORE) << 7 * at
        if not byte & _MORE:
            if length > limit:
                raise MalformedPacket("larger than is accepted here")
            end = 2 + at + length
            return (2 + at, end) if end <= len(buffer) else None
    if len(buffer) > _LENGTH_BYTES:
        raise MalformedPacket("a remaining length of more than four bytes")
    return None


def _word(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _sized(data: bytes) -> bytes:
    return _word(len(data)) + data


def _length(number: int) -> bytes:
    """Encode a remaining length, seven bits a byte, the lowest first (2.2.3)."""
    encoded = bytearray()
    while number >= _MORE:
        encoded.append(number & ~_MORE & 0xFF | _MORE)
        number >>= 7
    return bytes((*encoded, number))
