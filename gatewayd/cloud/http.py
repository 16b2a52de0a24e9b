"""One request over HTTP/1.1 and TLS, on asyncio: no redirects, no reuse, and bounds on everything.

Sources: RFC 9110 (HTTP semantics) and RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode

from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.http_head import HttpError, HttpHead, authority, parse_head
from gatewayd.network.tls import Server, dial, peer_of, try_last, when_ready

MAX_RESPONSE = 16 * 1024
"""Bytes of a response with its header; a real one has some hundred."""

_CHUNK = 4096
_LENGTH = re.compile(rb"[0-9]{1,6}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,6})[ \t]*(?:;[^\r\n]*)?")
_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response.

    status: of 200 to 599.  body: decoded, at most MAX_RESPONSE bytes; it may hold a secret.
    """

    status: int
    body: bytes = field(repr=False)


@contextlib.asynccontextmanager
async def post_form(
    server: Server, path: str, form: Mapping[str, str]
) -> AsyncIterator[HttpResponse]:
    """Send a form, and yield the response; the connection is closed when the caller is done.

    path: as "/a/b".  Cancelled: closes at once.
    Raises ConnectError; one of connect_errors.SILENT if the request may have arrived.
    """
    sock = await dial(server)
    address = peer_of(sock)
    try:
        try:
            request = form_request(server, path, form)
            response = await _exchange(sock, request, server.reply_timeout)
        except ConnectError as error:
            if error.fault is not ConnectFault.MQTT_PROTOCOL:
                try_last(server, address)
            raise
        yield response
    finally:
        sock.close()


async def _exchange(sock: ssl.SSLSocket, request: bytes, seconds: float) -> HttpResponse:
    try:
        async with asyncio.timeout(seconds):
            await _send(sock, request)
            return await _receive(sock)
    except TimeoutError:
        raise ConnectError(ConnectFault.MQTT_TIMEOUT) from None
    except OSError as error:
        raise ConnectError(ConnectFault.MQTT_CLOSED) from error
    except HttpError as error:
        raise ConnectError(ConnectFault.MQTT_PROTOCOL) from error


async def _send(sock: ssl.SSLSocket, data: bytes) -> None:
    while data:
        data = data[await when_ready(sock, partial(sock.send, data)) :]


async def _receive(sock: ssl.SSLSocket) -> HttpResponse:
    came = bytearray()
    while True:
        data = await when_ready(sock, partial(sock.recv, _CHUNK))
        came += data
        if not came:
            raise ConnectionResetError  # it was closed without a response
        if len(came) > MAX_RESPONSE:
            raise HttpError("a response that is too large")
        if response := parse_response(bytes(came), ended=not data):
            return response


def form_request(server: Server, path: str, form: Mapping[str, str]) -> bytes:
    """Return a POST of a form (application/x-www-form-urlencoded).  Pure."""
    body = urlencode(form).encode("ascii")
    head = (
        f"POST {path} HTTP/1.1",
        f"Host: {authority(server.host, server.port, _HTTPS_PORT)}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        "Accept: application/json",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode("ascii") + body


def parse_response(came: bytes, *, ended: bool) -> HttpResponse | None:
    """Return the response that begins here; None while it is not complete.  Pure.

    ended: whether nothing more comes.  Interim responses, 1xx, are skipped.  Raises HttpError.
    """
    body = came
    while (head := parse_head(body, MAX_RESPONSE)) is not None:
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
    body = bytearray()
    while True:
        line, found, came = came.partition(b"\r\n")
        if not found:
            return None
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise HttpError("a malformed chunk")
        length = int(size[1], 16)
        if not length:
            done = came.startswith(b"\r\n") or b"\r\n\r\n" in came
            return bytes(body) if done else None
        if len(came) < length + 2:
            return None
        if came[length : length + 2] != b"\r\n":
            raise HttpError("a malformed chunk")
        body += came[:length]
        came = came[length + 2 :]
