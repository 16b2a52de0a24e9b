"""The preflight check of Huawei Cloud IoTDA; it registers nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

from gatewayd.ca.certificates import Validity
from gatewayd.cloud.ca.identity import DAY
from gatewayd.cloud.huawei import login
from gatewayd.cloud.huawei.certificate import read_template
from gatewayd.cloud.huawei.identity import fatal_text
from gatewayd.cloud.huawei.settings import (
    RENEW_BEFORE,
    SELF_REGISTRATION_REMEDY,
    HuaweiCertificates,
    HuaweiGateway,
    HuaweiSettings,
    self_registration_doubt,
)
from gatewayd.cloud.huawei.subject import subject_of
from gatewayd.cloud.huawei.template import ProvisioningTemplate, lint
from gatewayd.cloud.huawei.template_device import DesiredDevice, preview, solve_subject
from gatewayd.cloud.preflight import (
    NOTHING_REGISTERED,
    Check,
    CheckResult,
    ConfiguredSecret,
    EndpointPreflight,
    PreflightContext,
    secret_check,
)
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED

_LINT = "Correct it, here and at the platform: gatewayctl huawei template lint FILE"
_OWN = (
    "Correct certificate_file, private_key_file or private_key_credential of the gateway, or give "
    "the right key."
)
_NEWER = "Put a newer certificate with its key there: it is due for renewal."
_OTHER = (
    "Get a certificate with the gateway's subject; or set gateway.device_id, where the gateway was "
    "created at the platform by hand."
)
NO_CERTIFICATES = Check(
    "template", OK, "No table 'certificates': devices do not register themselves by certificate."
)
NOT_SEEN = Check(
    "ca",
    UNSURE,
    "The device CA is in the secret store of the service, which this check cannot read; whether "
    "the platform has verified it shows only when a device registers.",
    "While gatewayd is running: gatewayctl ca show --cloud CLOUD",
)


async def preflight(
    settings: HuaweiSettings, around: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield the checks of endpoint, roots, clock, template and secret.  A Preflight."""
    first = EndpointPreflight(settings, around)
    async with contextlib.aclosing(first.checks()) as found:
        async for check in found:
            yield check
    own = settings.gateway
    if settings.certificates is None:
        yield NO_CERTIFICATES
    else:
        if doubt := self_registration_doubt(settings.host):
            text = f"{doubt[0].upper()}{doubt[1:]}."
            yield Check("instance", UNSURE, text, f"{SELF_REGISTRATION_REMEDY}.")
        for check in await asyncio.to_thread(check_template, settings.certificates, own):
            yield check
        yield NOT_SEEN
    if own is not None and own.files is not None:
        for check in await asyncio.to_thread(own_certificate_checks, settings, own, around):
            yield check
    elif own is not None and own.login == "secret":
        yield await secret_check(gateway_secret(own), around)
    yield NOTHING_REGISTERED


def check_template(settings: HuaweiCertificates, own: HuaweiGateway | None) -> list[Check]:
    """Check that the template can be used, and makes the gateway where it must.  Blocks."""
    try:
        linted = lint(read_template(settings.template_file))
    except ConfigError as error:
        return [Check("template", FAILED, f"{error}.", "Set template_file to the template's JSON.")]
    found = [
        Check("template", FAILED if one.fatal else UNSURE, f"{one}.", _LINT)
        for one in linted.diagnostics
    ]
    if linted.template is None:
        return found
    if own is not None and own.login == "certificate" and own.files is None:
        found += _check_gateway(linted.template, settings, own)
    return found or [Check("template", OK, f"{settings.template_file} can be used.")]


def _check_gateway(
    template: ProvisioningTemplate, settings: HuaweiCertificates, own: HuaweiGateway
) -> Iterator[Check]:
    solved = solve_subject(template, DesiredDevice(own.device, own.product, fixed=settings.subject))
    if solved.device is None:
        text = f"The template cannot make the gateway: {fatal_text(solved.diagnostics)}."
        yield Check("template", FAILED, text, _LINT)


def own_certificate_checks(
    settings: HuaweiSettings, own: HuaweiGateway, around: PreflightContext
) -> list[Check]:
    """Check the certificate that the gateway has already, and its key.  Blocks."""
    files, now = own.files, around.time()
    assert files is not None, "the caller has looked"
    try:
        identity = files.read(around.read_secret, own.own_device_id, now)
    except ConfigError as error:
        return [Check("certificate", FAILED, str(error), _OWN)]
    span, table = Validity.of(identity.certificate), settings.certificates
    text = f"{files.certificate} fits its key, and is valid until {span.ends:%Y-%m-%d}."
    days = int((span.ends.timestamp() - now) // DAY)
    due = days < (table.renew_before if table else RENEW_BEFORE)
    found = [Check("certificate", UNSURE if due else OK, text, _NEWER if due else "")]
    template = _template(table)
    if template is not None and not own.device_id:
        made = preview(template, subject_of(identity.certificate.subject)).device
        if made is None or made.device_id != own.own_device_id:
            shown = made.device_id if made else "none"
            text = f"The template makes {shown} of it, and not the gateway {own.own_device_id}."
            found.append(Check("certificate", FAILED, text, _OTHER))
    return found


def _template(settings: HuaweiCertificates | None) -> ProvisioningTemplate | None:
    if settings is None:
        return None
    try:
        return lint(read_template(settings.template_file)).template
    except ConfigError:
        return None  # the check of the template says so


def gateway_secret(own: HuaweiGateway) -> ConfiguredSecret:
    """Return the secret that the gateway logs in with."""
    return ConfiguredSecret("the gateway", own.secret_credential, own.secret_file, _check_secret)


def _check_secret(secret: Secret) -> Check | None:
    if fault := login.secret_fault(secret):
        text = f"The secret of the gateway {fault}."
        return Check("secret", FAILED, text, "Take the device's secret from the platform.")
    return None
