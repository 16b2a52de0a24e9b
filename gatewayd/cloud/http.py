"""One request over HTTP/1.1 and TLS, on asyncio: no redirects, no reuse, and bounds on everything.

Sources: RFC 9110 (HTTP semantics) and RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import partial
from urllib.parse import urlencode

from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.http_head import HttpError, authority
from gatewayd.network.http_response import HttpResponse, parse_response
from gatewayd.network.tls import Server, dial, peer_of, try_last, when_ready

MAX_RESPONSE = 16 * 1024
"""Bytes of a response with its header; a real one has some hundred."""

_CHUNK = 4096
_HTTPS_PORT = 443


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
