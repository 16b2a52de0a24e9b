"""HTTP/1.1: the head of a response, bounded, and how a request names its host.  Pure.

Sources: RFC 9112, 2.1 to 5 (messages), and RFC 9110, 5 (fields).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

MAX_HEAD = 8 * 1024
"""Bytes of a head with its empty line; a real one has some hundred."""

_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)")
"""One way to match each byte: with the white space around a value in it, a line of nothing else
would be tried in as many ways as the cube of its length."""


class HttpError(Exception):
    """What came is no response of HTTP/1.1, or one that is not accepted."""


@dataclass(frozen=True, slots=True)
class HttpHead:
    """The head of a response.

    fields: names in lower case, and values, as they came.  size: bytes, with the empty line.
    """

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    size: int

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field in their order.  name: in lower case."""
        return [value for known, value in self.fields if known == name]

    def only(self, name: bytes) -> bytes | None:
        """Return the value of a field that may be there once; None without it.  Raises HttpError.

        name: in lower case.
        """
        values = self.values(name)
        if len(values) > 1:
            raise HttpError(f"two fields {name.decode()}")
        return values[0] if values else None


def parse_head(came: bytes | bytearray, limit: int = MAX_HEAD) -> HttpHead | None:
    """Return the head that begins here; None while it is not complete.

    limit: bytes that it may have.  Raises HttpError, where no further byte could make it good.
    """
    end = came.find(_END, 0, limit)
    if end < 0:
        if len(came) >= limit:
            raise HttpError("a head that is too large")
        _check_begin(came)
        return None
    first, *lines = bytes(came[:end]).split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise HttpError("no status line")
    return HttpHead(int(status[1]), tuple(map(_field, lines)), end + len(_END))


def _check_begin(came: bytes | bytearray) -> None:
    """Raise HttpError where another protocol speaks, which may never send an empty line."""
    expected = b"HTTP/1."
    begin = bytes(came[: len(expected)])
    if not expected.startswith(begin):
        raise HttpError("no status line")


def _field(line: bytes) -> tuple[bytes, bytes]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise HttpError("a malformed header")
    return found[1].lower(), found[2].strip(b" \t")


def authority(host: str, port: int, default: int | None = None) -> str:
    """Return host and port as a request names them (RFC 3986, 3.2), in ASCII.

    host: name, which is written as it is looked up, or IP address.  default: the port that is left
    out; None for none.  Raises UnicodeError for what is neither.
    """
    try:
        written = f"[{IPv6Address(host)}]"
    except ValueError:
        written = host.encode("idna").decode("ascii")
    if not written.isprintable() or " " in written:
        raise UnicodeError("white space or a control character in the name of a host")
    return written if port == default else f"{written}:{port}"
