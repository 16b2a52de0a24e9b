"""The identity of a device with a certificate: device ID, key and certificate, as one secret.

The device ID is kept with them: the platform never sends it, and the template that it was computed
with may have changed by the time of a login.  For keys made elsewhere there are certificates on
request (PKCS #10), checked against the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography import x509

from gatewayd.ca import certificates
from gatewayd.ca.authority import Authority
from gatewayd.ca.certificates import SigningRequest
from gatewayd.ca.keys import key_pem, make_key, pem_blocks
from gatewayd.cloud.huawei.subject import subject_of
from gatewayd.cloud.huawei.template import ProvisioningTemplate, TemplateDiagnostic
from gatewayd.cloud.huawei.template_device import SolvedSubject, preview
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

_HEAD = re.compile(rb"Device-ID: ([A-Za-z0-9_-]{1,128})\n")
"""Stands before the first PEM block, where readers pass over it (RFC 7468, 2)."""


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """An identity.  secret: device ID, private key, certificate and its authority's certificate."""

    device_id: str
    certificate: x509.Certificate
    secret: Secret

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, as the platform has it."""
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
    head, chain = f"Device-ID: {device_id}\n", certificates.to_pem(certificate) + authority.pem
    secret = Secret(head.encode("ascii") + key_pem(key) + chain.encode("ascii"))
    return CertificateIdentity(device_id, certificate, secret)


def read_identity(secret: Secret) -> CertificateIdentity:
    """Return the identity in a secret.  Raises InvalidArgs where there is none."""
    data = secret.reveal()
    head = _HEAD.match(data)
    found = certificates.read_certificates(data) if head else []
    if head is None or not found:
        raise InvalidArgs("The secret holds no device ID with a certificate")
    return CertificateIdentity(head[1].decode("ascii"), found[0], secret)


def certify(
    authority: Authority,
    template: ProvisioningTemplate,
    request: SigningRequest,
    solved: SolvedSubject | None,
    *,
    days: int,
    now: float,
) -> str:
    """Return the certificate for a request, and that of its authority, PEM.  Blocks.

    solved: the subject that replaces the request's own; None to keep that, if the template makes a
    device of it.  days: its life, from now on.  now: seconds since the epoch.
    Raises InvalidArgs.
    """
    made = solved or preview(template, subject_of(request.subject))
    if made.device is None:
        raise InvalidArgs(
            f"The template makes no device of this subject: {fatal_text(made.diagnostics)}"
        )
    subject = solved.x509_name() if solved else request.subject
    certificate = authority.sign(subject, request.key, days, now)
    return certificates.to_pem(certificate) + authority.pem


def fatal_text(diagnostics: Iterable[TemplateDiagnostic]) -> str:
    """Return the fatal ones among diagnostics, as one text."""
    return "; ".join(str(one).removeprefix("error: ") for one in diagnostics if one.fatal)
