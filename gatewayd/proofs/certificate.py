"""What the certificate of a device says: its identity, its key, and who signed it.  Pure.

That the certificate is trusted, and that its key is there, is not decided here: tls.py has OpenSSL
say so.  The text in it is as hostile as any from the LAN.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from gatewayd.device.identity import is_placeholder
from gatewayd.proofs.settings import CertificateField

MAX_CERTIFICATE = 16 << 10
"""Bytes of a certificate: those of devices have about one thousand."""
MAX_IDENTITY = 128
"""Characters of an identity; RFC 5280, appendix A.1, has 64 for serialNumber and commonName."""
MAX_SHOWN = 100
"""Characters that are shown of a signer's name."""
MAX_ALTERNATIVES = 64


class UnreadableDeviceCertificate(ValueError):
    """A certificate cannot be read; the text has nothing of it."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The facts of one certificate.

    key: "sha256:" and the hex digits of the digest of its SubjectPublicKeyInfo.
    identity: in lower case, printable ASCII; "" where it has none that can be used.
    signer: the issuer's name, to show; serial: its serial number, in hex digits.
    """

    key: str
    identity: str
    signer: str
    serial: str


UNREADABLE_PARTS = (
    ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UnsupportedAlgorithm,
    x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""What the library raises for certificates that it cannot read: KeyError, too, for a name with a
tag of ASN.1 that it does not know."""


def read_certificate(der: bytes, field: CertificateField) -> CertificateFacts:
    """Read a certificate.  field: where its identity is.  Raises UnreadableDeviceCertificate."""
    if len(der) > MAX_CERTIFICATE:
        raise UnreadableDeviceCertificate(f"the certificate has more than {MAX_CERTIFICATE} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a serial number of 0 or below is shown as it is
            made = x509.load_der_x509_certificate(der)
            return CertificateFacts(
                fingerprint(
                    made.public_key().public_bytes(
                        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                    )
                ),
                _usable(_IDENTITIES[field](made)),
                _shown(made.issuer),
                f"{made.serial_number:x}"[: 2 * MAX_IDENTITY],
            )
    except UNREADABLE_PARTS as error:
        raise UnreadableDeviceCertificate("the certificate cannot be read") from error


def fingerprint(key: bytes) -> str:
    """Return how a key is named: the digest of its public half.

    key: the SubjectPublicKeyInfo of a certificate, or the public key of RFC 4253, 6.6.
    """
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


def _of_subject(oid: x509.ObjectIdentifier) -> Callable[[x509.Certificate], str]:
    def read(made: x509.Certificate) -> str:
        found = made.subject.get_attributes_for_oid(oid)
        return str(found[0].value) if len(found) == 1 else ""

    return read


def _of_alternatives(
    kind: type[x509.DNSName | x509.UniformResourceIdentifier],
) -> Callable[[x509.Certificate], str]:
    def read(made: x509.Certificate) -> str:
        try:
            names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ""
        found = names.get_values_for_type(kind) if len(names) <= MAX_ALTERNATIVES else []
        return str(found[0]) if len(found) == 1 else ""

    return read


_IDENTITIES: Mapping[CertificateField, Callable[[x509.Certificate], str]] = {
    CertificateField.SERIAL: _of_subject(NameOID.SERIAL_NUMBER),
    CertificateField.NAME: _of_subject(NameOID.COMMON_NAME),
    CertificateField.DNS: _of_alternatives(x509.DNSName),
    CertificateField.URI: _of_alternatives(x509.UniformResourceIdentifier),
}


def _usable(text: str) -> str:
    """Return an identity in one spelling; "" for what names no device, or cannot be compared."""
    value = text.strip().lower()
    fits = 0 < len(value) <= MAX_IDENTITY and value.isascii() and value.isprintable()
    return value if fits and not is_placeholder(value) else ""


def _shown(name: x509.Name) -> str:
    """Return a name as a text that is fit for a terminal."""
    parts = (f"{one.rfc4514_attribute_name}={one.value!s}" for one in list(name)[:MAX_ALTERNATIVES])
    text = ", ".join(parts)[:MAX_SHOWN]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
