"""The preflight check of a broker; it creates nothing there, and logs in as no child.

Where passwords are to be the identity, it logs in as the manager of clients, and looks one up;
where certificates are, it tries a login without one, which must be refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from gatewayd.cloud import mqtt
from gatewayd.cloud.credentials import GivenSecret
from gatewayd.cloud.mqtt import Login
from gatewayd.cloud.mqtt_broker import dynamic_security, reasons
from gatewayd.cloud.mqtt_broker.dynamic_security import (
    CommandRefused,
    DynamicSecurity,
    ManagementFailed,
)
from gatewayd.cloud.mqtt_broker.settings import BrokerManagement, MqttBrokerSettings
from gatewayd.cloud.preflight import (
    NOTHING_REGISTERED,
    Check,
    CheckResult,
    ConfiguredSecret,
    EndpointPreflight,
    PreflightContext,
    secret_check,
)
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.tls import Server

OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED

NOT_SEEN = Check(
    "management",
    UNSURE,
    "Whether the broker accepts the management login, and has the plugin dynamic-security, was "
    "not tried: the password cannot be used here, or the broker not be reached.",
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
    first = EndpointPreflight(settings, around)
    async with contextlib.aclosing(first.checks()) as found:
        async for check in found:
            yield check
    yield names_check(settings)
    own = settings.management
    if own is not None:
        given = ConfiguredSecret(f"user {own.user!a}", own.password_credential, own.password_file)
        readable = await secret_check(given, around)
        yield readable
        has_password = own.password_credential or own.password_file is not None
        if first.reached is not None and has_password and readable.verdict is OK:
            password = await GivenSecret(around.read_secret, *_where(own)).read()
            yield await management_check(settings, first.reached, own.user, password)
        else:
            yield NOT_SEEN
    else:
        if first.reached is not None:
            yield asking_check(await answer_without_certificate(settings, first.reached))
        yield CA_NOT_SEEN
    yield NOTHING_REGISTERED


def _where(own: BrokerManagement) -> tuple[str, Path | None]:
    return own.password_credential, own.password_file


async def management_check(
    settings: MqttBrokerSettings, server: Server, user: str, password: Secret
) -> Check:
    """Return whether the broker accepts the manager of clients, and executes its commands.

    It has a client id of its own, and so ends no connection of a gatewayd that runs.
    """
    login = Login(f"gatewayd-preflight:{user}", user, password)

    async def log_in(handler: mqtt.Handler) -> mqtt.MqttConnection:
        most = dynamic_security.MAX_RESPONSE
        return await mqtt.open_connection(
            server, login, settings.keepalive, handler, max_packet=most
        )

    manager = DynamicSecurity(log_in, settings.reply_timeout)
    try:
        await dynamic_security.look_up(manager.send, user)
    except (ConnectError, ConfigError, ManagementFailed, CommandRefused) as error:
        reason = reasons.management(error, settings.host, settings.port)
        return Check("management", FAILED, reason.text, reason.remedy)
    finally:
        await manager.close()
    return Check("management", OK, f"The broker lets the user {user!a} manage clients.")


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
            FAILED,
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
