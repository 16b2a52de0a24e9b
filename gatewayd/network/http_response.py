"""HTTP/1.1: a whole response, put together from what came so far.  Pure.

Sources: RFC 9110 (HTTP semantics), and RFC 9112, 6 and 7 (the body, and transfer codings).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus

from gatewayd.network.http_head import HttpError, HttpHead, parse_head

_LENGTH = re.compile(rb"[0-9]{1,6}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,6})[ \t]*(?:;[^\r\n]*)?")
_LINE = b"\r\n"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response.

    status: of 200 to 599.  body: decoded, no longer than what came; it may hold a secret.
    """

    status: int
    body: bytes = field(repr=False)


def parse_response(came: bytes, *, ended: bool) -> HttpResponse | None:
    """Return the response that begins here; None while it is not complete.

    ended: whether nothing more comes.  Interim responses, 1xx, are skipped.  Raises HttpError.
    """
    body = came
    while (head := parse_head(body)) is not None:
        body = body[head.size :]
        if head.status >= HTTPStatus.OK:
            whole = _body(head, body, ended=ended)
            if whole is not None:
                return HttpResponse(head.status, whole)
            break
    if ended:
        raise HttpError("a response that was cut off")
    return None


def _body(head: HttpHead, came: bytes, *, ended: bool) -> bytes | None:
    """Return the body; None while it is not complete (RFC 9112, 6.3)."""
    length = head.only(b"content-length")
    if (coding := head.only(b"transfer-encoding")) is not None:
        if coding.lower() != b"chunked":
            raise HttpError("an unknown transfer coding")
        return _chunks(came)
    if length is not None:
        if not _LENGTH.fullmatch(length):
            raise HttpError("a malformed length")
        return came[: int(length)] if len(came) >= int(length) else None
    return came if ended else None


def _chunks(came: bytes) -> bytes | None:
    """Return the chunks put together; None while the last has not come.  Trailers are dropped."""
    body, at = bytearray(), 0
    while (end := came.find(_LINE, at)) >= 0:
        size = _CHUNK_SIZE.fullmatch(came, at, end)
        if size is None:
            raise HttpError("a malformed chunk")
        length, at = int(size[1], 16), end + len(_LINE)
        if not length:
            done = came.startswith(_LINE, at) or came.find(2 * _LINE, at) >= 0
            return bytes(body) if done else None
        if len(came) < at + length + len(_LINE):
            return None
        body += came[at : at + length]
        at += length
        if not came.startswith(_LINE, at):
            raise HttpError("a malformed chunk")
        at += len(_LINE)
    return None
