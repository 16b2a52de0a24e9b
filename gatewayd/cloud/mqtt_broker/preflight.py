"""The preflight check of a broker; it creates nothing there, and logs in as no user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from gatewayd.cloud.mqtt_broker.settings import MqttBrokerSettings
from gatewayd.cloud.outbound import proxy_of, server_of
from gatewayd.cloud.preflight import (
    NOT_TRIED,
    NOTHING_REGISTERED,
    Check,
    CheckResult,
    ConfiguredSecret,
    PreflightContext,
    clock_check,
    connection_checks,
    load_roots,
    probe_endpoint,
    proxy_checks,
    root_check,
    root_checks,
    secret_check,
    trust_context,
)
from gatewayd.device.record import CloudName
from gatewayd.network.addresses import AddressBook

OK, UNSURE = CheckResult.OK, CheckResult.UNSURE

NOT_SEEN = Check(
    "management",
    UNSURE,
    "Whether the broker accepts the management login, and has the plugin dynamic-security, shows "
    "only when a child registers.",
    "At the broker: mosquitto_ctrl dynsec listClients",
)


async def preflight(
    settings: MqttBrokerSettings, around: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield the checks of endpoint, roots, clock, names and password.  A Preflight."""
    address = f", address {settings.address!a}" if settings.address else ""
    yield Check("endpoint", OK, f"{settings.host!a} port {settings.port}{address}.")
    attempts = []
    of_proxy = await proxy_checks(settings, around)
    for check in of_proxy:
        yield check
    if NOT_TRIED not in of_proxy:
        proxy = proxy_of(settings, around.read_secret)
        trusted = await trust_context(settings.ca_file)
        endpoint = server_of(settings, trusted, AddressBook(), proxy)
        attempts.append(attempt := await probe_endpoint(endpoint))
        for check in connection_checks(attempt, settings.port):
            yield check
    now = around.time()
    show = partial(root_check, now=now, status="is trusted")
    for check in root_checks(await asyncio.to_thread(load_roots, settings.ca_file), show):
        yield check
    yield clock_check(attempts, now, synchronised=around.synchronised())
    yield names_check(settings)
    own = settings.management
    given = ConfiguredSecret(f"user {own.user!a}", own.password_credential, own.password_file)
    yield await secret_check(given, around)
    yield NOT_SEEN
    yield NOTHING_REGISTERED


def names_check(settings: MqttBrokerSettings) -> Check:
    """Return what a child would be at the broker."""
    product = settings.products[0] if settings.products else "PRODUCT"
    one = settings.templates.identity(CloudName("", product, "DEVICE"))
    text = (
        f"A child is the user {one.user!a} there, with the client id {one.client_id!a}; it says "
        f"{one.up}properties, and receives {one.down}set/ID."
    )
    return Check("names", OK, text)
