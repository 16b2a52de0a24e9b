"""Requests for certificates (PKCS #10), good and bad."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gatewayd.ca.keys import Key, make_key
from tests.cloud.guarded import subject


def request(name: x509.Name | None = None, *, forged: bool = False, bits: int = 0) -> bytes:
    """Return a request.  forged: its signature is spoiled.  bits: of an RSA key."""
    key: Key = rsa.generate_private_key(65537, bits) if bits else make_key("ec-p256")
    builder = x509.CertificateSigningRequestBuilder(name or subject(common_name="x"))
    der = bytearray(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    if forged:
        at = der.index(b"\x0c\x01x")  # the common name, a UTF8String
        der[at + 2] = ord("y")
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
