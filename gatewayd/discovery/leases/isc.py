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

Times are of UTC, or `epoch` and seconds since 1970, or `never`.  A text has octal escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from gatewayd.discovery.leases.lease import (
    MAX_FIELD,
    NEVER,
    Lease,
    Row,
    ethernet,
    hex_digits,
    ipv4,
    moment,
)

MAX_STATEMENTS = 64
"""Statements of one block that count: the server writes about twenty."""
MAX_WORDS = 8
"""Words of one statement that count."""

_TOKEN = re.compile(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"|[{};]|[^\s{};"#]+')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_DATE = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OPEN, _CLOSE, _END = "{", "}", ";"


def parse_isc(content: bytes) -> Iterator[Row]:
    """Yield the rows of a file of ISC dhcpd.  A block that is not closed is left out."""
    words: list[str] = []
    blocks: list[str] = []
    statements: list[Sequence[str]] = []
    for found in _TOKEN.finditer(content.decode("latin-1")):
        token = found[0]
        if token == _OPEN:
            blocks.append(words[1] if len(words) > 1 and words[0] == "lease" else "")
            if len(blocks) == 1:
                statements = []
            words = []
        elif token == _CLOSE:
            address = blocks.pop() if blocks else ""
            if address and not blocks:
                yield _lease(address, statements)
            words = []
        elif token == _END:
            if len(blocks) == 1 and len(statements) < MAX_STATEMENTS:
                statements.append(words)
            words = []
        elif not token.startswith("#") and len(words) < MAX_WORDS:
            words.append(token)


def _lease(address: str, statements: Sequence[Sequence[str]]) -> Row:
    """Return the lease of a block; None where it is of no device."""
    said = {" ".join(one[:2]): one[2:] for one in statements}
    said |= {one[0]: one[1:] for one in statements if one}
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
