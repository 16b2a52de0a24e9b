"""A certificate authority, with certificates of servers and clients, valid and invalid ones.

P-256, unless RSA is asked for.  Extensions are those that OpenSSL's strict checks ask for (RFC
5280, sections 4.2.1.1 to 4.2.1.3, 4.2.1.6, 4.2.1.9), since newer Pythons switch these on by
default.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

LIFE = timedelta(days=30)
"""The default life of a certificate."""

_RSA_BITS = 2_048


@dataclass(frozen=True, slots=True)
class KeyedCertificate:
    """A certificate with its private key, and the certificate of its authority; PEM."""

    certificate_pem: str
    key_pem: str = field(repr=False)
    ca_pem: str

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a TLS server with this certificate: TLS 1.2 or newer.

        The key never reaches a disk: the file that OpenSSL needs is in memory.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.present(context)
        return context

    def present(self, context: ssl.SSLContext) -> None:
        """Set this certificate in the context of a client or a server."""
        with _in_memory(self.certificate_pem + self.key_pem) as path:
            context.load_cert_chain(path)

    def write(self, folder: Path) -> None:
        """Write ca.pem, server.pem and server.key (mode 0600) into a folder that exists."""
        (folder / "ca.pem").write_text(self.ca_pem)
        (folder / "server.pem").write_text(self.certificate_pem)
        key = folder / "server.key"
        key.touch(mode=0o600)
        key.write_text(self.key_pem)


@dataclass(frozen=True, slots=True)
class RootAuthority:
    """A root certificate and its key."""

    certificate: x509.Certificate
    key: Key = field(repr=False)

    @property
    def pem(self) -> str:
        """The root certificate, which clients must trust."""
        return _pem(self.certificate)

    def issue(
        self,
        names: Sequence[str],
        ips: Sequence[str],
        not_before: datetime,
        not_after: datetime,
        *,
        rsa_key: bool = False,
        also_client: bool = False,
    ) -> KeyedCertificate:
        """Issue a server certificate for these host names and IP addresses, at least one name.

        not_before, not_after: with a time zone.
        also_client: whether the server shows it to others like itself, too.
        """
        alternatives = [
            *(x509.DNSName(name) for name in names),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips),
        ]
        names_extension = x509.SubjectAlternativeName(alternatives)
        key, builder = _leaf(_name(names[0]), not_before, not_after, rsa_key=rsa_key)
        builder = builder.add_extension(names_extension, critical=False)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._sign(builder, key, uses if also_client else uses[:1])

    def issue_client(
        self,
        subject: Sequence[tuple[str, str]],
        not_before: datetime,
        not_after: datetime,
        *,
        rsa_key: bool = False,
    ) -> KeyedCertificate:
        """Issue a client certificate.  subject: object identifiers and values, in their order."""
        name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(a), b) for a, b in subject])
        key, builder = _leaf(name, not_before, not_after, rsa_key=rsa_key)
        return self._sign(builder, key, [ExtendedKeyUsageOID.CLIENT_AUTH])

    def _sign(
        self, builder: x509.CertificateBuilder, key: Key, uses: Sequence[x509.ObjectIdentifier]
    ) -> KeyedCertificate:
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(authority=False), True),
            (x509.ExtendedKeyUsage(uses), False),
            (_authority_key(self.certificate), False),
        ):
            builder = builder.add_extension(extension, critical)
        builder = builder.issuer_name(self.certificate.subject)
        return KeyedCertificate(
            _pem(builder.sign(self.key, hashes.SHA256())), _key_pem(key), self.pem
        )


def make_ca(
    name: str, not_before: datetime, not_after: datetime, *, rsa_key: bool = False
) -> RootAuthority:
    """Make a root authority; two of the same name do not trust each other's certificates."""
    key = _new_key(rsa_key=rsa_key)
    builder = (
        _builder(_name(name), key, not_before, not_after)
        .issuer_name(_name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )
    return RootAuthority(builder.sign(key, hashes.SHA256()), key)


def written_ca(authority: RootAuthority) -> str:
    """Return a root authority as text: its certificate and its key, PEM."""
    return authority.pem + _key_pem(authority.key)


def read_ca(text: str) -> RootAuthority:
    """Return the root authority in such a text.  Raises ValueError."""
    key = serialization.load_pem_private_key(text.encode("ascii"), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey), "written so"
    return RootAuthority(x509.load_pem_x509_certificate(text.encode("ascii")), key)


def der_of(value: object) -> bytes | None:
    """Return a certificate in DER; None where it is no certificate."""
    if not isinstance(value, x509.Certificate):
        return None
    return value.public_bytes(serialization.Encoding.DER)


def of_der(data: bytes) -> object:
    """Return the certificate in such bytes.  Raises ValueError."""
    return x509.load_der_x509_certificate(data)


def localhost(authority: RootAuthority, now: datetime) -> KeyedCertificate:
    """Issue a valid certificate for this machine."""
    return authority.issue(["localhost"], ["127.0.0.1"], now - LIFE, now + LIFE)


def expired(authority: RootAuthority, now: datetime) -> KeyedCertificate:
    """Issue a certificate for this machine that expired an hour ago."""
    return authority.issue(["localhost"], ["127.0.0.1"], now - LIFE, now - timedelta(hours=1))


def wrong_host(authority: RootAuthority, now: datetime) -> KeyedCertificate:
    """Issue a valid certificate for another host."""
    return authority.issue(["elsewhere.example"], ["192.0.2.1"], now - LIFE, now + LIFE)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def life(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """Return the begin and the end of a certificate's validity."""
    return _moment(certificate, "not_valid_before"), _moment(certificate, "not_valid_after")


def _moment(certificate: x509.Certificate, name: str) -> datetime:
    """Return a moment in UTC; cryptography 42 and newer have an attribute for it."""
    if moment := getattr(certificate, f"{name}_utc", None):
        return cast("datetime", moment)
    return cast("datetime", getattr(certificate, name)).replace(tzinfo=UTC)


def _new_key(*, rsa_key: bool) -> Key:
    if rsa_key:
        return rsa.generate_private_key(public_exponent=65_537, key_size=_RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _leaf(
    name: x509.Name, not_before: datetime, not_after: datetime, *, rsa_key: bool
) -> tuple[Key, x509.CertificateBuilder]:
    key = _new_key(rsa_key=rsa_key)
    return key, _builder(name, key, not_before, not_after)


def _builder(
    name: x509.Name, key: Key, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file that exists in memory only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.set_blocking(descriptor, False)  # memory never blocks; satisfies the watcher of the loop
        os.write(descriptor, text.encode("ascii"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
