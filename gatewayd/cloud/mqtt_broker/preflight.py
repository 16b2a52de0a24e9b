"""The preflight check of a broker; it creates nothing there, and logs in as no user.

Where certificates are to be the identity, it tries a login without one, which must be refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import Login
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
from gatewayd.device.secret import Secret
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.tls import Server

OK, UNSURE = CheckResult.OK, CheckResult.UNSURE

NOT_SEEN = Check(
    "management",
    UNSURE,
    "Whether the broker accepts the management login, and has the plugin dynamic-security, shows "
    "only when a child registers.",
    "At the broker: mosquitto_ctrl dynsec listClients",
)

CA_NOT_SEEN = Check(
    "ca",
    UNSURE,
    "The device CA is in the secret store of the service, which this check cannot read; whether "
    "the broker trusts it shows only when a child logs in.",
    "While gatewayd is running: gatewayctl ca show --cloud CLOUD",
)


async def preflight(
    settings: MqttBrokerSettings, around: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield the checks of endpoint, roots, clock, names and password.  A Preflight."""
    address = f", address {settings.address!a}" if settings.address else ""
    yield Check("endpoint", OK, f"{settings.host!a} port {settings.port}{address}.")
    attempts, endpoint = [], None
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
    if own is not None:
        given = ConfiguredSecret(f"user {own.user!a}", own.password_credential, own.password_file)
        yield await secret_check(given, around)
        yield NOT_SEEN
    else:
        for attempt in attempts:
            if attempt.fault is None and endpoint is not None:
                yield asking_check(await answer_without_certificate(settings, endpoint))
        yield CA_NOT_SEEN
    yield NOTHING_REGISTERED


ASKED = frozenset({ConnectFault.TLS_REJECTED, ConnectFault.TLS_FAILED, ConnectFault.MQTT_CLOSED})
"""How a broker that demands a certificate ends a connection without one; TLS 1.3 does so late."""


async def answer_without_certificate(
    settings: MqttBrokerSettings, server: Server
) -> ConnectFault | None:
    """Log in without a certificate, and leave; return how that failed, None where it did not."""
    login = Login("gatewayd-preflight", "", Secret(b""))
    try:
        connection = await mqtt.open_connection(server, login, settings.keepalive)
    except ConnectError as error:
        return error.fault
    await connection.close()
    return None


def asking_check(answer: ConnectFault | None) -> Check:
    """Return whether the broker demands a certificate.

    answer: as of `answer_without_certificate`.
    """
    if answer in ASKED:
        return Check("asks", OK, "The broker accepts no client without a certificate.")
    if answer is None or answer is ConnectFault.MQTT_REFUSED:
        return Check(
            "asks",
            CheckResult.FAILED,
            "The broker demands no certificate, so that a child cannot show who it is.",
            "Set require_certificate and use_identity_as_username to true at its listener, as "
            "gatewayctl broker-config prints them, and restart it.",
        )
    return Check("asks", UNSURE, "Whether the broker demands a certificate was not seen.")


def names_check(settings: MqttBrokerSettings) -> Check:
    """Return what a child would be at the broker."""
    product = settings.products[0] if settings.products else "PRODUCT"
    one = settings.templates.identity(CloudName("", product, "DEVICE"))
    text = (
        f"A child is the user {one.user!a} there, with the client id {one.client_id!a}; it says "
        f"{one.up}properties, and receives {one.down}set/ID."
    )
    return Check("names", OK, text)
