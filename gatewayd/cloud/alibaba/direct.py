"""The direct route: each child is registered and logged in over connections of its own.

Each child is a device of node type "direct", created in the console before.  It is registered by
MQTT dynamic registration, one TLS connection for each: the cloud pushes the secret unasked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.alibaba import messages, push, reasons
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

_RANDOM_BYTES = 8


class Direct:
    """Implements Route.

    trust: of this account.  read_secret: see cloud/credential.py; called off the loop, anew for
    each registration, so that a file that was replaced counts at once.  random: so many bytes
    nobody can guess.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.Trust,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._read_secret, self._random = settings, read_secret, random
        self._trust, self._connects = trust, ChildLogins(now)

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
            return reasons.registration(error, *self._endpoint(name))

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed.

        No timestamp is sent: the cloud does not need one, and the gateway's clock may be wrong.
        """
        login = messages.connect_login(name, secret, self._settings.sign_method)
        try:
            server, keepalive = await self._server(name), self._settings.keepalive
            return MqttSession(await mqtt.open_connection(server, login, keepalive, ignore))
        except ConnectError as error:
            raise reasons.login(error, *self._endpoint(name)) from error

    async def close(self) -> None:
        """Nothing is held: sessions belong to whoever opened them."""

    async def _request(self, name: CloudName) -> Login:
        product = self._settings.products[name.product]
        secret = await asyncio.to_thread(
            self._read_secret, product.secret_credential, product.secret_file
        )
        random = self._random(_RANDOM_BYTES).hex()
        return messages.register_login(name, secret, self._settings, random)

    async def _server(self, name: CloudName) -> tls.Server:
        """Return where to connect to.  Raises ConnectError for who did so too often of late."""
        if not self._connects.take(SubName(name.product, name.device)):
            raise ConnectError(Fault.TOO_OFTEN)
        context, settings = await self._trust.context(), self._settings
        return tls.Server(
            *self._endpoint(name), context, settings.connect_timeout, settings.reply_timeout
        )

    def _endpoint(self, name: CloudName) -> tuple[str, int]:
        return self._settings.host_for(name.product), self._settings.port
