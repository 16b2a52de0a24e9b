"""The direct route: each child is registered and logged in over connections of its own.

Each child is a device of node type "direct", created in the console before.  It is registered by
MQTT dynamic registration, one TLS connection for each: the cloud pushes the secret unasked.

A registration over MQTT: the cloud accepts a CONNECT, and pushes what it issues unasked.

Source: "MQTT-based dynamic registration" of the IoT Platform documentation.

What the routes of one account have in common: where they connect to, and product secrets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.connection import ChildLogins
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.connect_errors import ConnectError, ConnectFault
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.mqtt import Login, MqttSession, ignore
from gatewayd.cloud.provider import Issued, KeepSecret, Outcome, Refused, Unknown
from gatewayd.cloud.tls import Server
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

log = logging.getLogger(__name__)

Parse: TypeAlias = Callable[[str, bytes], Secret | None]
"""Takes topic and payload of a message; returns the secret in it, if it holds one for us."""


async def receive(
    server: Server, login: Login, keepalive: int, parse: Parse, keep: KeepSecret
) -> Outcome:
    """Register once, and keep what is pushed before the cloud is left.

    Raises ConnectError where no connection was made, and what `keep` raises.
    """
    push = _Push(parse)
    connection = await mqtt.open_connection(server, login, keepalive, push.take)
    try:
        secret = await push.wait(connection, server.reply_timeout)
        if secret is None:
            return Unknown(push.check_name(connection))
        await keep(secret)
        await connection.close()
    finally:
        connection.abort()
    return Issued()


class _Push:
    """Waits for the message that holds the secret."""

    def __init__(self, parse: Parse) -> None:
        self._parse, self._ignored = parse, 0
        self._secret: Secret | None = None
        self._came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, topic: str, payload: bytes) -> None:
        """Look at a message.  Of several secrets, the newest is the valid one."""
        secret = self._parse(topic, payload)
        if secret is None:
            self._ignored += 1
            return
        self._secret = secret
        if not self._came.done():
            self._came.set_result(None)

    async def wait(self, connection: mqtt.MqttConnection, seconds: float) -> Secret | None:
        """Return the secret; None if it did not come.

        It counts though the connection is closed by now: what was issued was issued.
        """
        await asyncio.wait(
            (self._came, connection.closed),
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return self._secret

    def check_name(self, connection: mqtt.MqttConnection) -> Reason:
        """Tell why no secret came."""
        if self._ignored:
            log.warning("The cloud sent %d messages without a secret.", self._ignored)
            return reasons.BAD_PUSH
        return reasons.HUNG_UP if connection.closed.done() else reasons.NO_PUSH


_RANDOM_BYTES = 8


class AlibabaAccount:
    """trust: of this account.  random: so many bytes nobody can guess.

    read_secret: see cloud/credential.py; called off the loop, anew for each registration, so that
    a file that was replaced counts at once.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
    ) -> None:
        self._settings, self._trust = settings, trust
        self._read_secret, self._random = read_secret, random

    def endpoint(self, name: CloudName) -> tuple[str, int]:
        """Return host and port for a device."""
        return self._settings.host_for(name.product), self._settings.port

    async def server(self, name: CloudName) -> tls.Server:
        """Return where a device connects to.  Raises ConnectError."""
        context, settings = await self._trust.context(), self._settings
        return tls.Server(
            *self.endpoint(name), context, settings.connect_timeout, settings.reply_timeout
        )

    async def product_secret(self, name: CloudName) -> Secret:
        """Read the secret of a device's product.  Raises ConfigError."""
        product = self._settings.products[name.product]
        return await asyncio.to_thread(
            self._read_secret, product.secret_credential, product.secret_file
        )

    def nonce(self) -> str:
        """Return what makes a request unlike any other."""
        return self._random(_RANDOM_BYTES).hex()


class DirectRoute:
    """Implements Route.

    trust, read_secret, random: as Account has them.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._connects = settings, ChildLogins(now)
        self._account = AlibabaAccount(settings, trust, read_secret, random)

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        return None if name.product in self._settings.products else reasons.NO_PRODUCT

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Nothing is needed but the cloud itself."""
        return None

    async def unbind(self, _: CloudName) -> Reason | None:
        """Nothing binds a direct device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret, as Route says."""
        try:
            login = await self._request(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        parse = partial(payloads.parse_push, name=name)
        try:
            server = await self._server(name)
            return await receive(server, login, self._settings.keepalive, parse, keep)
        except ConnectError as error:
            return reasons.registration(error, *self._account.endpoint(name))

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed.

        No timestamp is sent: the cloud does not need one, and the gateway's clock may be wrong.
        """
        login = payloads.connect_login(name, secret, self._settings.sign_method)
        try:
            server, keepalive = await self._server(name), self._settings.keepalive
            return MqttSession(await mqtt.open_connection(server, login, keepalive, ignore))
        except ConnectError as error:
            raise reasons.login(error, *self._account.endpoint(name)) from error

    async def close(self) -> None:
        """Nothing is held: sessions belong to whoever opened them."""

    async def _request(self, name: CloudName) -> Login:
        secret, random = await self._account.product_secret(name), self._account.nonce()
        return payloads.register_login(name, secret, self._settings, random)

    async def _server(self, name: CloudName) -> tls.Server:
        """Return where to connect to.  Raises ConnectError for who did so too often of late."""
        if not self._connects.take(SubName(name.product, name.device)):
            raise ConnectError(ConnectFault.TOO_OFTEN)
        return await self._account.server(name)
