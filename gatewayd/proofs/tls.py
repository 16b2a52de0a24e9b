"""A TLS handshake that proves the key of a device, and nothing else: no byte of content is sent.

The handshake proves possession: the device signs it (RFC 8446, 4.4.3; RFC 5246, 7.4.3), or decrypts
what only its key can.  OpenSSL verifies the chain, as RFC 5280, 6 has it.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from gatewayd.device.reason import Reason
from gatewayd.proofs import reasons
from gatewayd.runtime.watched_file import read_regular

MAX_HANDSHAKE = 20 << 10
"""Bytes that a device may send in a handshake: 16 KiB of certificates, and what is around them."""
MAX_ROOTS = 256 << 10
"""Bytes of all CA files of one vendor."""
CHUNK = 4096
CIPHERS = "HIGH+aRSA:HIGH+aECDSA:!PSK:!SRP:!DHE"
"""Suites with a certificate.  Without DHE, whose groups the device would choose: one of 10,000 bits
takes a second."""

DISTRUST: Mapping[int, Reason] = {9: reasons.NOT_YET_VALID, 10: reasons.EXPIRED}
"""X509_V_ERR_* of openssl/x509_vfy.h; any other means that the certificate is not trusted."""
_ERRORS: Mapping[str, Reason] = {
    "UNSUPPORTED_PROTOCOL": reasons.OLD_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": reasons.OLD_TLS,
    "WRONG_SSL_VERSION": reasons.OLD_TLS,
    "EXCESSIVE_MESSAGE_SIZE": reasons.TOO_MUCH,  # as its header says, before it has come
}
"""OpenSSL's words for what ended a handshake."""


class ProofFailed(Exception):
    """The key of a device is not proven.  reason: why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


class VendorRoots:
    """The CA certificates of a vendor, as a TLS context that is made again when they have changed.

    files: PEM; none for a context that verifies nothing, so that only the key is proven.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._digest = b""
        self._context: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """Return the context, for the files as they are now.  Raises ProofFailed."""
        try:
            return await asyncio.to_thread(self._current)
        except (OSError, ValueError) as error:  # ssl.SSLError, where a file has no certificate
            raise ProofFailed(reasons.NO_ROOTS) from error

    def _current(self) -> ssl.SSLContext:
        text = read_roots(self._files)
        digest = hashlib.sha256(text).digest()
        if self._context is None or digest != self._digest:
            self._context = _context(text.decode("ascii") if self._files else None)
            self._digest = digest
        return self._context


def read_roots(files: Sequence[Path]) -> bytes:
    """Return the CA certificates in some files, PEM.  Blocks.  Raises OSError, ValueError."""
    text = b"\n".join(read_regular(path, MAX_ROOTS) for path in files)
    if len(text) > MAX_ROOTS:
        raise ValueError("the files are too large")
    return text


def _context(roots: str | None) -> ssl.SSLContext:
    """Make a context.  roots: PEM; None to verify nothing.  Raises ValueError, OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # a device has no name in the DNS: its identity is compared
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.set_ciphers(CIPHERS)
    if roots is None:
        context.verify_mode = ssl.CERT_NONE
        return context
    # a vendor may publish the CA of one product line alone, without the root above it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=roots)
    return context


async def certificate_of(connection: socket.socket, context: ssl.SSLContext) -> bytes:
    """Return the certificate, DER, whose key the device has proven.

    connection: of TCP, non-blocking.  Raises ProofFailed, OSError.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls = context.wrap_bio(incoming, outgoing)
        await _shake_hands(connection, tls, incoming, outgoing)
    except ssl.SSLCertVerificationError as error:
        raise ProofFailed(DISTRUST.get(error.verify_code, reasons.NOT_TRUSTED)) from error
    except ssl.SSLError as error:
        raise ProofFailed(_ERRORS.get(error.reason, reasons.NO_HANDSHAKE)) from error
    certificate = tls.getpeercert(binary_form=True)
    if not certificate:
        raise ProofFailed(reasons.NO_HANDSHAKE)
    return certificate


async def _shake_hands(
    connection: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
) -> None:
    loop, received = asyncio.get_running_loop(), 0
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(connection, outgoing.read())
        else:
            await loop.sock_sendall(connection, outgoing.read())
            return
        chunk = await loop.sock_recv(connection, CHUNK)
        received += len(chunk)
        if received > MAX_HANDSHAKE:
            raise ProofFailed(reasons.TOO_MUCH)
        if chunk:
            incoming.write(chunk)
        else:
            incoming.write_eof()
