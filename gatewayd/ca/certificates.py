"""X.509 certificates: reading, describing and making them, as OpenSSL's strict checks want them.

The extensions are those of RFC 5280, sections 4.2.1.1 to 4.2.1.3, 4.2.1.9 and 4.2.1.12.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatewayd.ca.keys import Key, PublicKey, pem_blocks, public_key
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs
from gatewayd.runtime.text import without_unprintable
from gatewayd.runtime.watched_file import read_regular

BACKDATED = timedelta(minutes=30)
"""A certificate is valid from so long before its making: the cloud's clock may be slow."""

MAX_BYTES = 64 << 10
"""Bytes of PEM that are read."""

UNREADABLE = (
    ValueError, TypeError, KeyError, UnsupportedAlgorithm, InternalError, x509.InvalidVersion,
    x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""What the library raises for what it cannot read; for parts, only when they are accessed."""

_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
_LABEL = b"CERTIFICATE"


@dataclass(frozen=True, slots=True)
class Validity:
    """The period in which a certificate is valid, with a time zone."""

    starts: datetime
    ends: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Validity:
        """Return the period of a certificate."""
        return cls(
            _moment(certificate, "not_valid_before"), _moment(certificate, "not_valid_after")
        )

    @classmethod
    def days(cls, days: int, now: float) -> Validity:
        """Return the period that ends so many days after now, seconds since the epoch."""
        made = datetime.fromtimestamp(int(now), UTC)
        return cls(made - BACKDATED, made + timedelta(days=days))

    def within(self, other: Validity) -> Validity:
        """Return what both have in common."""
        return Validity(max(self.starts, other.starts), min(self.ends, other.ends))

    def fault(self, now: float) -> str:
        """Return "has expired" or "is not valid yet"; "" where it is valid."""
        if now >= self.ends.timestamp():
            return "has expired"
        return "is not valid yet" if now < self.starts.timestamp() else ""


def _moment(certificate: x509.Certificate, name: str) -> datetime:
    """Return a time of a certificate.  cryptography 42 has new names, and warns of the old ones."""
    moment: datetime | None = getattr(certificate, f"{name}_utc", None)
    return moment or getattr(certificate, name).replace(tzinfo=UTC)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Return all certificates in a PEM text.  Raises InvalidArgs."""
    try:
        return [x509.load_pem_x509_certificate(pem[block]) for block in pem_blocks(pem, _LABEL)]
    except UNREADABLE:
        raise InvalidArgs(
            "A certificate cannot be read: it is damaged, or of an unknown kind"
        ) from None


def span_of(secret: Secret) -> Validity | None:
    """Return when the first certificate in a secret is valid; None without one."""
    pem = secret.reveal()
    block = next(pem_blocks(pem, _LABEL), None)
    if block is None:
        return None
    try:
        return Validity.of(x509.load_pem_x509_certificate(pem[block]))
    except UNREADABLE:
        return None


def to_pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, 64 hexadecimal digits in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def fingerprint_of(secret: Secret) -> str:
    """Return the SHA-256 of the first certificate in a secret; "" without one."""
    pem = secret.reveal()
    block = next(pem_blocks(pem, _LABEL), None)
    if block is None:
        return ""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[block].decode("ascii"))).hexdigest()


def same_key(one: PublicKey, other: PublicKey) -> bool:
    """Whether two public keys are the same."""
    return _spki(one) == _spki(other)


def belongs_to(certificate: x509.Certificate, key: Key) -> bool:
    """Whether a certificate is that of a private key; False for one of an unknown kind."""
    try:
        found = public_key(certificate.public_key())
    except (InvalidArgs, *UNREADABLE):
        return False
    return same_key(found, key.public_key())


def request(key: Key) -> bytes:
    """Return a request for a certificate of a key (PKCS #10, PEM), without a subject."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class SigningRequest(NamedTuple):
    """A certificate signing request (PKCS #10), signed by its key."""

    subject: x509.Name
    key: PublicKey


def read_request(pem: bytes) -> SigningRequest:
    """Return a request that is signed by its own key.  Raises InvalidArgs."""
    if len(pem) > MAX_BYTES:
        raise InvalidArgs(f"A certificate request has at most {MAX_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key, subject, proven = request.public_key(), request.subject, request.is_signature_valid
    except UNREADABLE:
        raise InvalidArgs(
            'There is no certificate request in PEM form ("BEGIN CERTIFICATE REQUEST")'
        ) from None
    if not proven:
        raise InvalidArgs("The certificate request is not signed by its own key")
    return SigningRequest(subject, public_key(key))


def common_name(text: str) -> x509.Name:
    """Return a subject of one common name.  text: at most 64 characters (X.520)."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def common_names(certificate: x509.Certificate) -> list[str]:
    """Return the common names in the subject of a certificate, printable."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [without_unprintable(str(one.value)) for one in found]


def self_signed(subject: x509.Name, key: Key, span: Validity) -> x509.Certificate:
    """Make the certificate of a root that signs device certificates only."""
    builder = (
        _builder(subject, subject, key.public_key(), span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def leaf(
    subject: x509.Name, key: PublicKey, span: Validity, issuer: x509.Certificate, issuer_key: Key
) -> x509.Certificate:
    """Make the certificate of a TLS client, valid no longer than its issuer's."""
    client = ExtendedKeyUsageOID.CLIENT_AUTH
    return _leaf(subject, key, span, issuer, client).sign(issuer_key, hashes.SHA256())


def server_leaf(
    names: Sequence[str],
    key: PublicKey,
    span: Validity,
    issuer: x509.Certificate,
    issuer_key: Key,
) -> x509.Certificate:
    """Make the certificate of a TLS server, valid no longer than its issuer's.

    names: by which clients reach it, host names and IP addresses; the first is shown.
    """
    shown = common_name(names[0][:64])
    listed = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = _leaf(shown, key, span, issuer, ExtendedKeyUsageOID.SERVER_AUTH)
    return builder.add_extension(listed, critical=False).sign(issuer_key, hashes.SHA256())


def application(host: str, key: Key, span: Validity) -> x509.Certificate:
    """Make the certificate of gatewayd as a client of OPC UA, signed with its own key.

    The extensions are those of OPC 10000-6, 6.2.2.  host: the name of this gateway.
    """
    name = common_name("gatewayd")
    uses = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    uri = x509.UniformResourceIdentifier(f"urn:{host}:gatewayd")
    builder = (
        _builder(name, name, key.public_key(), span)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(*uses, "key_cert_sign"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri, _general_name(host)]), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def revocation_list(
    serials: Iterable[int], span: Validity, issuer: x509.Certificate, issuer_key: Key
) -> bytes:
    """Return the list of an issuer's certificates that are no longer valid, PEM (RFC 5280, 5).

    span: from when they are not, and until when the list may be used.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(span.starts)
        .next_update(span.ends)
        .add_extension(_issuer_key(issuer), critical=False)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(revoked.revocation_date(span.starts).build())
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _leaf(
    subject: x509.Name,
    key: PublicKey,
    span: Validity,
    issuer: x509.Certificate,
    use: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    inside = span.within(Validity.of(issuer))
    return (
        _builder(subject, issuer.subject, key, inside)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(_issuer_key(issuer), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii"))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, span: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(span.starts)
        .not_valid_after(span.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in allowed for use in _USES})


def _issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Identify the issuer's key as its own certificate does."""
    make = x509.AuthorityKeyIdentifier
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        return make.from_issuer_public_key(key)  # type: ignore[arg-type]  # an issuer's signs: not X25519, X448
    return make.from_issuer_subject_key_identifier(own.value)


def _spki(key: PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


MAX_ROOTS_BYTES = 4 << 20
"""Bytes of a file that are read; the roots of a whole system have a quarter of a MiB."""


@dataclass(frozen=True, slots=True)
class RootCertificate:
    """A root certificate.

    name: common name of its subject, printable; "" if it has none.
    sha256: fingerprint, hexadecimal in upper case.
    starts, ends: seconds since the epoch between which it is valid.
    """

    name: str
    sha256: str
    starts: float
    ends: float

    def valid(self, now: float) -> bool:
        """Whether it is valid at a time, in seconds since the epoch."""
        return self.starts <= now <= self.ends


def read_roots(path: Path) -> tuple[RootCertificate, ...]:
    """Return the certificates in a PEM file that can sign others.  Blocks.

    Raises ConfigError: it cannot be read, or holds none.
    """
    try:
        data = read_regular(path, MAX_ROOTS_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    roots = tuple(parse_roots(data))
    if not roots:
        raise ConfigError(f"{path} holds no root certificate in PEM form.")
    return roots


def parse_roots(pem: bytes) -> Iterator[RootCertificate]:
    """Yield the certificates in a text that can sign others; anything else is skipped."""
    for block in pem_blocks(pem, _LABEL):
        try:
            der = ssl.PEM_cert_to_DER_cert(pem[block].decode("ascii", "replace"))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=der)
        except (ValueError, ssl.SSLError):
            continue
        for facts in context.get_ca_certs():
            yield _root(der, facts)


def _root(der: bytes, facts: Mapping[str, Any]) -> RootCertificate:
    return RootCertificate(
        _name(facts),
        hashlib.sha256(der).hexdigest().upper(),
        *span(facts),
    )


def span(facts: Mapping[str, Any]) -> tuple[float, float]:
    """Return when a certificate is valid, from the fields of ssl: seconds since the epoch."""
    return (
        float(ssl.cert_time_to_seconds(facts["notBefore"])),
        float(ssl.cert_time_to_seconds(facts["notAfter"])),
    )


def _name(facts: Mapping[str, Any]) -> str:
    """Return the common name, with what does not print left out: a file may hold anything."""
    for part in facts.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return without_unprintable(str(value))[:64]
    return ""
