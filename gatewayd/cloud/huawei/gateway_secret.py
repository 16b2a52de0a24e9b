"""How the gateway logs in with a device secret, which an operator hands in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.credential import ReadSecret
from gatewayd.cloud.faults import ConnectError
from gatewayd.cloud.huawei import credentials, reasons
from gatewayd.cloud.huawei.names import default_device_id
from gatewayd.cloud.huawei.server import server
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.provider import Issued, Keep, LoginRefused, Outcome, Refused
from gatewayd.cloud.subdevices.reasons import no_gateway_secret
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError


class SecretLogin:
    """trust: of this instance.  read_secret: see cloud/credential.py; called off the loop.
    wall: seconds since the epoch."""

    def __init__(
        self,
        settings: HuaweiSettings,
        own: HuaweiGateway,
        trust: tls.Trust,
        read_secret: ReadSecret,
        wall: Callable[[], float],
    ) -> None:
        self._settings, self._own, self._trust = settings, own, trust
        self._read_secret, self._wall = read_secret, wall

    def why_not(self, _: CloudName) -> Reason | None:
        """The platform is not asked, so that nothing can be wrong with the name."""
        return None

    async def register(self, _: CloudName, keep: Keep) -> Outcome:
        """Keep the secret that is configured; as Route says."""
        own = self._own
        try:
            secret = await asyncio.to_thread(
                self._read_secret, own.secret_credential, own.secret_file
            )
        except ConfigError as error:
            return Refused(no_gateway_secret(str(error)))
        if fault := credentials.secret_fault(secret):
            return Refused(no_gateway_secret(f"The gateway's secret {fault}."))
        await keep(secret)
        return Issued()

    async def open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler
    ) -> tuple[mqtt.Connection, str]:
        """Log in once; return the connection, and the device ID that has logged in.

        What is kept may be of an earlier configuration, and no secret: it is not shown to anybody.
        Raises LoginRefused, LoginFailed.
        """
        if credentials.secret_fault(secret):
            raise LoginRefused(reasons.NO_SECRET)
        settings, own = self._settings, self._own
        device_id = own.device_id or default_device_id(name.product, name.device)
        login = credentials.secret_login(
            device_id, secret, self._wall(), check_timestamp=own.check_timestamp
        )
        try:
            there = server(settings, await self._trust.context())
            connection = await mqtt.open_connection(there, login, settings.keepalive, on_message)
        except ConnectError as error:
            raise reasons.login(error, settings.host, settings.port) from error
        return connection, device_id
