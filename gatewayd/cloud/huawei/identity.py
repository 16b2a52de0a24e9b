"""Who a device is at the platform: its device ID, its key and its certificate, as one secret.

The device ID is kept with them: the platform never tells it, and the template by which it was
computed may be another by the time of a login.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509

from gatewayd.cloud import x509_certificates as certificates
from gatewayd.cloud.authority import Authority
from gatewayd.cloud.x509_keys import key_pem, make_key
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

_HEAD = re.compile(rb"Device-ID: ([A-Za-z0-9_-]{1,128})\n")
"""Stands before the first PEM block, where readers pass over it (RFC 7468, 2)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """secret: the device ID, the private key, the certificate and that of its authority."""

    device_id: str
    certificate: x509.Certificate
    secret: Secret

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, as the platform has it."""
        return certificates.fingerprint(self.certificate)


@dataclass(frozen=True, slots=True)
class Issue:
    """How certificates are issued.  algorithm: of the key, one of x509_keys.ALGORITHMS."""

    algorithm: str
    days: int


def make_identity(
    authority: Authority, device_id: str, subject: x509.Name, how: Issue, now: float
) -> Identity:
    """Make a key and its certificate.  Blocks.  now: seconds since the epoch."""
    key = make_key(how.algorithm)
    certificate = authority.sign(subject, key.public_key(), how.days, now)
    head, chain = f"Device-ID: {device_id}\n", certificates.to_pem(certificate) + authority.pem
    secret = Secret(head.encode("ascii") + key_pem(key) + chain.encode("ascii"))
    return Identity(device_id, certificate, secret)


def read_identity(secret: Secret) -> Identity:
    """Return what was made.  Raises InvalidArgs for what is no identity."""
    data = secret.reveal()
    head = _HEAD.match(data)
    found = certificates.read_certificates(data) if head else []
    if head is None or not found:
        raise InvalidArgs("It holds no device ID and certificate")
    return Identity(head[1].decode("ascii"), found[0], secret)
