"""The route "gateway": the gateway's own name, over whose session its children are served.

The gateway is a device as those of the route "direct" are, and logs in as they do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.payloads import sub_name
from gatewayd.cloud.alibaba.rate_limits import AlibabaRateLimits
from gatewayd.cloud.alibaba.reporting.device_reports import message_ids
from gatewayd.cloud.alibaba.reporting.publishers import OwnPublisher
from gatewayd.cloud.command_router import CommandRouter, EarlyPackets
from gatewayd.cloud.mqtt import MqttSession
from gatewayd.cloud.provider import (
    Issued,
    KeepSecret,
    LoginError,
    LoginRefused,
    Outcome,
    Refused,
    Route,
)
from gatewayd.cloud.sub_devices.link import subscribe
from gatewayd.cloud.sub_devices.result_codes import (
    NOT_CONFIGURED,
    given_secret_refused,
    no_gateway_secret,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network.connect_errors import ConnectError


class GatewayChildren(Protocol):
    """The children that are served over the gateway's session.

    commands: theirs, and the gateway's own.
    """

    commands: CommandRouter[SubName]

    def serve_over(self, uplink: AlibabaUplink) -> None:
        """Serve the children over the gateway's new session from now on."""

    def set_gateway_reason(self, reason: Reason | None) -> None:
        """Set why the gateway is not logged in, for the children's reasons; None if not known."""


class AlibabaGatewayRoute:
    """The route of the gateway alone.  Implements Route.

    direct: registers the gateway where its secret is not configured.
    children: they are served over its session.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        account: AlibabaAccount,
        direct: Route,
        children: GatewayChildren,
        now: Callable[[], float],
    ) -> None:
        self._account, self._settings = account, account.settings
        own = account.settings.gateway
        self._given = None
        if own is not None and not own.register:
            self._given = account.given_secret(own.secret_credential, own.secret_file)
        self._direct, self._children = direct, children
        self._limits, self._ids = AlibabaRateLimits(now), message_ids(account.random)

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        own = self._settings.gateway
        if own is None or (own.product, own.device) != (name.product, name.device):
            return NOT_CONFIGURED
        return self._direct.check_name(name) if own.register else None

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Return None: only the cloud itself is needed."""
        return None

    async def unbind(self, _: CloudName) -> Reason | None:
        """Return None: the gateway is not bound to itself."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Keep the secret that is configured, or ask the cloud for one; as Route says."""
        outcome = await self._register(name, keep)
        self._children.set_gateway_reason(getattr(outcome, "reason", None))
        return outcome

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in, subscribe, and serve the children.  Raises LoginRefused, LoginFailed."""
        try:
            return await self._connect_with_given(name, secret)
        except LoginError as error:
            self._children.set_gateway_reason(error.reason)
            raise

    def is_replaced(self, _: CloudName, secret: Secret) -> bool:
        """Whether another secret than this one was configured when that was last read."""
        return self._given is not None and self._given.replaces(secret)

    async def close(self) -> None:
        """Hold nothing: each session is closed by the code that opened it."""

    async def _register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        own = self._settings.gateway
        if own is None:
            return Refused(NOT_CONFIGURED)
        if self._given is None:
            return await self._direct.register(name, keep)
        try:
            secret = await self._given.read()
        except ConfigError as error:
            return Refused(no_gateway_secret(str(error)))
        await keep(secret)
        return Issued()

    async def _connect_with_given(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in; where the configured secret is refused, say so, and whether it was replaced."""
        try:
            return await self._connect(name, secret)
        except LoginRefused as error:
            if self._given is None:
                raise
            replaced = await self._given.was_replaced(secret)
            refusal = given_secret_refused(error.reason, self._given.where)
            raise LoginRefused(refusal, stale=replaced) from error

    async def _connect(self, name: CloudName, secret: Secret) -> MqttSession:
        login, early = payloads.connect_login(name, secret, self._settings), EarlyPackets()
        endpoint = self._account.endpoint(name)
        try:
            server = await self._account.server(name)
            connection = await mqtt.open_connection(
                server,
                login,
                self._settings.keepalive,
                early,
                max_packet=payloads.MAX_SESSION_PACKET,
            )
        except ConnectError as error:
            raise reasons.login(error, *endpoint) from error
        uplink = AlibabaUplink(
            name, connection, self._settings.reply_timeout, self._limits, self._ids
        )
        uplink.on_command = self._children.commands.handle
        early.hand_over(connection.on_message)
        await subscribe(connection, uplink.subscribe_all(), *endpoint)
        self._children.serve_over(uplink)
        own, ways = sub_name(name), lambda: uplink.reports
        return MqttSession(
            connection,
            lambda: OwnPublisher(own, ways, gateway=True),
            partial(self._children.commands.open, own),
        )
