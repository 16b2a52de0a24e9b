"""The Basic Encoding Rules, as far as SNMP needs them: ITU-T X.690, 8, and RFC 3417, 8.  Pure.

What is read is bounded: lengths of 1 to 3 bytes in definite form, integers of 9 bytes, and names of
128 numbers, each of 5 bytes at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from gatewayd.discovery.probing.protocol import UnreadableAnswer

INTEGER, OCTETS, NULL, OBJECT, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30

MAX_NUMBERS = 128
"""Numbers in the name of an object (RFC 2578, 3.5)."""
MAX_NUMBER = (1 << 32) - 1
"""The largest of them (RFC 2578, 7.1.3)."""
MAX_ELEMENTS = 64
"""Elements of one sequence."""

_LONG, _MORE = 0x80, 0x80
_MOST_LENGTH_BYTES = 2
_MOST_NUMBER_BYTES = 5
_MOST_INTEGER_BYTES = 9
_BITS = 7
_ROOT = 40  # the first number holds two: 40 times the first, and the second (8.19.4)
_LAST_ROOT = 2

ObjectName: TypeAlias = tuple[int, ...]
"""The name of an object, an OBJECT IDENTIFIER: (1, 3, 6, 1, …)."""


class Element(NamedTuple):
    """One element.  tag: its first byte.  content: what is in it."""

    tag: int
    content: bytes


def element(tag: int, content: bytes) -> bytes:
    """Return an element, its length in as few bytes as possible.  content: below 64 KiB."""
    size = len(content)
    if size < _LONG:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _LONG | len(length))) + length + content


def integer(number: int) -> bytes:
    """Return an INTEGER, in as few bytes as possible (8.3)."""
    size = (number.bit_length() if number >= 0 else (number + 1).bit_length()) // 8 + 1
    return element(INTEGER, number.to_bytes(size, signed=True))


def object_name(name: Sequence[int]) -> bytes:
    """Return an OBJECT IDENTIFIER.  name: of two numbers or more."""
    content = bytearray()
    for number in (_ROOT * name[0] + name[1], *name[2:]):
        groups = [number & 0x7F]
        while number := number >> _BITS:
            groups.append(_MORE | number & 0x7F)
        content += bytes(reversed(groups))
    return element(OBJECT, bytes(content))


def read_elements(raw: bytes) -> list[Element]:
    """Read elements, one after another, until the end.  Raises UnreadableAnswer."""
    found: list[Element] = []
    at = 0
    while at < len(raw):
        if len(found) == MAX_ELEMENTS:
            raise UnreadableAnswer("endless")
        one, at = _read_element(raw, at)
        found.append(one)
    return found


def read_sequence(raw: bytes, *tags: int) -> list[bytes]:
    """Read elements of exactly these tags; return what is in each.  Raises UnreadableAnswer."""
    found = read_elements(raw)
    if tuple(one.tag for one in found) != tags:
        raise UnreadableAnswer("garbled")
    return [one.content for one in found]


def read_integer(content: bytes) -> int:
    """Read what is in an INTEGER.  Raises UnreadableAnswer."""
    if not 0 < len(content) <= _MOST_INTEGER_BYTES:
        raise UnreadableAnswer("garbled")
    return int.from_bytes(content, signed=True)


def read_object_name(content: bytes) -> ObjectName:
    """Read what is in an OBJECT IDENTIFIER.  Raises UnreadableAnswer.

    A number of more bytes than 32 bits need is refused: some parsers have failed at those.
    """
    numbers: list[int] = []
    number = size = 0
    for byte in content:
        number, size = number << _BITS | byte & 0x7F, size + 1
        if size > _MOST_NUMBER_BYTES or number > MAX_NUMBER + 2 * _ROOT:
            raise UnreadableAnswer("garbled")
        if not byte & _MORE:
            numbers.append(number)
            number = size = 0
            if len(numbers) == MAX_NUMBERS:
                raise UnreadableAnswer("garbled")
    if size or not numbers:
        raise UnreadableAnswer("garbled")
    root = min(numbers[0] // _ROOT, _LAST_ROOT)
    name = (root, numbers[0] - _ROOT * root, *numbers[1:])
    if max(name) > MAX_NUMBER:
        raise UnreadableAnswer("garbled")
    return name


def _read_element(raw: bytes, at: int) -> tuple[Element, int]:
    """Return an element, and where the next one begins."""
    if at + 2 > len(raw):
        raise UnreadableAnswer("garbled")
    tag, size = raw[at], raw[at + 1]
    at += 2
    if size & _LONG:
        count = size & ~_LONG
        if not 0 < count <= _MOST_LENGTH_BYTES or at + count > len(raw):
            raise UnreadableAnswer("garbled")
        size, at = int.from_bytes(raw[at : at + count]), at + count
    if at + size > len(raw):
        raise UnreadableAnswer("garbled")
    return Element(tag, raw[at : at + size]), at + size
