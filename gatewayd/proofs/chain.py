"""Whether a certificate leads to a vendor's CA, where no handshake of TLS has OpenSSL say so.

It is OpenSSL all the same that builds the chain and verifies it, as RFC 5280, 6 has it, by the
library pyOpenSSL, which is loaded when the first certificate is verified.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatewayd.ca.keys import pem_blocks
from gatewayd.proofs import reasons
from gatewayd.proofs.certificate import UNREADABLE_PARTS
from gatewayd.proofs.tls import DISTRUST, ProofFailed, read_roots

_OF_SERVERS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


async def check_chain(leaf: bytes, others: Sequence[bytes], roots: Sequence[Path]) -> None:
    """Raise ProofFailed for a certificate that does not lead to a vendor's CA.

    leaf: DER.  others: DER, of the device, by which it may do so.  roots: files, PEM, read each
    time: each certificate in them may be the end, as in tls.py.
    """
    await asyncio.to_thread(verify, leaf, others, roots)


def verify(leaf: bytes, others: Sequence[bytes], roots: Sequence[Path]) -> None:
    """Do what `check_chain` does.  Blocks."""
    crypto = _library()
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    try:
        text = read_roots(roots)
        ends = [
            crypto.load_certificate(crypto.FILETYPE_PEM, text[block])
            for block in pem_blocks(text, b"CERTIFICATE")
        ]
    except (OSError, ValueError, crypto.Error) as error:
        raise ProofFailed(reasons.NO_ROOTS) from error
    if not ends:
        raise ProofFailed(reasons.NO_ROOTS)
    for one in ends:
        store.add_cert(one)
    try:
        shown, *between = (
            crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in (leaf, *others)
        )
        crypto.X509StoreContext(store, shown, between).verify_certificate()
        is_for_servers = _is_for_servers(leaf)
    except crypto.X509StoreContextError as error:
        raise ProofFailed(DISTRUST.get(_code(error), reasons.NOT_TRUSTED)) from error
    except (crypto.Error, *UNREADABLE_PARTS) as error:
        raise ProofFailed(reasons.UNREADABLE) from error
    if not is_for_servers:
        raise ProofFailed(reasons.NOT_TRUSTED)


def _is_for_servers(der: bytes) -> bool:
    """Whether a certificate may be a server's, as OpenSSL has it for one of TLS (RFC 5280, 4.2.1.3
    and 4.2.1.12)."""
    found = {type(one.value): one.value for one in x509.load_der_x509_certificate(der).extensions}
    usage, purposes = found.get(x509.KeyUsage), found.get(x509.ExtendedKeyUsage)
    may_sign = not isinstance(usage, x509.KeyUsage) or usage.digital_signature
    return may_sign and (
        not isinstance(purposes, x509.ExtendedKeyUsage) or bool(_OF_SERVERS & set(purposes))
    )


def _code(error: Any) -> int:  # noqa: ANN401  # of a library that need not be installed
    """Return which X509_V_ERR_* an error has: a list in newer versions, and in older ones within
    its first argument."""
    codes = getattr(error, "errors", None) or error.args[0]
    return int(codes[0])


def _library() -> Any:  # noqa: ANN401  # a module that need not be installed
    try:
        return importlib.import_module("OpenSSL.crypto")
    except ImportError as error:
        raise ProofFailed(reasons.NO_VERIFIER) from error
