"""An SSH key exchange that proves the host key of a device; nothing follows, and no user logs in.

The server signs the exchange with its host key (RFC 4253, 8), which asyncssh verifies.  That
library is loaded when the first proof of this kind is made.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import warnings
from collections.abc import Callable
from typing import Any

from gatewayd.proofs import reasons
from gatewayd.proofs.certificate import fingerprint
from gatewayd.proofs.tls import ProofFailed

MAX_EXCHANGE = 64 << 10
"""Bytes that a device may send: an exchange has some two thousand."""
HOST_KEYS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
"""Algorithms in the order in which a key is asked for: a device with several shows the first of
them, whatever the library prefers in a later version."""
EXCHANGES = (
    "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384", "diffie-hellman-group14-sha256",
)  # fmt: skip
"""Those whose groups the device cannot choose."""


class _OpenConnection:
    """A connection that is there, where asyncssh would make one: what it calls a tunnel."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], _host: str, _port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        """Return the transport, and the protocol that the factory has made."""
        inner = factory()
        loop = asyncio.get_running_loop()
        made, _ = await loop.create_connection(lambda: _Bounded(inner), sock=self._connection.dup())
        return made, inner


class _Bounded(asyncio.Protocol):
    """A protocol in front of another, which passes on so many bytes at most."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner, self._left = inner, MAX_EXCHANGE
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self._inner.data_received(data)
        elif self._transport is not None:
            self._transport.close()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


async def host_key_of(connection: socket.socket) -> str:
    """Return how the host key is named that a device has proven.

    connection: of TCP, non-blocking.  Raises ProofFailed, OSError.
    """
    asyncssh = await asyncio.to_thread(_library)  # it reads many files
    try:
        key = await asyncssh.get_server_host_key(
            "device",
            tunnel=_OpenConnection(connection),
            kex_algs=EXCHANGES,
            server_host_key_algs=HOST_KEYS,
            config=None,
        )
    except asyncssh.Error as error:
        raise ProofFailed(reasons.NO_HANDSHAKE) from error
    if key is None:
        raise ProofFailed(reasons.NO_HANDSHAKE)
    return fingerprint(key.public_data)


def _library() -> Any:  # noqa: ANN401  # a module that need not be installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it names ciphers that cryptography gives up
            return importlib.import_module("asyncssh")
    except ImportError as error:
        raise ProofFailed(reasons.NO_LIBRARY) from error
