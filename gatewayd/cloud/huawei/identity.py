"""Who a device is at the platform: its device ID, its key and its certificate, as one secret.

The device ID is kept with them: the platform never tells it, and the template by which it was
computed may be another by the time of a login.

Certificates for keys that were made elsewhere: requests (PKCS #10), judged by the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from gatewayd.cloud.ca import certificates
from gatewayd.cloud.ca.authority import Authority
from gatewayd.cloud.ca.keys import PublicKey, key_pem, make_key, public_key
from gatewayd.cloud.huawei.subject import TemplateDiagnostic, subject_of
from gatewayd.cloud.huawei.template import ProvisioningTemplate
from gatewayd.cloud.huawei.template_device import SolvedSubject, preview
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

_HEAD = re.compile(rb"Device-ID: ([A-Za-z0-9_-]{1,128})\n")
"""Stands before the first PEM block, where readers pass over it (RFC 7468, 2)."""


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """secret: the device ID, the private key, the certificate and that of its authority."""

    device_id: str
    certificate: x509.Certificate
    secret: Secret

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, as the platform has it."""
        return certificates.fingerprint(self.certificate)


@dataclass(frozen=True, slots=True)
class IssueOptions:
    """How certificates are issued.  algorithm: of the key, one of x509_keys.ALGORITHMS."""

    algorithm: str
    days: int


def make_identity(
    authority: Authority, device_id: str, subject: x509.Name, how: IssueOptions, now: float
) -> CertificateIdentity:
    """Make a key and its certificate.  Blocks.  now: seconds since the epoch."""
    key = make_key(how.algorithm)
    certificate = authority.sign(subject, key.public_key(), how.days, now)
    head, chain = f"Device-ID: {device_id}\n", certificates.to_pem(certificate) + authority.pem
    secret = Secret(head.encode("ascii") + key_pem(key) + chain.encode("ascii"))
    return CertificateIdentity(device_id, certificate, secret)


def read_identity(secret: Secret) -> CertificateIdentity:
    """Return what was made.  Raises InvalidArgs for what is no identity."""
    data = secret.reveal()
    head = _HEAD.match(data)
    found = certificates.read_certificates(data) if head else []
    if head is None or not found:
        raise InvalidArgs("It holds no device ID and certificate")
    return CertificateIdentity(head[1].decode("ascii"), found[0], secret)


def read_request(pem: bytes) -> tuple[x509.Name, PublicKey]:
    """Return the subject and the key that a request asks for, which has proven to have the key.

    Raises InvalidArgs.
    """
    if len(pem) > certificates.MAX_BYTES:
        raise InvalidArgs(f"A request has at most {certificates.MAX_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key, subject, proven = request.public_key(), request.subject, request.is_signature_valid
    except certificates.UNREADABLE:
        raise InvalidArgs('No request in the form PEM ("BEGIN CERTIFICATE REQUEST")') from None
    if not proven:
        raise InvalidArgs("The request is not signed by its own key")
    return subject, public_key(key)


def certify(
    authority: Authority,
    template: ProvisioningTemplate,
    request: tuple[x509.Name, PublicKey],
    chosen: SolvedSubject | None,
    span: tuple[int, float],
) -> str:
    """Return the certificate for a request, and that of its authority, PEM.  Blocks.

    chosen: the subject to take in place of the request's own; None to take that, where the
    template makes a device of it.  span: for how many days, and from when, seconds since the epoch.
    Raises InvalidArgs.
    """
    subject, key = request
    judged = chosen or preview(template, subject_of(subject))
    if judged.device is None:
        raise InvalidArgs(f"The template makes no device of this: {fatal_text(judged.findings)}")
    certificate = authority.sign(chosen.x509_name() if chosen else subject, key, *span)
    return certificates.to_pem(certificate) + authority.pem


def fatal_text(findings: Iterable[TemplateDiagnostic]) -> str:
    """Return what is fatal among findings, as one text."""
    return "; ".join(str(one).removeprefix("error: ") for one in findings if one.fatal)
