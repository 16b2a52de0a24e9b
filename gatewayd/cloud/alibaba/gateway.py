"""The route "gateway": the gateway's own name, over whose session its children are served.

The gateway is a device as those of the route "direct" are, and logs in as they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud import connect_errors, mqtt, tls
from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.connect_errors import ConnectError, ConnectFault
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.mqtt import MqttSession, ignore
from gatewayd.cloud.provider import Issued, KeepSecret, Outcome, Refused, Route
from gatewayd.cloud.sub_devices.link import GatewayLink, subscribe
from gatewayd.cloud.sub_devices.result_codes import NOT_CONFIGURED, no_gateway_secret
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError


class AlibabaGatewayRoute:
    """Implements Route, for the gateway alone.

    direct: registers it, where its secret is not configured.  link: where its session is put.
    trust: of this account.  read_secret: see cloud/credential.py; called off the loop.
    now: seconds of a steady clock.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        direct: Route,
        link: GatewayLink[AlibabaUplink],
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        now: Callable[[], float],
    ) -> None:
        self._settings, self._direct, self._link = settings, direct, link
        self._trust, self._read_secret, self._now = trust, read_secret, now

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        own = self._settings.gateway
        if own is None or (own.product, own.device) != (name.product, name.device):
            return NOT_CONFIGURED
        return self._direct.check_name(name) if own.register else None

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Nothing is needed but the cloud itself."""
        return None

    async def unbind(self, _: CloudName) -> Reason | None:
        """Nothing binds the gateway to itself."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Keep the secret that is configured, or ask the cloud for one; as Route says."""
        own = self._settings.gateway
        if own is None:
            return Refused(NOT_CONFIGURED)
        if own.register:
            return await self._direct.register(name, keep)
        try:
            secret = await asyncio.to_thread(
                self._read_secret, own.secret_credential, own.secret_file
            )
        except ConfigError as error:
            return Refused(no_gateway_secret(str(error)))
        await keep(secret)
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in, listen, and put the session into the link.  Raises LoginRefused, LoginFailed."""
        login = payloads.connect_login(name, secret, self._settings.sign_method)
        host, port = self._settings.host_for(name.product), self._settings.port
        try:
            server = tls.Server(
                host, port, await self._trust.context(),
                self._settings.connect_timeout, self._settings.reply_timeout,
            )  # fmt: skip
            connection = await mqtt.open_connection(server, login, self._settings.keepalive, ignore)
        except ConnectError as error:
            raise reasons.login(error, host, port) from error
        uplink = AlibabaUplink(name, connection, self._settings.reply_timeout, self._now)
        silence = connect_errors.reason(ConnectFault.MQTT_TIMEOUT, host, port)
        await subscribe(connection, uplink.subscribe_all(), silence)
        self._link.put(uplink)
        return MqttSession(connection)

    async def close(self) -> None:
        """Sessions belong to whoever opened them, and the rest to others."""
