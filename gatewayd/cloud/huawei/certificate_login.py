"""A login by certificate: a connection for one identity, with a TLS context of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.faults import ConnectError
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.credentials import certificate_login
from gatewayd.cloud.huawei.identity import Identity, read_identity
from gatewayd.cloud.huawei.server import server
from gatewayd.cloud.huawei.settings import HuaweiSettings
from gatewayd.cloud.provider import LoginError, LoginRefused
from gatewayd.cloud.x509_certificates import Span
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

log = logging.getLogger(__name__)


class CertificateLogin:
    """Logs in devices by what identity.py has made.  wall: seconds since the epoch."""

    def __init__(self, settings: HuaweiSettings, wall: Callable[[], float]) -> None:
        self._settings, self._wall = settings, wall

    async def open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler
    ) -> tuple[mqtt.Connection, str]:
        """Log in once; return the connection, and the device ID that it is logged in as.

        on_message: as for mqtt.open_connection.
        Raises LoginRefused, LoginFailed.
        """
        try:
            identity = await asyncio.to_thread(read_identity, secret)
        except InvalidArgs as error:
            raise LoginRefused(reasons.UNREADABLE) from error
        try:
            connection = await self._connect(identity, on_message)
        except ConnectError as error:
            raise self._refused(name, identity, error) from error
        return connection, identity.device_id

    async def _connect(self, identity: Identity, on_message: mqtt.Handler) -> mqtt.Connection:
        """Connect with a context that is used for nothing else, and so resumes no session."""
        settings = self._settings
        context = await asyncio.to_thread(tls.client_context, settings.ca_file, identity.secret)
        login = certificate_login(identity.device_id, self._wall())
        return await mqtt.open_connection(
            server(settings, context), login, settings.keepalive, on_message
        )

    def _refused(self, name: CloudName, identity: Identity, error: ConnectError) -> LoginError:
        """Say why, and log what tells one certificate, clock and endpoint from another."""
        settings, span = self._settings, Span.of(identity.certificate)
        log.info(
            "No login of %s at %s: %s. It showed %s, valid until %s.",
            identity.device_id, settings.host, error, identity.fingerprint, span.ends.isoformat(),
            extra={"cloud": str(name)},
        )  # fmt: skip
        fault = span.fault(self._wall())
        shown = reasons.Shown(settings.host, settings.port, identity.fingerprint, fault)
        return reasons.login_by_certificate(error, shown)
