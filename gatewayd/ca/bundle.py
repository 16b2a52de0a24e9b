"""A key and its certificate that were made elsewhere: read from PEM or PKCS #12, and checked.

All of it blocks.  An error quotes nothing of what was read.  Sources: RFC 7468 (PEM), RFC 7292
(PKCS #12), RFC 5280, sections 4.2.1.3, 4.2.1.9, 4.2.1.12 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatewayd.ca.certificates import (
    MAX_BYTES,
    UNREADABLE,
    Validity,
    belongs_to,
    read_certificates,
    to_pem,
)
from gatewayd.ca.keys import Key, is_locked, key_pem, read_key
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

MAX_CHAIN = 8
"""Certificates above that of the device."""
_OF_CLIENTS = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_SEQUENCE = b"\x30"
"""How each PKCS #12 file begins, and no PEM text (X.690, 8.9)."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A private key, its certificate, and the certificates above that, in their order."""

    key: Key
    certificate: x509.Certificate
    chain: Sequence[x509.Certificate] = ()

    @property
    def pem(self) -> Secret:
        """Key, certificate and chain, the key in the clear: only for use in a Secret."""
        texts = "".join(to_pem(one) for one in (self.certificate, *self.chain))
        return Secret(key_pem(self.key) + texts.encode("ascii"))


def needs_passphrase(certificate: bytes, key: bytes) -> bool:
    """Whether the key in one of two files is encrypted; PKCS #12 may be, too."""
    return is_pkcs12(certificate) or is_locked(key or certificate)


def is_pkcs12(data: bytes) -> bool:
    """Whether a file is PKCS #12, rather than PEM."""
    return data.startswith(_SEQUENCE)


def read_bundle(certificate: bytes, key: bytes = b"", passphrase: bytes | None = None) -> Bundle:
    """Return what files of an operator hold.

    certificate: PEM with the certificate, and those above it in any order; or PKCS #12.
    key: PEM with the private key, plain or encrypted; b"" where it is in the other file.
    passphrase: None for none.  Raises InvalidArgs with the cause.
    """
    if max(len(certificate), len(key)) > MAX_BYTES:
        raise InvalidArgs(f"A certificate with its key has at most {MAX_BYTES} bytes")
    if is_pkcs12(certificate):
        if key:
            raise InvalidArgs("A file of PKCS #12 has its own key: leave out the other key")
        return _of_pkcs12(certificate, passphrase)
    private = key or certificate
    found = read_key(private, passphrase if is_locked(private) else None)
    return _joined(found, read_certificates(certificate))


def _of_pkcs12(data: bytes, passphrase: bytes | None) -> Bundle:
    try:
        key, own, others = pkcs12.load_key_and_certificates(data, passphrase)
    except UNREADABLE:
        raise InvalidArgs(
            "The PKCS #12 file cannot be opened: the passphrase is wrong, or it is encrypted in a "
            "way that is no longer supported, as RC2. Export it once more with AES"
        ) from None
    if key is None or own is None:
        raise InvalidArgs("The PKCS #12 file needs both a private key and its certificate")
    return _joined(read_key(_clear(key)), [own, *others])


def _clear(key: object) -> bytes:
    """Return a key of any kind as PEM, which `read_key` judges."""
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise InvalidArgs("The private key is neither RSA nor of an elliptic curve")
    return key_pem(key)


def _joined(key: Key, found: Sequence[x509.Certificate]) -> Bundle:
    """Return key and certificates in the order in which TLS sends them (RFC 8446, 4.4.2)."""
    if not found:
        raise InvalidArgs("There is no certificate: add it in PEM form")
    if len(found) > MAX_CHAIN + 1:
        raise InvalidArgs(f"There are more than {MAX_CHAIN} certificates above the device's")
    own = next((one for one in found if belongs_to(one, key)), None)
    if own is None:
        raise InvalidArgs("The private key does not belong to the certificate")
    left = [one for one in found if one != own]
    chain = list(_upwards(own, left))
    if len(chain) < len(left):
        raise InvalidArgs(
            "A certificate is beside it that is not above it in its chain: leave that out, or add "
            "the one between them"
        )
    return Bundle(key, own, tuple(chain))


def _upwards(
    own: x509.Certificate, others: Sequence[x509.Certificate]
) -> Iterator[x509.Certificate]:
    """Yield the issuer of a certificate, its issuer, and so on, as far as they are there."""
    below, left = own, list(others)
    while left and below.subject != below.issuer:
        named = [one for one in left if one.subject == below.issuer]
        if not named:
            return
        below = _issuer(below, named)
        left.remove(below)
        yield below


def _issuer(below: x509.Certificate, named: Sequence[x509.Certificate]) -> x509.Certificate:
    for one in named:
        if is_signed_by(below, one):
            return one
    raise InvalidArgs(
        "A certificate is not signed by the one beside it that has the name of its issuer"
    )


def is_signed_by(below: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the signature of a certificate is that of another one's key.

    False where it is of another kind than RSA with PKCS #1 v1.5, or ECDSA.
    """
    try:
        key, algorithm = issuer.public_key(), below.signature_hash_algorithm
        if algorithm is None:
            return False
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(below.signature, below.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(below.signature, below.tbs_certificate_bytes, ec.ECDSA(algorithm))
        else:
            return False
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def client_fault(bundle: Bundle, now: float) -> str:
    """Return why a device cannot log in with its certificate; "" where nothing speaks against it.

    now: seconds since the epoch.
    """
    try:
        if fault := _purpose_fault(bundle.certificate):
            return f"the certificate {fault}"
        for number, one in enumerate((bundle.certificate, *bundle.chain)):
            what = "a certificate above it" if number else "the certificate"
            span = Validity.of(one)
            if fault := span.fault(now):
                day = span.ends if now >= span.ends.timestamp() else span.starts
                return f"{what} {fault} ({day:%Y-%m-%d})"
            if number and not _is_authority(one):
                return f"{what} is not that of a CA (basicConstraints)"
    except UNREADABLE:
        return "a certificate has a part that cannot be read"
    return ""


def _purpose_fault(own: x509.Certificate) -> str:
    if _is_authority(own):
        return "is that of a CA, not of a device (basicConstraints)"
    found = {type(one.value): one.value for one in own.extensions}
    usage, purposes = found.get(x509.KeyUsage), found.get(x509.ExtendedKeyUsage)
    if isinstance(usage, x509.KeyUsage) and not usage.digital_signature:
        return "does not permit its key to sign, which a login needs (keyUsage)"
    if isinstance(purposes, x509.ExtendedKeyUsage) and not _OF_CLIENTS & set(purposes):
        return "is not for clients of TLS (extendedKeyUsage)"
    return ""


def _is_authority(one: x509.Certificate) -> bool:
    return any(e.value.ca for e in one.extensions if isinstance(e.value, x509.BasicConstraints))
