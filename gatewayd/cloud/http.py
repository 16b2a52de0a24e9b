"""Requests over HTTP/1.1 and TLS, on asyncio: no redirects, and bounds on everything.

Sources: RFC 9110 (HTTP semantics) and RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from urllib.parse import urlencode

from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.http_head import HttpError, authority
from gatewayd.network.http_response import HttpResponse, parse_response
from gatewayd.network.tls import Server, dial, peer_of, try_last, when_ready

MAX_RESPONSE = 16 * 1024
"""Bytes of a response with its header; a real one has some hundred."""

_CHUNK = 4096
HTTPS_PORT = 443


def post_form(
    server: Server, path: str, form: Mapping[str, str], may_send: Callable[[], bool] | None = None
) -> AbstractAsyncContextManager[HttpResponse]:
    """Send a form, and yield the response: see `exchanged`.  path: as "/a/b"."""
    return exchanged(server, form_request(server, path, form), may_send=may_send)


@contextlib.asynccontextmanager
async def exchanged(
    server: Server,
    request: bytes,
    limit: int = MAX_RESPONSE,
    *,
    may_send: Callable[[], bool] | None = None,
) -> AsyncIterator[HttpResponse]:
    """Send a request, and yield the response; the connection is closed when the caller is done.

    request: whole, as `whole_request` makes it.  limit: bytes of the response with its header.
    may_send: whether it may still leave, once there is a connection; None where it always may.
    Cancelled: closes at once.
    Raises ConnectError; one of connect_errors.SILENT if the request may have arrived.
    """
    sock = await dial(server)
    address = peer_of(sock)
    try:
        if may_send is not None and not may_send():
            raise ConnectError(ConnectFault.MQTT_CLOSED)
        try:
            response = await _exchange(sock, request, server.reply_timeout, limit)
        except ConnectError as error:
            if error.fault is not ConnectFault.MQTT_PROTOCOL:
                try_last(server, address)
            raise
        yield response
    finally:
        sock.close()


class KeptConnection:
    """A connection for one request after another, which is made again where it is needed.

    server: returns where to connect to; awaited before each connection.
    """

    def __init__(self, server: Callable[[], Awaitable[Server]]) -> None:
        self._server = server
        self._sock: ssl.SSLSocket | None = None
        self._seconds = 0.0

    async def exchange(self, request: bytes, limit: int = MAX_RESPONSE) -> HttpResponse:
        """Return the response to a request, as `whole_request` makes it with `keep`.

        Never called while another request is under way.  limit: as for `exchanged`.
        Raises ConnectError; one of connect_errors.SILENT if the request may have arrived.
        """
        if self._sock is not None and not _is_idle(self._sock):
            self.close()
        if self._sock is None:
            server = await self._server()
            self._sock, self._seconds = await dial(server), server.reply_timeout
        try:
            return await _exchange(self._sock, request, self._seconds, limit)
        except BaseException:
            self.close()  # a response that is late must not be that of the next request
            raise

    def close(self) -> None:
        """Close the connection, if there is one.  The next request makes another."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _is_idle(sock: ssl.SSLSocket) -> bool:
    """Whether the server has neither closed a connection nor sent what was not requested."""
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    return False


async def _exchange(
    sock: ssl.SSLSocket, request: bytes, seconds: float, limit: int
) -> HttpResponse:
    try:
        async with asyncio.timeout(seconds):
            await _send(sock, request)
            return await _receive(sock, limit)
    except TimeoutError:
        raise ConnectError(ConnectFault.MQTT_TIMEOUT) from None
    except OSError as error:
        raise ConnectError(ConnectFault.MQTT_CLOSED) from error
    except HttpError as error:
        raise ConnectError(ConnectFault.MQTT_PROTOCOL) from error


async def _send(sock: ssl.SSLSocket, data: bytes) -> None:
    while data:
        data = data[await when_ready(sock, partial(sock.send, data)) :]


async def _receive(sock: ssl.SSLSocket, limit: int) -> HttpResponse:
    came = bytearray()
    while True:
        data = await when_ready(sock, partial(sock.recv, _CHUNK))
        came += data
        if not came:
            raise ConnectionResetError  # it was closed without a response
        if len(came) > limit:
            raise HttpError("a response that is too large")
        if response := parse_response(bytes(came), ended=not data):
            return response


def form_request(server: Server, path: str, form: Mapping[str, str]) -> bytes:
    """Return a POST of a form (application/x-www-form-urlencoded).  Pure."""
    body = urlencode(form).encode("ascii")
    fields = {
        "Host": authority(server.host, server.port, HTTPS_PORT),
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }
    return whole_request("POST", path, fields, body)


def whole_request(
    method: str, target: str, fields: Mapping[str, str], body: bytes, *, keep: bool = False
) -> bytes:
    """Return a request.  Pure.

    target: path and query, encoded.  fields: of its head, with Host; all in ASCII, on one line.
    keep: whether the connection stays open after the response.
    """
    about = {"Content-Length": str(len(body))} | ({} if keep else {"Connection": "close"})
    lines = [f"{name}: {value}" for name, value in {**fields, **about}.items()]
    return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode("ascii") + body
