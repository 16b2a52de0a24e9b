"""Certificates on request, for keys made elsewhere: checked against the template.  Blocks."""

from __future__ import annotations

from collections.abc import Iterable

from gatewayd.ca import certificates
from gatewayd.ca.authority import Authority
from gatewayd.ca.certificates import SigningRequest
from gatewayd.cloud.huawei.subject import subject_of
from gatewayd.cloud.huawei.template import ProvisioningTemplate, TemplateDiagnostic
from gatewayd.cloud.huawei.template_device import SolvedSubject, preview
from gatewayd.errors import InvalidArgs


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
