"""The logins of a device: its CONNECT, with a device secret or with a certificate.

Source: "MQTT Connection Authentication" of the IoTDA API reference.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
import logging
import re
from collections.abc import Callable
from dataclasses import replace

from gatewayd.ca.certificates import Validity
from gatewayd.cloud import mqtt
from gatewayd.cloud.ca.identity import CertificateIdentity, read_identity
from gatewayd.cloud.credentials import GivenSecret, ReadSecret
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings, default_device_id
from gatewayd.cloud.mqtt import Login
from gatewayd.cloud.outbound import proxy_of, server_of
from gatewayd.cloud.provider import Issued, KeepSecret, LoginError, LoginRefused, Outcome, Refused
from gatewayd.cloud.sub_devices.result_codes import given_secret_refused, no_gateway_secret
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs
from gatewayd.network import tls
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError

log = logging.getLogger(__name__)

_SECRET = re.compile(rb"[A-Za-z0-9_-]{8,32}")
_ITSELF = 0
"""The second part of a client id: the id before it is that of a device."""


def certificate_login(device_id: str, now: float, *, check_timestamp: bool = False) -> Login:
    """Return the CONNECT of a device that proves itself by its certificate.

    now: seconds since the epoch.  check_timestamp: as for `secret_login`.
    """
    return _login(device_id, _hour(now), Secret(b""), check_timestamp=check_timestamp)


def secret_login(
    device_id: str, secret: Secret, now: float, *, check_timestamp: bool = False
) -> Login:
    """Return the CONNECT of a device that proves itself by its secret.

    now: seconds since the epoch; client id and password are of the same hour, read once.
    check_timestamp: whether the platform compares that hour with its own clock.
    """
    hour = _hour(now)
    password = keyed_hash(hour.encode(), secret.reveal())
    return _login(device_id, hour, Secret(password.encode()), check_timestamp=check_timestamp)


def keyed_hash(key: bytes, message: bytes) -> str:
    """Return what the platform calls HmacSHA256: lower-case hexadecimal, 64 digits."""
    return hmac.new(key, message, "sha256").hexdigest()


def secret_fault(secret: Secret) -> str:
    """Return what is wrong with a device secret; "" if nothing ("Create a Device")."""
    if _SECRET.fullmatch(secret.reveal()):
        return ""
    return "must be 8 to 32 characters: letters, digits, _ and -"


def _hour(now: float) -> str:
    return dt.datetime.fromtimestamp(now, tz=dt.UTC).strftime("%Y%m%d%H")


def _login(device_id: str, hour: str, password: Secret, *, check_timestamp: bool) -> Login:
    client_id = f"{device_id}_{_ITSELF}_{int(check_timestamp)}_{hour}"
    return Login(client_id, device_id, password)


class SecretLogin:
    """The gateway's login with a device secret, which the operator configures.

    trust: of this instance.  read_secret: see cloud/credentials.py; called off the loop.
    wall: seconds since the epoch.
    """

    def __init__(
        self,
        settings: HuaweiSettings,
        own: HuaweiGateway,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        wall: Callable[[], float],
    ) -> None:
        self._settings, self._own, self._trust = settings, own, trust
        self._given = GivenSecret(read_secret, own.secret_credential, own.secret_file)
        self._wall, self._book = wall, AddressBook()
        self._proxy = proxy_of(settings, read_secret)

    def check_name(self, _: CloudName) -> Reason | None:
        """Return None: the platform is not asked, so any name will do."""
        return None

    async def register(self, _: CloudName, keep: KeepSecret) -> Outcome:
        """Keep the configured secret; see Route."""
        try:
            secret = await self._given.read()
        except ConfigError as error:
            return Refused(no_gateway_secret(str(error)))
        if fault := secret_fault(secret):
            return Refused(no_gateway_secret(f"The gateway's secret {fault}."))
        await keep(secret)
        return Issued()

    async def open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler | None
    ) -> tuple[mqtt.MqttConnection, str]:
        """Log in once; return the connection, and the device ID that has logged in.

        A kept secret of another kind, from an earlier configuration, is not sent.  Where it is
        refused, the configured one is read again.
        Raises LoginRefused, LoginFailed.
        """
        try:
            return await self._open(name, secret, on_message)
        except LoginRefused as error:
            stale = await self._given.was_replaced(secret) or error.stale
            refusal = given_secret_refused(error.reason, self._given.where)
            raise LoginRefused(refusal, stale=stale) from error

    def is_replaced(self, _: CloudName, secret: Secret) -> bool:
        """Whether another secret than this one was configured when that was last read."""
        return self._given.replaces(secret)

    async def _open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler | None
    ) -> tuple[mqtt.MqttConnection, str]:
        if secret_fault(secret):
            raise LoginRefused(reasons.NO_SECRET)
        settings, own = self._settings, self._own
        device_id = own.device_id or default_device_id(name.product, name.device)
        login = replace(
            secret_login(device_id, secret, self._wall(), check_timestamp=own.check_timestamp),
            clean_session=settings.clean_session,
        )
        try:
            endpoint = server_of(settings, await self._trust.context(), self._book, self._proxy)
            connection = await mqtt.open_connection(endpoint, login, settings.keepalive, on_message)
        except ConnectError as error:
            raise reasons.login(error, settings.host, settings.port) from error
        return connection, device_id


class CertificateLogin:
    """The login of devices with their certificates, each over a TLS context of its own.

    read_secret: see cloud/credentials.py; for the proxy.  wall: seconds since the epoch.
    """

    def __init__(
        self, settings: HuaweiSettings, read_secret: ReadSecret, wall: Callable[[], float]
    ) -> None:
        self._settings, self._wall, self._book = settings, wall, AddressBook()
        self._proxy = proxy_of(settings, read_secret)

    async def open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler | None
    ) -> tuple[mqtt.MqttConnection, str]:
        """Log in once; return the connection, and the device ID that has logged in.

        on_message: as for mqtt.open_connection.
        Raises LoginRefused, LoginFailed.
        """
        try:
            identity = await asyncio.to_thread(read_identity, secret)
        except InvalidArgs as error:
            raise LoginRefused(reasons.NO_IDENTITY) from error
        try:
            connection = await self._connect(identity, on_message)
        except ConnectError as error:
            raise self._login_error(name, identity, error) from error
        return connection, identity.device_id

    async def _connect(
        self, identity: CertificateIdentity, on_message: mqtt.Handler | None
    ) -> mqtt.MqttConnection:
        """Connect with a context that is used once, and so resumes no TLS session."""
        settings = self._settings
        context = await asyncio.to_thread(tls.client_context, settings.ca_file, identity.secret)
        login = replace(
            certificate_login(identity.device_id, self._wall()),
            clean_session=settings.clean_session,
        )
        endpoint = server_of(settings, context, self._book, self._proxy)
        return await mqtt.open_connection(endpoint, login, settings.keepalive, on_message)

    def _login_error(
        self, name: CloudName, identity: CertificateIdentity, error: ConnectError
    ) -> LoginError:
        """Return the error, and log which certificate was shown to which endpoint."""
        settings, validity = self._settings, Validity.of(identity.certificate)
        log.info(
            "Login of %s at %s with certificate %s, valid until %s, failed: %s.",
            identity.device_id, settings.host, identity.fingerprint, validity.ends.isoformat(),
            error,
            extra={"cloud": str(name)},
        )  # fmt: skip
        fault = validity.fault(self._wall())
        attempt = reasons.LoginAttempt(settings.host, settings.port, identity.fingerprint, fault)
        return reasons.login_by_certificate(error, attempt)
