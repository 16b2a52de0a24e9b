"""The lease file of ISC dhcpd 4.4: dhcpd.leases(5).  Pure.

It is a journal: a block for each change, of which the last of an address counts.  What stands
between the blocks, as of fail-over and of the server itself, is left out.

    lease 10.0.10.72 {
      ends 1 2015/07/06 08:20:42;
      binding state active;
      hardware ethernet 64:5a:04:6a:07:a2;
      uid "\\001dZ\\004j\\007\\242";
      set vendor-class-identifier = "MSFT 5.0";
      client-hostname "Satellite-C700";
    }

A lease of IPv6 is in a block of its association, which is called by its number, four octets, and
the client's DUID:

    ia-na "\\001\\000\\000\\000\\000\\003\\000\\001dZ\\004j\\007\\242" {
      iaaddr 2001:db8::72 {
        binding state active;
        ends 1 2015/07/06 08:20:42;
      }
    }

Times are of UTC, or `epoch` and seconds since 1970, or `never`.  A text has octal escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gatewayd.discovery.leases.lease import (
    MAX_FIELD,
    NEVER,
    Lease,
    Row,
    ethernet,
    hex_digits,
    ipv4,
    ipv6,
    mac_of_duid,
    moment,
)

MAX_STATEMENTS = 64
"""Statements of one block that count: the server writes about twenty."""
MAX_WORDS = 8
"""Words of one statement that count."""
MAX_DEPTH = 2
"""Blocks in one another of which statements count."""

_ASSOCIATION = 4  # octets of the number of an association (IAID; RFC 8415, 21.4)

_TOKEN = re.compile(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"|[{};]|[^\s{};"#]+')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_DATE = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OPEN, _CLOSE, _END = "{", "}", ";"


def parse_isc(content: bytes) -> Iterator[Row]:
    """Yield the rows of a file of ISC dhcpd.  A block that is not closed is left out."""
    words: list[str] = []
    blocks: list[_Block] = []
    deeper = 0
    for found in _TOKEN.finditer(content.decode("latin-1")):
        token = found[0]
        if token == _OPEN:
            if len(blocks) < MAX_DEPTH:
                blocks.append(_Block(words))
            else:
                deeper += 1
            words = []
        elif token == _CLOSE:
            if deeper:
                deeper -= 1
            elif blocks:
                yield from _row(blocks.pop(), blocks)
            words = []
        elif token == _END:
            if blocks and not deeper and len(blocks[-1].statements) < MAX_STATEMENTS:
                blocks[-1].statements.append(words)
            words = []
        elif not token.startswith("#") and len(words) < MAX_WORDS:
            words.append(token)


@dataclass(frozen=True, slots=True)
class _Block:
    """A block that is being read.  head: the words before it."""

    head: Sequence[str]
    statements: list[Sequence[str]] = field(default_factory=list)


def _row(block: _Block, outer: Sequence[_Block]) -> Iterator[Row]:
    """Yield the lease that a block is, if it is one.  outer: the blocks that it is in."""
    match block.head, [one.head for one in outer]:
        case ["lease", address, *_], []:
            yield _lease(address, block.statements)
        case ["iaaddr", address, *_], [["ia-na" | "ia-ta", association, *_]]:
            yield _lease6(address, association, block.statements)


def _said(statements: Sequence[Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Return what follows the first word, and the first two, of each statement."""
    said = {" ".join(one[:2]): one[2:] for one in statements}
    return said | {one[0]: one[1:] for one in statements if one}


def _lease6(address: str, association: str, statements: Sequence[Sequence[str]]) -> Row:
    """Return the lease of an address of IPv6; None where it is of no device."""
    said, where = _said(statements), ipv6(address)
    duid = _text([association])[_ASSOCIATION:].hex()[:MAX_FIELD]
    ends, mac = _moment(said.get("ends", ())), mac_of_duid(duid)
    is_active = said.get("binding state") == ["active"]
    if ends is None or not where or (is_active and not mac):
        return None
    return Lease(where, mac, ends, is_active=is_active, duid=duid)


def _lease(address: str, statements: Sequence[Sequence[str]]) -> Row:
    """Return the lease of a block; None where it is of no device."""
    said = _said(statements)
    where, mac = ipv4(address), ethernet(_first(said.get("hardware ethernet")))
    ends = _moment(said.get("ends", ()))
    is_active = said.get("binding state") == ["active"]
    if ends is None or not where or (is_active and not mac):
        return None
    return Lease(
        where,
        mac,
        ends,
        _text(said.get("client-hostname")).decode(errors="replace")[:MAX_FIELD],
        _client_id(said.get("uid")),
        _vendor_class(said.get("set vendor-class-identifier")),
        is_active,
    )


def _first(words: Sequence[str] | None) -> str:
    return words[0] if words else ""


def _moment(words: Sequence[str]) -> float | None:
    match list(words):
        case ["never"]:
            return NEVER
        case ["epoch", seconds, *_]:
            return moment(seconds)
        case [_, day, time] if found := _DATE.fullmatch(f"{day} {time}"):
            try:
                return datetime(*map(int, found.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]  # six numbers
            except ValueError:
                return None
    return None


def _text(words: Sequence[str] | None) -> bytes:
    """Return the octets of a quoted text; none for anything else."""
    quoted = _first(words)
    if not quoted.startswith('"'):
        return b""
    return _ESCAPE.sub(_unescaped, quoted[1:-1].encode("latin-1"))


def _unescaped(found: re.Match[bytes]) -> bytes:
    digits = found[1]
    return bytes([int(digits, 8) & 0xFF]) if digits.isdigit() and len(digits) > 1 else digits


def _client_id(words: Sequence[str] | None) -> str:
    quoted = _first(words).startswith('"')
    return _text(words).hex()[:MAX_FIELD] if quoted else hex_digits(_first(words))


def _vendor_class(words: Sequence[str] | None) -> str:
    return _text(words[1:]).decode(errors="replace")[:MAX_FIELD] if words else ""
