"""The route "gateway": the gateway's own name, over whose session its children are served.

The gateway is a device as those of the route "direct" are, and logs in as they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud import mqtt, network, tls
from gatewayd.cloud.alibaba import messages, reasons
from gatewayd.cloud.alibaba.direct import AlibabaSession
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.uplink import Link, LinkDown, LinkError, Uplink
from gatewayd.cloud.credential import ReadSecret
from gatewayd.cloud.faults import ConnectError, Fault
from gatewayd.cloud.provider import Issued, Keep, LoginFailed, Outcome, Refused
from gatewayd.cloud.route import Route
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

NOT_CONFIGURED = Reason(
    "gateway-not-configured",
    "The gateway's own name is not configured for this cloud any more.",
    "Configure the table 'gateway' of this cloud, or forget the gateway's device.",
)


class GatewayRoute:
    """Implements Route, for the gateway alone.

    direct: registers it, where its secret is not configured.  link: where its session is put.
    trust: of this account.  read_secret: see cloud/credential.py; called off the loop.
    now: seconds of a steady clock.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        direct: Route,
        link: Link,
        trust: tls.Trust,
        read_secret: ReadSecret,
        now: Callable[[], float],
    ) -> None:
        self._settings, self._direct, self._link = settings, direct, link
        self._trust, self._read_secret, self._now = trust, read_secret, now

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        own = self._settings.gateway
        if own is None or (own.product, own.device) != (name.product, name.device):
            return NOT_CONFIGURED
        return self._direct.why_not(name) if own.register else None

    async def obstacle(self, _: CloudName) -> Reason | None:
        """Nothing is needed but the cloud itself."""
        return None

    async def forget(self, _: CloudName) -> Reason | None:
        """Nothing binds the gateway to itself."""
        return None

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
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
            return Refused(_no_secret(str(error)))
        await keep(secret)
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> AlibabaSession:
        """Log in, listen, and put the session into the link.  Raises LoginRefused, LoginFailed."""
        login = messages.connect_login(name, secret, self._settings.sign_method)
        host, port = self._settings.host_for(name.product), self._settings.port
        try:
            server = tls.Server(
                host, port, await self._trust.context(),
                self._settings.connect_timeout, self._settings.reply_timeout,
            )  # fmt: skip
            connection = await mqtt.open_connection(
                server, login, self._settings.keepalive, _ignore
            )
        except ConnectError as error:
            raise reasons.login(error, host, port) from error
        uplink = Uplink(name, connection, self._settings.reply_timeout, self._now)
        try:
            await uplink.subscribe_all()
        except LinkError as error:
            connection.abort()
            raise LoginFailed(_why(error, uplink, host, port)) from error
        except BaseException:
            connection.abort()
            raise
        self._link.put(uplink)
        return AlibabaSession(connection)

    async def close(self) -> None:
        """Sessions belong to whoever opened them, and the rest to others."""


def _why(error: LinkError, uplink: Uplink, host: str, port: int) -> Reason:
    if isinstance(error, LinkDown):
        return network.ENDS[uplink.closed.result()]
    return network.reason(Fault.MQTT_TIMEOUT, host, port)


def _no_secret(text: str) -> Reason:
    return Reason("gateway-secret-unusable", text, "Put it right, then call Retry.")


def _ignore(_topic: str, _payload: bytes) -> None:
    """Drop what comes before anybody can listen: the children are looked at afterwards anyway."""
