"""Looks whether everything is in place for Huawei Cloud IoTDA, without registering anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from functools import partial

from gatewayd.cloud.huawei import login
from gatewayd.cloud.huawei.certificate import read_template
from gatewayd.cloud.huawei.identity import fatal_text
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiGateway, HuaweiSettings, server
from gatewayd.cloud.huawei.template import ProvisioningTemplate, lint
from gatewayd.cloud.huawei.template_device import DesiredDevice, solve_subject
from gatewayd.cloud.preflight import (
    NOT_ASKED,
    Check,
    CheckResult,
    ConfiguredSecret,
    PreflightContext,
    certificate,
    clock,
    connection,
    credential,
    reach,
    read,
    root_checks,
    trust,
)
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED

_LINT = "Correct it, here and at the platform: gatewayctl huawei template lint"
NO_CERTIFICATES = Check(
    "template", OK, "No table 'certificates': devices do not register themselves by certificate."
)
NOT_SEEN = Check(
    "ca",
    UNSURE,
    "The device CA is in the secret store of the service, and not to be seen from here; whether "
    "the platform has verified it shows only when a device registers.",
    "While gatewayd is running, look at it: gatewayctl huawei ca show",
)


async def preflight(
    settings: HuaweiSettings, around: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield what was found of endpoint, roots, clock, template and secret.  A Preflight."""
    yield describe(settings)
    attempt = await reach(server(settings, await trust(settings.ca_file)))
    for check in connection(attempt, settings.port):
        yield check
    now = around.time()
    show = partial(certificate, now=now, whose="is trusted")
    for check in root_checks(await asyncio.to_thread(read, settings.ca_file), show):
        yield check
    yield clock([attempt], now, synchronised=around.synchronised())
    own = settings.gateway
    if settings.certificates is None:
        yield NO_CERTIFICATES
    else:
        for check in await asyncio.to_thread(of_template, settings.certificates, own):
            yield check
        yield NOT_SEEN
    if own is not None and own.login == "secret":
        yield await credential(held_by(own), around)
    yield NOT_ASKED


def describe(settings: HuaweiSettings) -> Check:
    """Say where the instance is looked for."""
    by = f", by {settings.address!a}" if settings.address else ""
    return Check("endpoint", OK, f"{settings.host!a} port {settings.port}{by}.")


def of_template(settings: HuaweiCertificates, own: HuaweiGateway | None) -> list[Check]:
    """Say whether the template can be used, and makes the gateway, where it is to.  Blocks."""
    try:
        linted = lint(read_template(settings.template_file))
    except ConfigError as error:
        return [Check("template", FAILED, f"{error}.", "Set template_file to the template's JSON.")]
    found = [
        Check("template", FAILED if one.fatal else UNSURE, f"{one}.", _LINT)
        for one in linted.findings
    ]
    if linted.template is None:
        return found
    if own is not None and own.login == "certificate":
        found += _of_gateway(linted.template, settings, own)
    return found or [Check("template", OK, f"{settings.template_file} can be used.")]


def _of_gateway(
    template: ProvisioningTemplate, settings: HuaweiCertificates, own: HuaweiGateway
) -> Iterator[Check]:
    chosen = solve_subject(template, DesiredDevice(own.device, own.product, fixed=settings.subject))
    if chosen.device is None:
        text = f"The template cannot make the gateway: {fatal_text(chosen.findings)}."
        yield Check("template", FAILED, text, _LINT)


def held_by(own: HuaweiGateway) -> ConfiguredSecret:
    """Return the secret with which the gateway logs in."""
    return ConfiguredSecret("the gateway", own.secret_credential, own.secret_file, _doubt)


def _doubt(secret: Secret) -> Check | None:
    if fault := login.secret_fault(secret):
        text = f"The secret of the gateway {fault}."
        return Check("secret", FAILED, text, "Take the device's secret from the platform.")
    return None
