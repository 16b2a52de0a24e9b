"""An accepted connection, TLS or plain, on the loop: non-blocking sockets and no thread.

asyncio's own TLS is not used, because it never sends a client the alert that says why.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

MAX_PENDING = 1 << 20
"""Bytes pending for a client that does not read, before it is dropped."""

GRACE = 5.0
"""Seconds a closing channel waits for a client that does not read."""

LINGER = 2.0
"""Seconds a channel whose handshake failed waits for the client to close."""

_CHUNK = 65_536
_TLS_HANDSHAKE = b"\x16"  # the first byte of every TLS connection (RFC 8446, 5.1)
_NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class Receiver(Protocol):
    """The owner of a channel."""

    def received(self, data: bytes) -> None:
        """Handle received bytes."""

    def closed(self, reason: str) -> None:
        """Called once when the channel is closed.  reason: "" unless the handshake failed."""


class NamedConnection(ssl.SSLSocket):
    """A TLS connection.  asked: the server name its client sent (RFC 6066, 3); None for none."""

    asked: str | None = None


def remember_names(context: ssl.SSLContext) -> None:
    """Make the connections of a context remember the server names that clients send."""
    context.sslsocket_class = NamedConnection
    context.sni_callback = _remember


def _remember(
    connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
) -> None:
    assert isinstance(connection, NamedConnection), "the context makes no others"
    connection.asked = name


class Channel:
    """A channel over a socket, which reads at once and calls `receiver` until it is closed.

    sock: accepted and non-blocking; owned by the channel from now on.
    context: for TLS; None to serve plain TCP only.
    plain: whether a client that does not begin with TLS is served plain TCP.
    failed: called with the reason of a failed handshake, before the client has closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        receiver: Receiver,
        context: ssl.SSLContext | None,
        *,
        plain: bool,
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.tls: ssl.SSLSocket | None = None
        self._loop = asyncio.get_running_loop()
        self._socket, self._fd = sock, sock.fileno()
        self._receiver, self._context, self._plain = receiver, context, plain
        self._failed = failed
        self._out = bytearray()
        self._closing, self._reason = False, ""
        self._step: Callable[[], None] = self._sniff if context else self._read
        self._loop.add_reader(self._fd, self._ready)

    @property
    def open(self) -> bool:
        """Whether bytes can still be sent."""
        return self._fd >= 0 and not self._closing

    def send(self, data: bytes) -> None:
        """Send, now or as soon as the client reads; on a closed channel, nothing."""
        if not self.open:
            return
        self._out += data
        self._write()
        if len(self._out) > MAX_PENDING:
            self.abort()

    def close(self) -> None:
        """Close when everything is written, or `GRACE` has passed."""
        self._closing = True
        if self._out:
            self._loop.call_later(GRACE, self.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """Close now.  Closing twice is fine."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = -1
        self._send_close_notify()
        self._socket.close()
        self._receiver.closed(self._reason)

    def _ready(self) -> None:
        """Perform the next step, if the socket is ready for it."""
        try:
            self._step()
        except _NOT_NOW:
            return
        except OSError as error:
            if self._step == self._handshake:
                self._give_up(_why(error))
            else:
                self.abort()

    def _sniff(self) -> None:
        """Peek at the first byte: the vendor's port 1883 serves TLS and plain TCP."""
        first = self._socket.recv(1, socket.MSG_PEEK)
        assert self._context is not None
        if not first:
            self.abort()
        elif self._plain and first != _TLS_HANDSHAKE:
            self._switch_to(self._read)
        else:
            self.tls = self._context.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._socket = self.tls
            self._switch_to(self._handshake)

    def _handshake(self) -> None:
        assert self.tls is not None
        self.tls.do_handshake()
        self._switch_to(self._read)

    def _switch_to(self, step: Callable[[], None]) -> None:
        self._step = step
        step()

    def _read(self) -> None:
        """Read once.  A TLS record always fits, so none is left where no selector sees it."""
        if data := self._socket.recv(_CHUNK):
            self._receiver.received(data)
        else:
            self.abort()

    def _give_up(self, reason: str) -> None:
        """Close after a failed handshake, once the client has: a reset would overtake the alert."""
        assert self.tls is not None
        self._reason, self._step = reason, self._drain
        self._loop.call_later(LINGER, self.abort)
        self._failed(reason)
        try:
            self.tls.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()

    def _drain(self) -> None:
        if not self._socket.recv(_CHUNK):
            self.abort()

    def _write(self) -> None:
        """Write pending bytes; the rest when the socket is writable."""
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except _NOT_NOW:
            self._loop.add_writer(self._fd, self._write)
            return
        except OSError:
            self.abort()
            return
        self._loop.remove_writer(self._fd)
        if self._closing:
            self.abort()

    def _send_close_notify(self) -> None:
        """Send close_notify, if that is possible without waiting."""
        if self.tls is None or self._step != self._read:
            return
        try:
            self.tls.unwrap()
        except (OSError, ValueError):
            return


def _why(error: OSError) -> str:
    """Return OpenSSL's name of a failed handshake; a bounded set, for counting."""
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    return reason or type(error).__name__
