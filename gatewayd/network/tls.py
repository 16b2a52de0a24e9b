"""TCP and TLS on asyncio: a socket that is ready for use, or the step that failed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gatewayd.device.secret import Secret
from gatewayd.network.addresses import Address, AddressBook, ResumableSessions
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.proxy import BY_PROXY, Proxy, open_tunnel
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.runtime.watched_file import WatchedPaths, read_regular

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried, too, where there is no answer (RFC 8305, 5)."""

TLS_DELAY = 2.0
"""The same where TCP was answered, and the TLS handshake takes time: it costs both sides much."""

MAX_CA_FILE = 4 << 20
"""Bytes of a file of roots; those of a whole system have a quarter of a MiB."""

CHECK_EVERY = 10.0
"""Seconds after which roots in use are looked at again, when the next connection is made."""

T = TypeVar("T")
S = TypeVar("S", bound=socket.socket)
S_co = TypeVar("S_co", bound=socket.socket, covariant=True)


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a server, the roots to trust there, and how long to wait for it.

    host: the name that is asked for and verified (RFC 6066, 3).
    connect_timeout: seconds for each of name lookup, TCP, the proxy's answer and TLS.
    reply_timeout: seconds for an answer.
    address: name or IP address to connect to; "" for the host itself.
    proxy: by which to connect; it looks the name up.  None to connect directly.
    websocket: path at which MQTT is spoken over WebSocket; "" for MQTT without it.
    sessions: those to resume; None to resume none.
    book: the addresses of this cloud's hosts, and which of them were good.
    """

    host: str
    port: int
    context: ssl.SSLContext
    connect_timeout: float
    reply_timeout: float
    address: str = ""
    book: AddressBook = field(default_factory=AddressBook, compare=False, repr=False)
    proxy: Proxy | None = None
    websocket: str = ""
    sessions: ResumableSessions | None = field(default=None, compare=False, repr=False)

    @property
    def destination(self) -> str:
        """The name or address to connect to."""
        return self.address or self.host


_VERIFY: Mapping[int, ConnectFault] = {
    2: ConnectFault.TLS_UNKNOWN_CA,  # unable to get issuer certificate
    9: ConnectFault.TLS_NOT_YET_VALID,
    10: ConnectFault.TLS_EXPIRED,
    18: ConnectFault.TLS_UNKNOWN_CA,  # self-signed certificate
    19: ConnectFault.TLS_UNKNOWN_CA,  # self-signed certificate in the chain
    20: ConnectFault.TLS_UNKNOWN_CA,  # unable to get local issuer certificate
    21: ConnectFault.TLS_UNKNOWN_CA,  # unable to verify the first certificate
    62: ConnectFault.TLS_HOST_NAME,
    64: ConnectFault.TLS_HOST_NAME,  # the same for an IP address
}
"""X509_V_ERR_* of openssl/x509_vfy.h, also in openssl-verification-options(1)."""

_ALERTS: Mapping[str, str] = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad-certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "unsupported-certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "certificate-revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate-expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate-unknown",
    "TLSV1_ALERT_UNKNOWN_CA": "unknown-ca",
    "TLSV1_ALERT_ACCESS_DENIED": "access-denied",
    "TLSV1_ALERT_DECRYPT_ERROR": "decrypt-error",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "certificate-required",
}
"""Alerts about the client's certificate (RFC 8446, 6.2), by OpenSSL's words for them."""

_UNKNOWN_NAME = "TLSV1_UNRECOGNIZED_NAME"


def client_context(ca_file: Path | None, identity: Secret | None = None) -> ssl.SSLContext:
    """Make a context that verifies certificate and host name, TLS 1.2 or newer.  Blocks: files.

    ca_file: PEM with the trusted roots; None for those of the system.  Share one context among
    all connections that trust the same: making it costs more than a handshake.
    identity: PEM with the private key and the certificates to show; such a context is for this
    one client, and never shared.
    Raises ConnectError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a write would wait for what the server sends
    try:
        if ca_file is not None:
            with _in_memory(read_regular(ca_file, MAX_CA_FILE)) as path:
                context.load_verify_locations(path)
        elif identity is not None and (directory := ssl.get_default_verify_paths().capath):
            # OpenSSL looks up one root there; all of them would cost each client 30 ms and 0.8 MB.
            context.load_verify_locations(capath=directory)
        else:
            context.set_default_verify_paths()
    except OSError as error:  # ssl.SSLError, where the file holds no certificate, is one
        raise ConnectError(ConnectFault.CA_FILE) from error
    if identity is not None:
        _show(context, identity)
    return context


def _show(context: ssl.SSLContext, identity: Secret) -> None:
    """Give a context a certificate to show.  Raises ConnectError."""
    try:
        with _in_memory(identity.reveal()) as path:
            # without a password OpenSSL would ask at the terminal
            context.load_cert_chain(path, password=lambda: "")
    except OSError as error:
        raise ConnectError(ConnectFault.IDENTITY) from error


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield the path of a file in memory: OpenSSL wants a file, and a secret is to be in none.

    A file on the disk might change while it is read, or have no end.  Raises OSError.
    """
    with os.fdopen(os.memfd_create("tls", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


class TrustStore:
    """The trusted roots of an account, as one TLS context, made off the loop when first needed.

    It is made again when the content of the roots has changed, which is looked at every CHECK_EVERY
    seconds while connections are made, and before the next one after `release`.

    ca_file: as for `client_context`; after a failure it is read again.
    sessions: those that were made with it; none outlives a change of the roots, or `release`.
    """

    def __init__(self, ca_file: Path | None) -> None:
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._look: asyncio.Future[ssl.SSLContext] | None = None  # at most one is under way
        self._watched = WatchedPaths()
        self._released = self._looked = 0
        self._look_at = 0.0
        self.sessions = ResumableSessions()

    async def context(self) -> ssl.SSLContext:
        """Return the context.  Raises ConnectError.

        Roots that were read before are in use while they are looked at, unless after `release`: a
        disk that hangs, or a pool that is busy, holds no connection back.
        """
        while self._context is None or self._looked != self._released:
            look = self._begin_look()
            await asyncio.wait({look})
            if not look.cancelled() and (error := look.exception()) is not None:
                raise error
        if asyncio.get_running_loop().time() >= self._look_at:
            self._begin_look()
        return self._context

    def release(self) -> None:
        """Have the roots looked at before they are next used."""
        self._released += 1
        self.sessions.clear()

    def _begin_look(self) -> asyncio.Future[ssl.SSLContext]:
        """Look at the roots on another thread, unless that is under way."""
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look_at = loop.time() + CHECK_EVERY
            ended = partial(self._end_look, self._released)  # as it is before the look begins
            self._look = loop.run_in_executor(None, self._current, self._context)
            self._look.add_done_callback(ended)
        return self._look

    def _end_look(self, released: int, look: asyncio.Future[ssl.SSLContext]) -> None:
        """Use what was found; nothing, after a failure.  released: as it was at the beginning."""
        failed = look.cancelled() or look.exception() is not None
        self._context = None if failed else look.result()
        self._look, self._looked = None, released

    def _current(self, context: ssl.SSLContext | None) -> ssl.SSLContext:
        """Return a context with the current roots: the given one, if they have not changed."""
        changed = self._watched.changed(_root_paths(self._ca_file))
        return client_context(self._ca_file) if context is None or changed else context


def _root_paths(ca_file: Path | None) -> Iterator[Path]:
    """Yield the file of the roots, or file and directory of those of the system."""
    if ca_file is not None:
        yield ca_file
        return
    system = ssl.get_default_verify_paths()
    yield from (Path(path) for path in (system.cafile, system.capath) if path)


async def dial(server: Server) -> ssl.SSLSocket:
    """Return a non-blocking socket after the TLS handshake.  Raises ConnectError."""
    return await dial_one_of(await resolve(server), server)


async def dial_one_of(addresses: list[Address], server: Server) -> ssl.SSLSocket:
    """Do the same with a server whose name was looked up before."""
    try:
        return await _dial(addresses, server)
    except ConnectError as error:
        if error.fault is ConnectFault.TLS_UNKNOWN_CA and await _is_elsewhere(addresses, server):
            raise ConnectError(ConnectFault.PORTAL) from error
        raise


async def dial_plain(host: str, port: int, seconds: float, book: AddressBook) -> socket.socket:
    """Return a non-blocking socket without TLS, for a server on a network that is trusted.

    seconds: for each of name lookup and TCP.  Raises ConnectError.
    """
    addresses = await _look_up(book, host, port, seconds)
    return await _first(addresses, book, lambda address: _PlainAttempt(address, seconds))


async def _dial(addresses: list[Address], server: Server) -> ssl.SSLSocket:
    """Connect to the first of these addresses that completes the handshake (RFC 8305, 5)."""
    return await _first(addresses, server.book, lambda address: _TlsAttempt(address, server))


async def _first(
    addresses: list[Address], book: AddressBook, attempt: Callable[[Address], _Attempt[S]]
) -> S:
    """Return the first connection of several attempts.  Raises ConnectError."""
    if len(addresses) == 1:
        return await _only(attempt(addresses[0]), book)
    race = _Race(addresses, book, attempt)
    try:
        return await race.run()
    finally:
        await race.close()


async def _only(attempt: _Attempt[S], book: AddressBook) -> S:
    """Connect to the only address there is.  Raises ConnectError."""
    try:
        connected = await attempt.run()
    except ConnectError:
        book.note(attempt.address, good=False)
        raise
    book.note(attempt.address, good=True)
    return connected


class _Attempt(Protocol[S_co]):
    """An attempt at one address.  answered: whether TCP was."""

    address: Address
    answered: bool

    async def run(self) -> S_co:
        """Connect.  Raises ConnectError."""


class _PlainAttempt:
    """An attempt without TLS."""

    def __init__(self, address: Address, seconds: float) -> None:
        self.address, self._seconds, self.answered = address, seconds, False

    async def run(self) -> socket.socket:
        """Connect.  Raises ConnectError."""
        return await _connect(self.address, self._seconds)


class _TlsAttempt:
    """An attempt with TLS."""

    def __init__(self, address: Address, server: Server) -> None:
        self.address, self._server, self.answered = address, server, False

    async def run(self) -> ssl.SSLSocket:
        """Connect, through the proxy if there is one.  Raises ConnectError."""
        server = self._server
        with _way_of(server):
            plain = await _connect(self.address, server.connect_timeout)
        self.answered = True
        try:
            if server.proxy is not None:
                host, port, seconds = server.destination, server.port, server.connect_timeout
                await open_tunnel(plain, server.proxy, host, port, seconds)
            return await _secure(plain, server)
        except BaseException:
            plain.close()
            raise


@contextlib.contextmanager
def _way_of(server: Server) -> Iterator[None]:
    """Have a fault on the way to the proxy called so."""
    try:
        yield
    except ConnectError as error:
        if server.proxy is None:
            raise
        raise ConnectError(BY_PROXY.get(error.fault, error.fault)) from error


class _Race(Generic[S]):
    """Attempts at several addresses: the next begins when one fails, or takes too long."""

    def __init__(
        self, addresses: list[Address], book: AddressBook, attempt: Callable[[Address], _Attempt[S]]
    ) -> None:
        self._waiting, self._book, self._attempt = deque(addresses), book, attempt
        self._running: dict[asyncio.Task[S], _Attempt[S]] = {}
        self._errors: list[ConnectError] = []

    async def run(self) -> S:
        """Return the first connection.  Raises the error of the attempt that came furthest."""
        while self._waiting or self._running:
            if self._waiting:
                attempt = self._attempt(self._waiting.popleft())
                self._running[asyncio.create_task(attempt.run())] = attempt
            await self._wait()
            if (winner := self._first_done()) is not None:
                return winner
        raise max(self._errors, key=lambda error: _DEPTH.get(error.fault, len(_DEPTH)))

    async def close(self) -> None:
        """End all attempts, and close what they have connected."""
        if not self._running:
            return  # as after most connections: the first address was good
        await cancel_and_wait(self._running)
        for task in self._running:
            if not task.cancelled() and task.exception() is None:
                task.result().close()

    async def _wait(self) -> None:
        """Return when an attempt has ended, or when it is time for the next address."""
        ended = partial(asyncio.wait, return_when=asyncio.FIRST_COMPLETED)
        if not self._waiting:
            await ended(self._running)
            return
        done, _ = await ended(self._running, timeout=ATTEMPT_DELAY)
        if not done and next(reversed(self._running.values())).answered:
            await ended(self._running, timeout=TLS_DELAY - ATTEMPT_DELAY)

    def _first_done(self) -> S | None:
        """Return the connection of the first attempt that succeeded; None while there is none.

        What failed, or was overtaken by one that began later, is tried last the next time.
        """
        book, earlier = self._book, []
        for task, attempt in list(self._running.items()):
            if not task.done():
                earlier.append(attempt.address)
                continue
            del self._running[task]
            error = task.exception()
            book.note(attempt.address, good=error is None)
            if error is None:
                for address in earlier:
                    book.note(address, good=False)
                return task.result()
            if not isinstance(error, ConnectError):
                raise error
            self._errors.append(error)
        return None


_DEPTH: Mapping[ConnectFault, int] = {
    ConnectFault.TCP_UNREACHABLE: 0,
    ConnectFault.PROXY_UNREACHABLE: 0,
    ConnectFault.TCP_REFUSED: 1,
    ConnectFault.PROXY_REFUSED: 1,
    ConnectFault.TLS_TIMEOUT: 2,
    ConnectFault.TLS_FAILED: 3,
}
"""How far an attempt came; any other fault says more than these."""


def peer_of(sock: ssl.SSLSocket) -> Address | None:
    """Return the address that a socket is connected to; None if it is not any more."""
    try:
        address = sock.getpeername()
    except OSError:
        return None
    return (socket.AF_INET if len(address) == _IPV4 else socket.AF_INET6), address


_IPV4 = 2  # parts of an address; of IPv6 there are four


def try_last(server: Server, address: Address | None) -> None:
    """Note that TLS was answered here, and nothing more: another address may lead to a live one."""
    if address is not None:
        server.book.note(address, good=False)


async def _is_elsewhere(addresses: list[Address], server: Server) -> bool:
    """Whether a server that is not trusted is also of another name, as a captive portal's is.

    OpenSSL reports the first fault only, and no certificate: so the handshake is made once more,
    without verification, and nothing is sent.  False where that fails.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with await _dial(addresses, replace(server, context=context, book=AddressBook())) as sock:
            return not names_host(sock.getpeercert(binary_form=True) or b"", server.host)
    except ConnectError:
        return False


_UNREADABLE = (
    ValueError, TypeError, KeyError, UnsupportedAlgorithm, x509.InvalidVersion,
    x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.ExtensionNotFound,
)  # fmt: skip
"""What the library raises for what it cannot read; for parts, only when they are accessed."""


def names_host(der: bytes, host: str) -> bool:
    """Whether a server's certificate, DER, lists a host: as RFC 6125, 6.4, with one wildcard.

    host: a name or an address.  False for a certificate that cannot be read, or lists no name.
    """
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        listed = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = listed.get_values_for_type(x509.DNSName)
        addresses = listed.get_values_for_type(x509.IPAddress)
    except _UNREADABLE:
        return False
    wanted = host.lower().rstrip(".")
    _, _, domain = wanted.partition(".")
    known = {name.lower() for name in names} | {str(address) for address in addresses}
    return wanted in known or (bool(domain) and f"*.{domain}" in known)


async def resolve(server: Server) -> list[Address]:
    """Look up the name of the server, or of its proxy, unless it is an address.

    Raises ConnectError.
    """
    proxy = server.proxy
    host, port = (server.destination, server.port) if proxy is None else (proxy.host, proxy.port)
    with _way_of(server):
        return await _look_up(server.book, host, port, server.connect_timeout)


async def _look_up(book: AddressBook, host: str, port: int, seconds: float) -> list[Address]:
    try:
        return await book.resolve(host, port, seconds)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
        raise ConnectError(ConnectFault.DNS) from error


async def _connect(address: Address, seconds: float) -> socket.socket:
    """Return a connection.  Raises ConnectError."""
    try:
        async with asyncio.timeout(seconds):
            return await _connect_to(*address)
    except ConnectionRefusedError as error:
        raise ConnectError(ConnectFault.TCP_REFUSED) from error
    except OSError as error:  # no route, or no answer in time
        raise ConnectError(ConnectFault.TCP_UNREACHABLE) from error


async def _connect_to(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Without it, Nagle's algorithm and delayed acknowledgements add 40 ms to an exchange.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _secure(plain: socket.socket, server: Server) -> ssl.SSLSocket:
    sessions, session = server.sessions, None
    if sessions is not None:
        session = sessions.of(server.host, server.context)
    try:
        sock = server.context.wrap_socket(
            plain, server_hostname=server.host, do_handshake_on_connect=False, session=session
        )
    except OSError as error:  # it was closed already
        raise ConnectError(ConnectFault.TLS_FAILED) from error
    try:
        async with asyncio.timeout(server.connect_timeout):
            await when_ready(sock, sock.do_handshake)
    except BaseException as error:
        sock.close()
        if sessions is not None:
            sessions.drop(server.host)
            if session is not None and isinstance(error, OSError):
                sessions.suspend(server.host, server.context)
        if isinstance(error, OSError):
            raise ConnectError(tls_fault(error), alert=alert_of(error)) from error
        raise
    if sessions is not None and session is not None and not sock.session_reused:
        sessions.drop(server.host)
    return sock


def keep_session(server: Server, sock: ssl.SSLSocket) -> None:
    """Keep the TLS session of a connection that has received something, to resume it."""
    if server.sessions is not None:
        server.sessions.keep(server.host, server.context, sock)


def tls_fault(error: OSError) -> ConnectFault:
    """Return what a failed handshake means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, ConnectFault.TLS_FAILED)
    if alert_of(error):
        return ConnectFault.TLS_REJECTED
    if isinstance(error, ssl.SSLError) and error.reason == _UNKNOWN_NAME:
        return ConnectFault.TLS_NAME
    return ConnectFault.TLS_TIMEOUT if isinstance(error, TimeoutError) else ConnectFault.TLS_FAILED


def alert_of(error: OSError) -> str:
    """Return the server's alert about our certificate; "" if there was none."""
    return _ALERTS.get(error.reason or "", "") if isinstance(error, ssl.SSLError) else ""


async def when_ready(sock: ssl.SSLSocket, step: Callable[[], T]) -> T:
    """Take a step, as sock.do_handshake, when the non-blocking socket can take it."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            await _ready(loop.add_reader, loop.remove_reader, sock.fileno())
        except ssl.SSLWantWriteError:
            await _ready(loop.add_writer, loop.remove_writer, sock.fileno())


async def _ready(add: Callable[..., Any], remove: Callable[[int], bool], descriptor: int) -> None:
    waiter = asyncio.get_running_loop().create_future()
    add(descriptor, _wake, waiter)
    try:
        await waiter
    finally:
        remove(descriptor)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
