"""The direct route: each child is registered and logged in over connections of its own.

Each child is a device of node type "direct", created in the console before.  It is registered by
MQTT dynamic registration, one TLS connection for each: the cloud pushes the secret unasked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.alibaba import messages, push, reasons
from gatewayd.cloud.alibaba.account import Account
from gatewayd.cloud.alibaba.pace import ChildLogins
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.credential import ReadSecret
from gatewayd.cloud.faults import ConnectError, Fault
from gatewayd.cloud.login import Login
from gatewayd.cloud.mqtt_session import MqttSession, ignore
from gatewayd.cloud.provider import Keep, Outcome, Refused
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError


class Direct:
    """Implements Route.

    trust, read_secret, random: as Account has them.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.Trust,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._connects = settings, ChildLogins(now)
        self._account = Account(settings, trust, read_secret, random)

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        return None if name.product in self._settings.products else reasons.NO_PRODUCT

    async def obstacle(self, _: CloudName) -> Reason | None:
        """Nothing is needed but the cloud itself."""
        return None

    async def forget(self, _: CloudName) -> Reason | None:
        """Nothing binds a direct device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        """Ask the cloud once for the child's secret, as Route says."""
        try:
            login = await self._request(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        parse = partial(messages.parse_push, name=name)
        try:
            server = await self._server(name)
            return await push.receive(server, login, self._settings.keepalive, parse, keep)
        except ConnectError as error:
            return reasons.registration(error, *self._account.endpoint(name))

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed.

        No timestamp is sent: the cloud does not need one, and the gateway's clock may be wrong.
        """
        login = messages.connect_login(name, secret, self._settings.sign_method)
        try:
            server, keepalive = await self._server(name), self._settings.keepalive
            return MqttSession(await mqtt.open_connection(server, login, keepalive, ignore))
        except ConnectError as error:
            raise reasons.login(error, *self._account.endpoint(name)) from error

    async def close(self) -> None:
        """Nothing is held: sessions belong to whoever opened them."""

    async def _request(self, name: CloudName) -> Login:
        secret, random = await self._account.product_secret(name), self._account.nonce()
        return messages.register_login(name, secret, self._settings, random)

    async def _server(self, name: CloudName) -> tls.Server:
        """Return where to connect to.  Raises ConnectError for who did so too often of late."""
        if not self._connects.take(SubName(name.product, name.device)):
            raise ConnectError(Fault.TOO_OFTEN)
        return await self._account.server(name)
