"""The identity of a device with a certificate: its name, key and certificate, as one secret.

The name is kept with them: what a device is at its cloud may be computed otherwise by the time of a
login, from a template or settings that have changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509

from gatewayd.ca import certificates
from gatewayd.ca.authority import Authority
from gatewayd.ca.keys import key_pem, make_key, pem_blocks
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

_HEAD = re.compile(rb"Device-ID: ([A-Za-z0-9._/-]{1,256})\n")
"""Stands before the first PEM block, where readers pass over it (RFC 7468, 2)."""
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """An identity.  secret: device ID, private key, certificate and its authority's certificate."""

    device_id: str
    certificate: x509.Certificate
    secret: Secret

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, as a cloud shows it."""
        return certificates.fingerprint(self.certificate)

    @property
    def chain(self) -> str:
        """The certificate, and that of its authority, PEM."""
        return "".join(f"{block}\n" for block in self._blocks(b"CERTIFICATE"))

    @property
    def key(self) -> Secret:
        """The private key, PEM."""
        return Secret("".join(f"{block}\n" for block in self._blocks(b"PRIVATE KEY")).encode())

    def _blocks(self, label: bytes) -> Iterator[str]:
        pem = self.secret.reveal()
        return (pem[block].decode("ascii") for block in pem_blocks(pem, label))


@dataclass(frozen=True, slots=True)
class IssueOptions:
    """How certificates are issued.  algorithm: of the key, one of ca.keys.ALGORITHMS."""

    algorithm: str
    days: int


def make_identity(
    authority: Authority, device_id: str, subject: x509.Name, how: IssueOptions, now: float
) -> CertificateIdentity:
    """Make a key and its certificate.  Blocks.  now: seconds since the epoch."""
    key = make_key(how.algorithm)
    certificate = authority.sign(subject, key.public_key(), how.days, now)
    chain = certificates.to_pem(certificate) + authority.pem
    return keep_identity(device_id, Secret(key_pem(key) + chain.encode("ascii")))


def keep_identity(device_id: str, pem: Secret) -> CertificateIdentity:
    """Return an identity in the form in which it is kept.

    pem: key and certificate, then those above it.  Raises InvalidArgs without a certificate.
    """
    head = f"Device-ID: {device_id}\n".encode("ascii")
    return read_identity(Secret(head + pem.reveal()))


def read_identity(secret: Secret) -> CertificateIdentity:
    """Return the identity in a secret.  Raises InvalidArgs where there is none."""
    data = secret.reveal()
    head = _HEAD.match(data)
    found = certificates.read_certificates(data) if head else []
    if head is None or not found:
        raise InvalidArgs("The secret holds no device ID with a certificate")
    return CertificateIdentity(head[1].decode("ascii"), found[0], secret)


def renewal_due(secret: Secret, days_before: int, now: float) -> float | None:
    """Return when to replace a certificate: before its end, seconds since the epoch; None without.

    One that begins in the future was made by a wrong clock, and is replaced at once.
    """
    span = certificates.span_of(secret)
    if span is None:
        return None
    ahead = span.starts.timestamp() > now
    return 0.0 if ahead else span.ends.timestamp() - days_before * DAY
