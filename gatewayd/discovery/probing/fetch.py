"""The fetching of a document by HTTP from the device that has announced it, and from no other.

A URL that comes by multicast may name any host: this gateway, a neighbour, one behind a router.  So
it is fetched only if its host is, as a literal, the address that its datagram came from; over the
interface on which that came; not beyond the link; and from no port of a service that is none of
the Web.  What comes is bounded in size and time, and no redirect is followed.

Sources: RFC 9110 and RFC 9112; RFC 3986, 3.2.2 (literals); ip(7), ipv6(7) and socket(7).
"""

from __future__ import annotations

import asyncio
import re
import socket
from http import HTTPStatus
from ipaddress import ip_address
from typing import Protocol

from gatewayd.network.http_head import HttpError, HttpHead, authority, parse_head
from gatewayd.network.http_response import parse_response

MAX_BODY = 64 * 1024
"""Bytes of a document, with the head of its response."""
SECONDS = 3.0
"""Seconds for a whole document, from the connection on."""
AT_ONCE = 4
"""Documents that are fetched at the same time, by all fetchers of a source."""
HTTP_PORT = 80
UNPRIVILEGED = 1024
"""The first port that is no well-known one (RFC 6335, 6)."""

_URL = re.compile(
    r"http://(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?(/[!-\"$-~]*)?(?:#.*)?",
    re.IGNORECASE,
)
_CHUNK = 16 * 1024
_LAST_CHUNK = b"0\r\n\r\n"
_LENGTH = re.compile(rb"[0-9]{1,6}")
_HOPS = 1
_MAX_PORT = 65_535
_V6 = 6


class FetchRefused(OSError):
    """A document is not fetched, or not believed.  cause: kebab-case, for a counter."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Fetch(Protocol):
    """Fetches a document, as `GuardedFetcher.fetch`."""

    async def __call__(
        self, address: str, port: int, path: str, interface: str, question: bytes = b""
    ) -> bytes: ...


class GuardedFetcher:
    """The fetcher: a few documents at once, each from the device that announced it.

    at_once: how many.  seconds: that each may take.
    """

    def __init__(self, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._slots = asyncio.Semaphore(at_once)

    async def fetch(
        self, address: str, port: int, path: str, interface: str, question: bytes = b""
    ) -> bytes:
        """Return a document.  Raises FetchRefused, and OSError if it cannot be reached.

        address: of the device, a link-local one of IPv6 with its interface.
        port, path: from `own_target`.  interface: on which the device was found.
        question: a message of SOAP that asks for the document; b"" for a GET.
        Waits while others are fetched.
        """
        async with self._slots:
            sock = _socket(address, interface)
            try:
                async with asyncio.timeout(self._seconds):
                    await _connect(sock, address, port)
                    request = _request(authority(_bare(address), port, HTTP_PORT), path, question)
                    await asyncio.get_running_loop().sock_sendall(sock, request)
                    return await _receive(sock)
            except HttpError as error:
                raise FetchRefused("bad-response") from error
            finally:
                sock.close()


def own_target(url: str, sender: str) -> tuple[int, str]:
    """Return port and path of a URL that leads to its sender.  Raises FetchRefused.  Pure.

    sender: the IP address that the URL came from.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise FetchRefused("foreign-url")
    if not _is_at(parts[1] or parts[2], sender):
        raise FetchRefused("foreign-address")
    port = int(parts[3] or HTTP_PORT)
    if port != HTTP_PORT and not UNPRIVILEGED <= port <= _MAX_PORT:
        raise FetchRefused("foreign-port")
    return port, parts[4] or "/"


def _is_at(host: str, sender: str) -> bool:
    try:
        return ip_address(host) == ip_address(_bare(sender))
    except ValueError:
        return False


def _socket(address: str, interface: str) -> socket.socket:
    """Return a socket whose packets leave by one interface, and are not routed beyond its link."""
    is_v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOPS)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOPS)
    except OSError:
        sock.close()
        raise
    return sock


async def accepts(address: str, port: int, interface: str, seconds: float) -> bool:
    """Whether a device accepts a connection in some seconds; it is closed at once."""
    try:
        sock = _socket(address, interface)
    except OSError:
        return False
    try:
        async with asyncio.timeout(seconds):
            await _connect(sock, address, port)
    except OSError:  # a time-out is one, too
        return False
    finally:
        sock.close()
    return True


def _bare(address: str) -> str:
    return address.partition("%")[0]


async def _connect(sock: socket.socket, address: str, port: int) -> None:
    bare, _, zone = address.partition("%")
    to = (bare, port, 0, socket.if_nametoindex(zone)) if zone else (bare, port)
    await asyncio.get_running_loop().sock_connect(sock, to)


def _request(host: str, path: str, question: bytes) -> bytes:
    lines = [
        f"{'POST' if question else 'GET'} {path} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        "Connection: close",
    ]
    if question:
        lines += ["Content-Type: application/soap+xml", f"Content-Length: {len(question)}"]
    return "\r\n".join((*lines, "", "")).encode("ascii") + question


async def _receive(sock: socket.socket) -> bytes:
    """Return the body of the response.  It is put together once, however small its pieces are."""
    came, head, data = bytearray(), None, b"-"
    while data:
        data = await asyncio.get_running_loop().sock_recv(sock, _CHUNK)
        came += data
        if len(came) > MAX_BODY:
            raise FetchRefused("oversized")
        if head is None and (head := parse_head(came)) is not None:
            _check(head)
        if head is not None and (not data or _may_be_whole(head, came)):
            response = parse_response(bytes(came), ended=not data)
            if response is not None:
                return response.body
    raise FetchRefused("cut-off")


def _check(head: HttpHead) -> None:
    """Refuse what would lead elsewhere, or would have to be unpacked.  Raises FetchRefused."""
    if head.status != HTTPStatus.OK:
        redirects = HTTPStatus.MULTIPLE_CHOICES <= head.status < HTTPStatus.BAD_REQUEST
        raise FetchRefused("redirect" if redirects else "no-document")
    if any(one.lower() != b"identity" for one in head.values(b"content-encoding")):
        raise FetchRefused("encoded")


def _may_be_whole(head: HttpHead, came: bytearray) -> bool:
    """Whether it is worth while to put the response together."""
    if head.values(b"transfer-encoding"):
        return came.endswith(_LAST_CHUNK)
    length = head.only(b"content-length")
    if length is None:
        return False
    return not _LENGTH.fullmatch(length) or len(came) >= head.size + int(length)
