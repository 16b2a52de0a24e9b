"""Messages of CoAP and links of CoRE, as far as they show what is there: RFC 7252, 7959 and 6690.

Only GET is made here, always as a message that has no acknowledgement (NON): a separate answer to
one that has would have to be answered in turn, and nothing here answers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from urllib.parse import unquote_to_bytes
from zlib import crc32

from gatewayd.discovery.probing.protocol import UnreadableAnswer

LINK_FORMAT = 40
TEXT = 0
"""Content-Formats (RFC 7252, 12.3)."""
CONTENT = 0x45
"""The response 2.05, which holds what was asked for."""
MAX_LINKS = 512
MAX_SEGMENTS = 8
"""Segments in the path of a resource that is asked for."""

_HEADER = struct.Struct("!BBH")  # version, type and length of the token; code; message id
_VERSION, _NON, _RESET, _GET, _MAX_TOKEN = 1, 1, 3, 1, 8
_ETAG, _URI_PATH, _CONTENT_FORMAT, _URI_QUERY, _BLOCK2 = 4, 11, 12, 15, 23
_HARMLESS = frozenset({_BLOCK2})
"""The critical options that are understood in an answer (RFC 7252, 5.4.1)."""
_MAX_OPTIONS = 64
_PAYLOAD_MARKER = 0xFF
_ONE_MORE, _TWO_MORE, _RESERVED = 13, 14, 15  # nibbles of options (RFC 7252, 3.1)
_LONGER = {_ONE_MORE: (1, 13), _TWO_MORE: (2, 269)}  # bytes that follow, and what is added to them
_MAX_VALUE = 255  # bytes of a segment or of a query (RFC 7252, 5.10)
_BLOCK_OPTION, _SMALLEST_BLOCK, _RESERVED_SIZE = 3, 4, 7  # bytes; 2^4 bytes; RFC 7959, 2.2

_TARGET = re.compile(r"\s*<([^<>]{0,512})>")
_PARAMETER = re.compile(
    r"""\s*;\s*([\w!#$&+.^`|~-]{1,64})\*?(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;\\\s]*)))?""",
    re.ASCII | re.DOTALL,
)
_NEXT = re.compile(r"\s*,")
_QUOTED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """The part of an answer that one message holds.  size: bytes of each but the last."""

    number: int
    has_more: bool
    size: int

    @property
    def start(self) -> int:
        """Where in the whole it begins, in bytes."""
        return self.number * self.size


@dataclass(frozen=True, slots=True)
class CoapAnswer:
    """A response.

    code: as CONTENT.  content_format: None if it is not said.  version: the ETag of what it holds a
    part of, b"" for none.  block: None if it holds all.
    """

    code: int
    content_format: int | None
    version: bytes
    block: Block | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class CoapLink:
    """A link.

    target: where it leads.  about: what is said of that: the first value of each key, "" for none.
    """

    target: str
    about: Mapping[str, str]

    @property
    def types(self) -> Sequence[str]:
        """The resource types that it has."""
        return self.about.get("rt", "").split()


def get(
    path: str, token: bytes, *, queries: Iterable[str] = (), block: Block | None = None
) -> bytes:
    """Return the question for a resource.

    path: absolute and percent-encoded, as in a link.  queries: as "ep=node1".
    token: of at most 8 bytes.  block: which part is wanted; None for the first, as large as may be.
    Raises UnreadableAnswer for a path that no request can have.
    """
    options = [(_URI_PATH, one) for one in _segments(path)]
    options += [(_URI_QUERY, one.encode()) for one in queries]
    options += [(_BLOCK2, _block_value(block))] if block else []
    if any(len(value) > _MAX_VALUE for _, value in options):
        raise UnreadableAnswer("foreign-link")
    rest = token + b"".join(_encoded(options))
    message_id = crc32(rest) & 0xFFFF  # of equal ones, a device ignores the second
    return _HEADER.pack(_VERSION << 6 | _NON << 4 | len(token), _GET, message_id) + rest


def _segments(path: str) -> Sequence[bytes]:
    """Return the segments of a path; the last is empty after a final slash (RFC 7252, 6.4)."""
    segments = path.partition("?")[0].removeprefix("/").split("/")
    if not path.startswith("/") or len(segments) > MAX_SEGMENTS:
        raise UnreadableAnswer("foreign-link")
    return [unquote_to_bytes(one) for one in segments] if segments != [""] else []


def _block_value(block: Block) -> bytes:
    exponent = block.size.bit_length() - 1 - _SMALLEST_BLOCK
    value = block.number << 4 | exponent
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _encoded(options: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    before = 0
    for number, value in options:
        delta, more_delta = _nibble(number - before)
        length, more_length = _nibble(len(value))
        yield bytes((delta << 4 | length,)) + more_delta + more_length + value
        before = number


def _nibble(number: int) -> tuple[int, bytes]:
    """Return how a number below 269 is written: four bits, and what follows."""
    return (number, b"") if number < _ONE_MORE else (_ONE_MORE, bytes((number - _ONE_MORE,)))


def parse_response(message: bytes, asked: Collection[bytes]) -> CoapAnswer:
    """Return the response to one of these tokens.  Raises UnreadableAnswer."""
    try:
        return _response(message, asked)
    except (struct.error, IndexError):
        raise UnreadableAnswer("truncated") from None


def _response(message: bytes, asked: Collection[bytes]) -> CoapAnswer:
    first, code, _ = _HEADER.unpack_from(message)
    version, kind, length = first >> 6, first >> 4 & 3, first & 0xF
    if version != _VERSION or length > _MAX_TOKEN:
        raise UnreadableAnswer("no-coap")
    if kind == _RESET or code >> 5 not in (2, 4, 5):  # RFC 7252, 12.1.2
        raise UnreadableAnswer("no-coap")
    token = message[_HEADER.size : _HEADER.size + length]
    if token not in asked:
        raise UnreadableAnswer("unasked")
    options, payload = _options(message, _HEADER.size + length)
    if any(number & 1 and number not in _HARMLESS for number in options):
        raise UnreadableAnswer("critical-option")
    form = options.get(_CONTENT_FORMAT)
    block = options.get(_BLOCK2)
    return CoapAnswer(
        code=code,
        content_format=None if form is None else int.from_bytes(form, "big"),
        version=options.get(_ETAG, b""),
        block=None if block is None else _block(block),
        payload=payload,
    )


def _options(message: bytes, start: int) -> tuple[Mapping[int, bytes], bytes]:
    """Return the last value of each option, and the payload."""
    found: dict[int, bytes] = {}
    number = 0
    for _ in range(_MAX_OPTIONS):
        if start == len(message):
            return found, b""
        if message[start] == _PAYLOAD_MARKER:
            return found, message[start + 1 :]
        delta, length = message[start] >> 4, message[start] & 0xF
        start += 1
        delta, start = _extended(delta, message, start)
        length, start = _extended(length, message, start)
        number += delta
        found[number] = message[start : start + length]
        start += length
        if start > len(message):
            raise UnreadableAnswer("truncated")
    raise UnreadableAnswer("no-coap")


def _extended(nibble: int, message: bytes, start: int) -> tuple[int, int]:
    """Return the number that four bits begin, and where it ends."""
    if nibble == _RESERVED:
        raise UnreadableAnswer("no-coap")
    if nibble not in _LONGER:
        return nibble, start
    size, added = _LONGER[nibble]
    if start + size > len(message):
        raise UnreadableAnswer("truncated")
    return int.from_bytes(message[start : start + size], "big") + added, start + size


def _block(option: bytes) -> Block:
    value = int.from_bytes(option, "big")
    exponent = value & 7
    if len(option) > _BLOCK_OPTION or exponent == _RESERVED_SIZE:
        raise UnreadableAnswer("no-coap")
    return Block(value >> 4, bool(value & 8), 1 << exponent + _SMALLEST_BLOCK)


def parse_links(body: bytes, *, has_more: bool = False) -> Sequence[CoapLink]:
    """Return the links of a body up to the first fault, at most MAX_LINKS.

    has_more: whether the body goes on, so that its last link, which may be cut, does not count.
    Raises UnreadableAnswer for a whole body without a link before the fault.
    """
    whole = body.rpartition(b",")[0] if has_more else body
    text = whole.decode("utf-8", "replace")
    links = list(islice(_links(text), MAX_LINKS))
    if text.strip() and not links and not has_more:
        raise UnreadableAnswer("no-link-format")
    return links


def _links(text: str) -> Iterator[CoapLink]:
    start = 0
    while target := _TARGET.match(text, start):
        about: dict[str, str] = {}
        start = target.end()
        while parameter := _PARAMETER.match(text, start):
            start = parameter.end()
            key, quoted, bare = parameter.groups("")
            about.setdefault(key.lower(), _QUOTED.sub(r"\1", quoted) or bare)
        separator = _NEXT.match(text, start)
        if not separator and text[start:].strip():
            return
        yield CoapLink(target[1], about)
        start = separator.end() if separator else len(text)
