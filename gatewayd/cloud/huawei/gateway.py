"""The route "gateway": the gateway's own name, whose session serves its children.

The gateway logs in with a secret, or with a certificate as the devices of the route "certificate"
do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeAlias

from gatewayd.cloud import mqtt
from gatewayd.cloud.command_router import ChildCommands, EarlyPackets
from gatewayd.cloud.huawei.settings import HuaweiSettings
from gatewayd.cloud.huawei.sub_device import HuaweiSubDevices
from gatewayd.cloud.mqtt import MqttSession
from gatewayd.cloud.provider import KeepSecret, LoginError, Outcome, SupportsReplacement
from gatewayd.cloud.publisher import MessagePublisher
from gatewayd.cloud.sub_devices.link import subscribe
from gatewayd.cloud.sub_devices.result_codes import NOT_CONFIGURED
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

LogIn: TypeAlias = Callable[
    [CloudName, Secret, mqtt.Handler | None], Awaitable[tuple[mqtt.MqttConnection, str]]
]
"""Logs in once; returns the connection, and the device ID logged in.  Raises LoginError."""


class CredentialSource(Protocol):
    """The source of the gateway's credential; see Route (cloud/provider.py)."""

    def check_name(self, name: CloudName) -> Reason | None: ...
    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome: ...


class HuaweiGatewayRoute:
    """The route of the gateway alone.  Implements Route.

    children: the sub-devices that its session serves.
    """

    def __init__(
        self,
        settings: HuaweiSettings,
        children: HuaweiSubDevices,
        credentials: CredentialSource,
        log_in: LogIn,
    ) -> None:
        self._settings, self._children = settings, children
        self._credentials, self._log_in = credentials, log_in

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        own = self._settings.gateway
        if own is None or (own.product, own.device) != (name.product, name.device):
            return NOT_CONFIGURED
        return self._credentials.check_name(name)

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Return None: nothing is needed but the platform itself."""
        return None

    async def unbind(self, _: CloudName) -> Reason | None:
        """Return None: nothing binds the gateway to itself."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Get the gateway's credential; see Route."""
        outcome = await self._credentials.register(name, keep)
        self._children.set_gateway_reason(getattr(outcome, "reason", None))
        return outcome

    async def connect(self, name: CloudName, secret: Secret) -> HuaweiGatewaySession:
        """Log in, subscribe, and serve the children.  Raises LoginRefused, LoginFailed."""
        try:
            with self._children.handover():
                return await self._connect(name, secret)
        except LoginError as error:
            self._children.set_gateway_reason(error.reason)
            raise

    def is_replaced(self, name: CloudName, secret: Secret) -> bool:
        """Whether another secret than this one was configured when that was last read."""
        source = self._credentials
        return isinstance(source, SupportsReplacement) and source.is_replaced(name, secret)

    async def close(self) -> None:
        """Do nothing: sessions, and the rest, are closed by their owners."""

    async def _connect(self, name: CloudName, secret: Secret) -> HuaweiGatewaySession:
        early = EarlyPackets()
        connection, device_id = await self._log_in(name, secret, early)
        uplink = self._children.uplink(connection, device_id)
        early.hand_over(connection.on_message)
        host, port = self._settings.host, self._settings.port
        await subscribe(connection, uplink.subscribe(), host, port)
        self._children.serve_over(uplink)
        publisher = partial(self._children.own_publisher, connection, device_id)
        commands = partial(self._children.commands.open, device_id)
        leave = partial(self._children.leave, uplink)
        return HuaweiGatewaySession(connection, publisher, commands, leave)


class HuaweiGatewaySession(MqttSession):
    """A session of the gateway.  Implements Session.

    leave: reports its children offline, unless another session serves them.
    """

    def __init__(
        self,
        connection: mqtt.MqttConnection,
        make_publisher: Callable[[], MessagePublisher],
        make_commands: Callable[[], ChildCommands],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(connection, make_publisher, make_commands)
        self._leave = leave

    async def close(self) -> None:
        """Report the children offline, and disconnect.  Closing twice is fine."""
        try:
            if not self._connection.closed.done():
                await self._leave()
        finally:
            await super().close()
