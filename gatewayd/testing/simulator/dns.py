"""The DNS messages of multicast DNS, as values: RFC 1035, 2782, 6762, 6763."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

Name = tuple[bytes, ...]
"""Labels, without the empty one at the end; () is the root.  Equal when `fold` says so."""

A, PTR, TXT, SRV, ANY = 1, 12, 16, 33, 255
IN = 1

RESPONSE = 0x8400  # QR and AA: a multicast answer is always authoritative (RFC 6762 18.4)
TRUNCATED = 0x0200  # more known answers follow (RFC 6762 7.2)


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address, as "127.1.0.7"."""

    kind: ClassVar[int] = A
    address: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """The name of something else: here, of an instance of a service."""

    kind: ClassVar[int] = PTR
    target: Name


@dataclass(frozen=True, slots=True)
class Text:
    """Strings of at most 255 bytes each, as b"model=TH-20"."""

    kind: ClassVar[int] = TXT
    strings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """Where an instance of a service listens (RFC 2782)."""

    kind: ClassVar[int] = SRV
    priority: int
    weight: int
    port: int
    target: Name


@dataclass(frozen=True, slots=True)
class Opaque:
    """A record of any other kind, as it came."""

    kind: int
    data: bytes


Data = Address | Pointer | Text | Service | Opaque


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.  unicast: the QU bit, the answer need not be multicast (RFC 6762 5.4)."""

    name: Name
    kind: int
    unicast: bool = False
    family: int = IN


@dataclass(frozen=True, slots=True)
class Record:
    """What is said.  ttl: seconds, 0 says goodbye.  flush: the record is the only one of its name
    and kind, older ones are void (RFC 6762 10.2)."""

    name: Name
    data: Data
    ttl: int
    flush: bool = False
    family: int = IN


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram.  In a query the answers are those already known (RFC 6762 7.1)."""

    questions: tuple[Question, ...] = ()
    answers: tuple[Record, ...] = ()
    authorities: tuple[Record, ...] = ()
    additionals: tuple[Record, ...] = ()
    flags: int = 0
    id: int = 0


def name(text: str) -> Name:
    """Split a name that has no dots inside its labels."""
    return tuple(label.encode() for label in text.split(".") if label)


def fold(one: Name) -> Name:
    """Return what equal names have in common: ASCII case does not count (RFC 6762 16)."""
    return tuple(label.lower() for label in one)
