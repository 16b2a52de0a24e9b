"""Certificates for keys that were made elsewhere: requests (PKCS #10), judged by the template."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from gatewayd.cloud import x509_certificates as certificates
from gatewayd.cloud.authority import Authority
from gatewayd.cloud.huawei.findings import Finding
from gatewayd.cloud.huawei.preview import preview
from gatewayd.cloud.huawei.subject import subject_of
from gatewayd.cloud.huawei.template import Template
from gatewayd.cloud.huawei.wanted import Chosen
from gatewayd.cloud.x509_keys import PublicKey, public_key
from gatewayd.errors import InvalidArgs


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
    template: Template,
    request: tuple[x509.Name, PublicKey],
    chosen: Chosen | None,
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
        raise InvalidArgs(f"The template makes no device of this: {why(judged.findings)}")
    certificate = authority.sign(chosen.x509_name() if chosen else subject, key, *span)
    return certificates.to_pem(certificate) + authority.pem


def why(findings: Iterable[Finding]) -> str:
    """Return what is fatal among findings, as one text."""
    return "; ".join(str(one).removeprefix("error: ") for one in findings if one.fatal)
