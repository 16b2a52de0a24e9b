"""The DNS messages of multicast DNS, as values and as datagrams.

RFC 1035, its section 4 for the datagrams, 2782, 3596, 6762, its section 18, and 6763.

Pure.  For any fault of the bytes, `decode` raises MalformedDns and nothing else.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

Name = tuple[bytes, ...]
"""Labels, without the empty one at the end; () is the root.  Equal when `fold` says so."""

A, PTR, TXT, AAAA, SRV, ANY = 1, 12, 16, 28, 33, 255
IN = 1

RESPONSE = 0x8400  # QR and AA: a multicast answer is always authoritative (RFC 6762 18.4)
TRUNCATED = 0x0200  # more known answers follow (RFC 6762 7.2)


@dataclass(frozen=True, slots=True)
class AddressData:
    """An IPv4 address, as "127.1.0.7"."""

    kind: ClassVar[int] = A
    address: str


@dataclass(frozen=True, slots=True)
class Address6Data:
    """An IPv6 address, as "fd77:1::7"."""

    kind: ClassVar[int] = AAAA
    address: str


@dataclass(frozen=True, slots=True)
class PointerData:
    """Another name: here, that of an instance of a service."""

    kind: ClassVar[int] = PTR
    target: Name


@dataclass(frozen=True, slots=True)
class TextData:
    """Strings of at most 255 bytes each, as b"model=TH-20"."""

    kind: ClassVar[int] = TXT
    strings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SrvData:
    """Where an instance of a service listens (RFC 2782)."""

    kind: ClassVar[int] = SRV
    priority: int
    weight: int
    port: int
    target: Name


@dataclass(frozen=True, slots=True)
class OpaqueData:
    """A record of any other kind, as it came."""

    kind: int
    data: bytes


Data = AddressData | Address6Data | PointerData | TextData | SrvData | OpaqueData


@dataclass(frozen=True, slots=True)
class DnsQuestion:
    """A question.  unicast: the QU bit, the answer need not be multicast (RFC 6762 5.4)."""

    name: Name
    kind: int
    unicast: bool = False
    family: int = IN


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A resource record.  ttl: seconds; 0 for a goodbye.

    flush: the record is the only one of its name and kind, and replaces older ones (RFC 6762 10.2).
    """

    name: Name
    data: Data
    ttl: int
    flush: bool = False
    family: int = IN


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """A message.  In a query the answers are those already known (RFC 6762 7.1)."""

    questions: tuple[DnsQuestion, ...] = ()
    answers: tuple[DnsRecord, ...] = ()
    authorities: tuple[DnsRecord, ...] = ()
    additionals: tuple[DnsRecord, ...] = ()
    flags: int = 0
    id: int = 0


def name(text: str) -> Name:
    """Split a name that has no dots inside its labels."""
    return tuple(label.encode() for label in text.split(".") if label)


def fold(one: Name) -> Name:
    """Return the normal form of a name, without ASCII case (RFC 6762 16)."""
    return tuple(label.lower() for label in one)


MAX_MESSAGE = 9000  # bytes (RFC 6762 17)
MAX_NAME = 255  # bytes, the length bytes and the root's among them (RFC 1035 2.3.4)
MAX_LABEL = 63
MAX_JUMPS = 32

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_SERVICE = struct.Struct("!HHH")
_HIGH = 0x8000  # of a class: cache flush in a record, unicast wanted in a question
_POINTER = 0xC000
_POINTABLE = 0x4000  # what 14 bits can point to


class MalformedDns(ValueError):
    """Bytes that are no DNS message, or a value that cannot be encoded as one."""


def is_response(packet: bytes) -> bool:
    """Whether a datagram is an answer, without reading more than its flags."""
    return packet[2:3] >= b"\x80"


def decode(packet: bytes) -> DnsMessage:
    """Read one datagram of at most 9,000 bytes.  Raises MalformedDns."""
    if len(packet) > MAX_MESSAGE:
        raise MalformedDns("the message is too long")
    reader = _Reader(packet)
    number, flags, *counts = reader.unpack(_HEADER)
    questions = tuple(_question(reader) for _ in range(counts[0]))
    answers, authorities, additionals = (
        tuple(_record(reader) for _ in range(count)) for count in counts[1:]
    )
    return DnsMessage(questions, answers, authorities, additionals, flags, number)


def encode(message: DnsMessage) -> bytes:
    """Encode a datagram, with compressed names.  Raises MalformedDns for what has no encoding."""
    writer = _Writer()
    sections = (message.answers, message.authorities, message.additionals)
    counts = [len(message.questions), *map(len, sections)]
    writer.pack(_HEADER, message.id, message.flags, *counts)
    for question in message.questions:
        writer.name(question.name)
        writer.pack(_QUESTION, question.kind, question.family | _HIGH * question.unicast)
    for record in (one for section in sections for one in section):
        writer.record(record)
    if len(writer.buffer) > MAX_MESSAGE:
        raise MalformedDns("the message is too long")
    return bytes(writer.buffer)


class _Reader:
    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.at = 0

    def peek(self, at: int, size: int) -> bytes:
        if at + size > len(self.packet):
            raise MalformedDns("the message ends too early")
        return self.packet[at : at + size]

    def take(self, size: int) -> bytes:
        self.at += size
        return self.peek(self.at - size, size)

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.take(form.size))

    def name(self) -> Name:
        """Read a name.  A pointer leads back only, and a name holds MAX_JUMPS of them at most."""
        labels: list[bytes] = []
        at, resume, jumps, size = self.at, 0, 0, 1
        while length := self.peek(at, 1)[0]:
            if length <= MAX_LABEL:
                labels.append(self.peek(at + 1, length))
                at, size = at + 1 + length, size + 1 + length
            else:
                resume, jumps = resume or at + 2, jumps + 1
                at = self._pointed(at)
            if size > MAX_NAME or jumps > MAX_JUMPS:
                raise MalformedDns("a name is too long")
        self.at = resume or at + 1
        return tuple(labels)

    def _pointed(self, at: int) -> int:
        pointer = int.from_bytes(self.peek(at, 2))
        if pointer < _POINTER or pointer - _POINTER >= at:
            raise MalformedDns("a pointer leads forward, or is none")
        return pointer - _POINTER


def _question(reader: _Reader) -> DnsQuestion:
    name = reader.name()
    kind, family = reader.unpack(_QUESTION)
    return DnsQuestion(name, kind, bool(family & _HIGH), family & ~_HIGH)


def _record(reader: _Reader) -> DnsRecord:
    name = reader.name()
    kind, family, ttl, length = reader.unpack(_RECORD)
    end = reader.at + length
    read = _READERS.get(kind)
    data = read(reader, length) if read else OpaqueData(kind, reader.take(length))
    if reader.at != end:
        raise MalformedDns("a record is not as long as it says")
    return DnsRecord(name, data, ttl, bool(family & _HIGH), family & ~_HIGH)


def _address(reader: _Reader, _: int) -> AddressData:
    return AddressData(socket.inet_ntoa(reader.take(4)))


def _address6(reader: _Reader, _: int) -> Address6Data:
    return Address6Data(socket.inet_ntop(socket.AF_INET6, reader.take(16)))


def _pointer(reader: _Reader, _: int) -> PointerData:
    return PointerData(reader.name())


def _text(reader: _Reader, length: int) -> TextData:
    strings, end = [], reader.at + length
    while reader.at < end:
        strings.append(reader.take(reader.take(1)[0]))
    return TextData(tuple(strings))


def _service(reader: _Reader, _: int) -> SrvData:
    priority, weight, port = reader.unpack(_SERVICE)
    return SrvData(priority, weight, port, reader.name())


_READERS: Mapping[int, Callable[[_Reader, int], Data]] = {
    AddressData.kind: _address,
    Address6Data.kind: _address6,
    PointerData.kind: _pointer,
    TextData.kind: _text,
    SrvData.kind: _service,
}


class _Writer:
    def __init__(self) -> None:
        self.buffer = bytearray()
        self._written: dict[Name, int] = {}

    def pack(self, form: struct.Struct, *values: int) -> None:
        try:
            self.buffer += form.pack(*values)
        except struct.error as error:
            raise MalformedDns("a number does not fit its field") from error

    def string(self, text: bytes, longest: int = 255) -> None:
        if len(text) > longest:
            raise MalformedDns("a string is too long")
        self.buffer += bytes([len(text)]) + text

    def name(self, name: Name) -> None:
        if sum(map(len, name)) + len(name) >= MAX_NAME or not all(name):
            raise MalformedDns("a name is too long, or has an empty label")
        for i, label in enumerate(name):
            if (before := self._written.get(name[i:])) is not None:
                self.buffer += (_POINTER | before).to_bytes(2)
                return
            if len(self.buffer) < _POINTABLE:
                self._written[name[i:]] = len(self.buffer)
            self.string(label, MAX_LABEL)
        self.buffer.append(0)

    def record(self, record: DnsRecord) -> None:
        self.name(record.name)
        family = record.family | _HIGH * record.flush
        self.pack(_RECORD, record.data.kind, family, record.ttl, 0)
        start = len(self.buffer)
        self._data(record.data)
        length = len(self.buffer) - start
        if length > MAX_MESSAGE:
            raise MalformedDns("the message is too long")
        self.buffer[start - 2 : start] = length.to_bytes(2)

    def _data(self, data: Data) -> None:
        match data:
            case AddressData(address):
                self.buffer += _packed(socket.AF_INET, address)
            case Address6Data(address):
                self.buffer += _packed(socket.AF_INET6, address)
            case PointerData(target):
                self.name(target)
            case TextData(strings):
                for text in strings:
                    self.string(text)
            case SrvData(priority, weight, port, target):
                self.pack(_SERVICE, priority, weight, port)
                self.name(target)
            case OpaqueData(_, raw):
                self.buffer += raw


def _packed(family: socket.AddressFamily, address: str) -> bytes:
    try:
        return socket.inet_pton(family, address)
    except OSError as error:
        raise MalformedDns("not an address of this kind") from error
