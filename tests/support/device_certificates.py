"""Certificates of devices, as a vendor makes them: IEEE 802.1AR, and what is wrong with some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DeviceKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""What an IDevID has that does not expire: 99991231235959Z (RFC 5280, 4.1.2.5)."""
BEGUN = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DeviceCertificate:
    """A certificate with its key and what leads to it, PEM."""

    certificate: x509.Certificate
    key: DeviceKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def write(self, folder: Path, name: str) -> tuple[Path, Path, Path]:
        """Write certificate, key and chain; return where."""
        paths = tuple(folder / f"{name}.{part}.pem" for part in ("cert", "key", "chain"))
        paths[0].write_text(pem(self.certificate))
        paths[1].write_bytes(self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ))  # fmt: skip
        paths[2].write_text("".join(map(pem, self.chain)))
        return paths[0], paths[1], paths[2]


@dataclass(frozen=True)
class Vendor:
    """A vendor's CA: a root, and by it the CA of a product line, which signs devices."""

    root: DeviceCertificate
    line: DeviceCertificate

    @property
    def pem(self) -> str:
        """The root, which a gateway has in its ca_files."""
        return pem(self.root.certificate)

    def device(
        self,
        serial: str,
        *,
        name: str = "P3245-LV",
        not_after: datetime = NO_END,
        not_before: datetime = BEGUN,
        extensions: Sequence[x509.ExtensionType] = (),
        key: DeviceKey | None = None,
    ) -> DeviceCertificate:
        """Issue the certificate of a device; the chain has the CA of its product line."""
        subject = x509.Name([
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            *([x509.NameAttribute(NameOID.SERIAL_NUMBER, serial)] if serial else []),
        ])  # fmt: skip
        made = issue(subject, self.line, not_before, not_after, extensions, key=key)
        return DeviceCertificate(made.certificate, made.key, (self.line.certificate,))


def vendor(name: str = "Axis") -> Vendor:
    """Make a vendor."""
    root = authority(f"{name} root CA", None)
    return Vendor(root, authority(f"{name} device CA", root, path_length=0))


def authority(
    name: str, parent: DeviceCertificate | None, path_length: int | None = None
) -> DeviceCertificate:
    """Make a CA below another, or a root."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    basic = x509.BasicConstraints(ca=True, path_length=path_length)
    return issue(subject, parent, BEGUN, NO_END, [basic, _CA_USAGE])


def self_signed(name: str, key: DeviceKey | None = None) -> DeviceCertificate:
    """Make what most devices have: a certificate that they signed themselves."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return issue(subject, None, BEGUN, NO_END, [], key=key)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key of RSA, as applications of OPC UA have."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def issue(
    subject: x509.Name,
    parent: DeviceCertificate | None,
    not_before: datetime,
    not_after: datetime,
    extensions: Sequence[x509.ExtensionType],
    *,
    key: DeviceKey | None = None,
) -> DeviceCertificate:
    """Make a certificate; one without a parent is signed by its own key."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    issuer, signing = (parent.certificate.subject, parent.key) if parent else (subject, own)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
    )
    for one in extensions:
        builder = builder.add_extension(
            one, critical=not isinstance(one, x509.SubjectAlternativeName)
        )
    return DeviceCertificate(builder.sign(signing, hashes.SHA256()), own)


def ago(**time: int) -> datetime:
    """Return a moment before now."""
    return datetime.now(tz=UTC) - timedelta(**time)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


_CA_USAGE = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
    encipher_only=False, decipher_only=False,
)  # fmt: skip
