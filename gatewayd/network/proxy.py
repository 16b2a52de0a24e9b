"""A tunnel through an HTTP proxy: CONNECT, and what the proxy answers.

The proxy looks the cloud's name up and connects; TLS is made with the cloud, inside the tunnel.
Sources: RFC 9110, 9.3.6 (CONNECT) and 11.7 (authentication by a proxy); RFC 7617 (Basic).
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.http_head import HttpError, HttpHead, authority, parse_head

_CHUNK = 4096
_AUTHENTICATION = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.UNAUTHORIZED)
"""tinyproxy 1.11 answers 401 to a wrong password, and 407 to none."""
_CREDENTIALS = re.compile(rb"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]*")
_BASIC = re.compile(rb"(?:.*,)?[ \t]*basic(?:[ \t,].*)?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    host: name or IP address.  credentials: reads user and password, "user:password", and may raise
    ConfigError; None for a proxy that asks for none.  Called for each tunnel, so that a file that
    was replaced counts at once.
    """

    host: str
    port: int
    credentials: Callable[[], Awaitable[Secret]] | None = field(default=None, compare=False)


BY_PROXY: Mapping[ConnectFault, ConnectFault] = {
    ConnectFault.DNS: ConnectFault.PROXY_DNS,
    ConnectFault.TCP_REFUSED: ConnectFault.PROXY_REFUSED,
    ConnectFault.TCP_UNREACHABLE: ConnectFault.PROXY_UNREACHABLE,
}
"""Faults on the way to a server, to those where that server is the proxy."""


async def open_tunnel(
    sock: socket.socket, proxy: Proxy, host: str, port: int, seconds: float
) -> None:
    """Have the proxy at the other end of a non-blocking socket connect it to a host.

    seconds: for the whole exchange.  The caller closes the socket.  Raises ConnectError.
    """
    try:
        secret = None if proxy.credentials is None else await proxy.credentials()
        request = connect_request(host, port, secret)
    except ConfigError as error:
        raise ConnectError(ConnectFault.PROXY_CREDENTIALS) from error
    except UnicodeError as error:
        raise ConnectError(ConnectFault.DNS) from error
    try:
        async with asyncio.timeout(seconds):
            head = await _exchange(sock, request)
    except TimeoutError:
        raise ConnectError(ConnectFault.PROXY_TIMEOUT) from None
    except OSError as error:
        raise ConnectError(ConnectFault.PROXY_CLOSED) from error
    except HttpError as error:
        raise ConnectError(ConnectFault.PROXY_PROTOCOL) from error
    if (fault := refusal(head, asked=secret is not None)) is not None:
        raise ConnectError(fault)


async def _exchange(sock: socket.socket, request: bytes) -> HttpHead:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request)
    came = bytearray()
    while (head := parse_answer(came)) is None:
        data = await loop.sock_recv(sock, _CHUNK)
        if not data:
            raise ConnectionResetError
        came += data
    return head


def connect_request(host: str, port: int, credentials: Secret | None = None) -> bytes:
    """Return a CONNECT to a host, name or IP address.  Pure; raises UnicodeError for no name.

    credentials: "user:password" in UTF-8, sent at once: there is one request on a connection.
    Raises ConfigError where they have another form.
    """
    there = authority(host, port)
    lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}"]
    if credentials is not None:
        if not are_credentials(credentials):
            raise ConfigError("The secret for the proxy must be user:password, in one line.")
        lines.append(f"Proxy-Authorization: Basic {b64encode(credentials.reveal()).decode()}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def are_credentials(secret: Secret) -> bool:
    """Whether a secret has the form user:password, without control characters (RFC 7617, 2)."""
    return _CREDENTIALS.fullmatch(secret.reveal()) is not None


def parse_answer(came: bytes | bytearray) -> HttpHead | None:
    """Return the answer to a CONNECT; None while it is not complete.  Pure.

    A 1xx is skipped.  The client speaks first in TLS: what comes with a 2xx would be no word of
    the cloud's, and is refused.  The content of a refusal is not read.  Raises HttpError.
    """
    at = 0
    while (head := parse_head(came[at:])) is not None:
        at += head.size
        if head.status >= HTTPStatus.OK:
            if at < len(came) and head.status < HTTPStatus.MULTIPLE_CHOICES:
                raise HttpError("more than the answer to a CONNECT")
            return head
        if at >= _CHUNK:
            raise HttpError("interim answers without an end")
    return None


def refusal(head: HttpHead, *, asked: bool) -> ConnectFault | None:
    """Return what an answer means; None for a tunnel.  Pure.

    asked: whether credentials were sent.
    """
    status = head.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if status in _AUTHENTICATION:
        offered = head.values(b"proxy-authenticate")
        if offered and not any(map(_BASIC.fullmatch, offered)):
            return ConnectFault.PROXY_METHOD
        return ConnectFault.PROXY_DENIED if asked else ConnectFault.PROXY_AUTHENTICATION
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.NOT_FOUND:
        return ConnectFault.PROXY_NO_WAY
    return ConnectFault.PROXY_FORBIDDEN
