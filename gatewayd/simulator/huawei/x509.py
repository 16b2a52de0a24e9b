"""A certificate, as the simulated Huawei platform reads it.  Pure."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from gatewayd.simulator.pki import life

MAX_PEM = 65_536
"""Characters of a certificate that is uploaded."""

_COMMON_NAME, _ORGANIZATION = "2.5.4.3", "2.5.4.10"


class UnreadableCertificate(Exception):
    """A text or bytes that are no X.509 certificate."""


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """One certificate.

    subject: object identifier → values, in their order.
    issuer: the name of the issuer, DER.  name: its own, likewise.
    effective, expiry: seconds since 1970.
    """

    pem: str = field(repr=False)
    subject: Mapping[str, Sequence[str]]
    name: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    sha1: str
    sha256: str
    authority: bool
    effective: float
    expiry: float
    parsed: x509.Certificate = field(repr=False, compare=False)

    @property
    def common_name(self) -> str:
        """The subject's CN, or the empty text."""
        return "".join(self.subject.get(_COMMON_NAME, ())[:1])

    @property
    def owner(self) -> str:
        """The subject's O, or the empty text."""
        return "".join(self.subject.get(_ORGANIZATION, ())[:1])

    def matches(self, fingerprint: str | None) -> bool:
        """Whether a fingerprint, SHA-1 or SHA-256 in hexadecimal, is this certificate's."""
        return fingerprint is not None and fingerprint.lower() in (self.sha1, self.sha256)

    def signed_by(self, authority: CertificateInfo) -> bool:
        """Whether an authority has signed this; validity is ignored."""
        if self.issuer != authority.name:
            return False
        try:
            _verify(authority.parsed, self.parsed)
        except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
            return False
        return True


def read_pem(text: str) -> CertificateInfo:
    """Read the one certificate of a text.  Raises UnreadableCertificate."""
    if len(text) > MAX_PEM or text.count("-----BEGIN CERTIFICATE-----") != 1:
        raise UnreadableCertificate
    try:
        return _info(x509.load_pem_x509_certificate(text.encode()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableCertificate from error


def read_der(data: bytes) -> CertificateInfo:
    """Read the certificate of a client.  Raises UnreadableCertificate."""
    try:
        return _info(x509.load_der_x509_certificate(data))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableCertificate from error


def _info(certificate: x509.Certificate) -> CertificateInfo:
    der = certificate.public_bytes(serialization.Encoding.DER)
    subject: dict[str, list[str]] = {}
    for attribute in certificate.subject:
        subject.setdefault(attribute.oid.dotted_string, []).append(_text(attribute.value))
    effective, expiry = life(certificate)
    return CertificateInfo(
        ssl.DER_cert_to_PEM_cert(der),
        subject,
        certificate.subject.public_bytes(),
        certificate.issuer.public_bytes(),
        hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        hashlib.sha256(der).hexdigest(),
        _is_authority(certificate),
        effective.timestamp(),
        expiry.timestamp(),
        certificate,
    )


def _verify(issuer: x509.Certificate, certificate: x509.Certificate) -> None:
    """Check a signature by RSA (PKCS #1 v1.5) or ECDSA.  Raises InvalidSignature, TypeError."""
    key, algorithm = issuer.public_key(), certificate.signature_hash_algorithm
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    if algorithm is None:
        raise TypeError
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(algorithm))
    else:
        raise TypeError


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
