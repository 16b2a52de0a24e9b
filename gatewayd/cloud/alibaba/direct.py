"""The direct routes: each child is registered and logged in over connections of its own.

A registration over MQTT is one TLS connection: the cloud accepts a CONNECT that is signed with the
product's secret, and pushes what it issues unasked.  Devices of the route "direct" have the node
type "direct", and are created in the console before.
Source: "MQTT-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.commanding.commands import AlibabaCommands
from gatewayd.cloud.alibaba.rate_limits import ChildLogins, MessageLimits
from gatewayd.cloud.alibaba.reporting.device_reports import (
    DeviceReports,
    message_ids,
    receive_replies,
)
from gatewayd.cloud.alibaba.reporting.publishers import OwnPublisher
from gatewayd.cloud.command_router import ChildCommands, EarlyPackets, own_commands
from gatewayd.cloud.hand_over import trusted_roots
from gatewayd.cloud.mqtt import Login, MqttSession
from gatewayd.cloud.provider import (
    Credential,
    Failed,
    Issued,
    KeepSecret,
    LoginError,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, SecretCorrupt
from gatewayd.network import tls
from gatewayd.network.connect_errors import UNREACHED, ConnectError, ConnectFault

log = logging.getLogger(__name__)


class DirectRoute(ABC):
    """A route for devices that connect for themselves.  Implements Route.

    now: seconds of a steady clock.  What is signed, and what is issued, is for the subclasses.
    """

    def __init__(self, account: AlibabaAccount, now: Callable[[], float] = time.monotonic) -> None:
        self._account, self._settings = account, account.settings
        self._limits, self._now = MessageLimits(now), now

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        return self._account.check_name(name) or self._account.check_secret(name)

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Return None: only the cloud itself is needed."""
        return None

    async def unbind(self, _: CloudName) -> Reason | None:
        """Return None: a direct device is not bound to this gateway."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for what the child logs in with, as Route says."""
        try:
            secret = await self._account.product_secret(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        login = self._register_login(name, secret, self._account.nonce())
        parse = partial(self._parse_push, name=name)
        try:
            server = await self._server(name)
            return await _receive_secret(server, login, self._settings.keepalive, parse, keep)
        except ConnectError as error:
            return self._refusal(error, name)

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed."""
        login, keepalive = self._connect_login(name, secret), self._settings.keepalive
        # what the cloud has kept comes at once; for a clean session, it keeps nothing
        early = None if login.clean_session else EarlyPackets()
        try:
            server = await self._server(name)
            connection = await mqtt.open_connection(
                server, login, keepalive, early, max_packet=payloads.MAX_SESSION_PACKET
            )
        except ConnectError as error:
            raise self._login_error(error, name) from error
        session = MqttSession(
            connection,
            partial(self._publisher, name, connection),
            partial(self._commands, name, connection),
        )
        connection.on_message = session.handle_first
        if early is not None:
            early.hand_over(session.handle_first)
        async with mqtt.preparing(connection, *self._account.endpoint(name)):
            async with asyncio.timeout(self._settings.reply_timeout):
                topics = payloads.command_topics(payloads.sub_name(name))
                await mqtt.subscribe_to_commands(connection, topics, name.device)
        return session

    def _commands(self, name: CloudName, connection: mqtt.MqttConnection) -> ChildCommands:
        own = payloads.sub_name(name)
        form, limit = AlibabaCommands(own), self._limits.of(own)
        return own_commands(connection, own, form, limit, name.provider, self._now)

    def _publisher(self, name: CloudName, connection: mqtt.MqttConnection) -> OwnPublisher:
        own, seconds = payloads.sub_name(name), self._settings.reply_timeout

        def device_reports() -> DeviceReports:
            limit, ids = self._limits.of(own), message_ids(self._account.random)
            replies = partial(receive_replies, connection, seconds)
            return DeviceReports(own, connection, limit, ids, replies, seconds)

        return OwnPublisher(own, device_reports)

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with: the values that the cloud's sign is part of.

        Raises StoreError, ConfigError.
        """
        try:
            login = self._connect_login(name, secret)
        except LoginRefused as refusal:
            raise SecretCorrupt(refusal.reason.text) from refusal
        host, port = self._account.endpoint(name)
        own = f"/sys/{name.product}/{name.device}/"
        topics = {
            "prefix": own,
            "properties": f"{own}thing/event/property/post",
            "set": f"{own}thing/service/property/set",
        }
        settings = self._settings
        roots = await trusted_roots(settings.ca_file)
        return Credential(
            host, port, login.client_id, login.user_name, topics,
            address=settings.address, ca=roots, password=login.password,
        )  # fmt: skip

    async def close(self) -> None:  # noqa: B027  # a route without resources has nothing to close
        """Hold nothing: each session is closed by the code that opened it."""

    async def _server(self, name: CloudName) -> tls.Server:
        """Return where to connect to.  Raises ConnectError."""
        return await self._account.server(name)

    @abstractmethod
    def _register_login(self, name: CloudName, secret: Secret, nonce: str) -> Login:
        """Return the CONNECT of a registration.  secret: the productSecret."""

    @abstractmethod
    def _connect_login(self, name: CloudName, secret: Secret) -> Login:
        """Return the CONNECT of a login.  secret: what was issued.  Raises LoginRefused."""

    @abstractmethod
    def _parse_push(self, topic: str, payload: bytes, name: CloudName) -> Secret | None:
        """Return what a message issues to this device; None for any other message."""

    def _refusal(self, error: ConnectError, name: CloudName) -> reasons.NoSecret:
        """Return how a registration ended that was not accepted."""
        place = self._settings.products[name.product].secret_place
        return reasons.registration(error, *self._account.endpoint(name), place)

    def _login_error(self, error: ConnectError, name: CloudName) -> LoginError:
        """Return what to raise for a login that was not accepted."""
        return reasons.login(error, *self._account.endpoint(name))


class PreregisteredRoute(DirectRoute):
    """The route "direct": devices that were created at the cloud before."""

    def __init__(self, account: AlibabaAccount, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(account, now)
        self._connects = ChildLogins(now)

    async def _server(self, name: CloudName) -> tls.Server:
        """Return where to connect to.  Raises ConnectError, also after too many connects."""
        if not self._connects.take(payloads.sub_name(name)):
            raise ConnectError(ConnectFault.TOO_OFTEN)
        return await super()._server(name)

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed."""
        session = await super().connect(name, secret)
        self._connects.note(payloads.sub_name(name), None)
        return session

    def _refusal(self, error: ConnectError, name: CloudName) -> reasons.NoSecret:
        """Return how a registration ended; the limit of connects does not hide the true cause."""
        if cause := self._waiting(error, name):
            return Failed(cause)
        outcome = super()._refusal(error, name)
        self._note(error, name, outcome.reason)
        return outcome

    def _login_error(self, error: ConnectError, name: CloudName) -> LoginError:
        """Return what to raise for a login; likewise."""
        if cause := self._waiting(error, name):
            return LoginFailed(cause)
        raised = super()._login_error(error, name)
        self._note(error, name, raised.reason)
        return raised

    def _waiting(self, error: ConnectError, name: CloudName) -> Reason | None:
        if error.fault is not ConnectFault.TOO_OFTEN:
            return None
        return self._connects.waiting(payloads.sub_name(name))

    def _note(self, error: ConnectError, name: CloudName, reason: Reason) -> None:
        if error.fault is not ConnectFault.TOO_OFTEN:
            self._connects.note(payloads.sub_name(name), reason)
        if error.fault in UNREACHED:  # else what is over soon would cost a minute after it
            self._connects.give_back(payloads.sub_name(name))

    def _register_login(self, name: CloudName, secret: Secret, nonce: str) -> Login:
        return payloads.register_login(name, secret, self._settings, nonce)

    def _connect_login(self, name: CloudName, secret: Secret) -> Login:
        # Without a timestamp: the cloud does not need one, and the gateway's clock may be wrong.
        return payloads.connect_login(name, secret, self._settings)

    def _parse_push(self, topic: str, payload: bytes, name: CloudName) -> Secret | None:
        return payloads.parse_push(topic, payload, name)


_Parse: TypeAlias = Callable[[str, bytes], Secret | None]
"""Takes topic and payload of a message; returns the secret in it, if it holds one for us."""


async def _receive_secret(
    server: tls.Server, login: Login, keepalive: int, parse: _Parse, keep: KeepSecret
) -> Outcome:
    """Register once, and keep what is pushed before the connection is closed.

    Raises ConnectError where no connection was made, and what `keep` raises.
    """
    push = _Push(parse)
    connection = await mqtt.open_connection(
        server, login, keepalive, push.receive, max_packet=payloads.MAX_REGISTRATION_PACKET
    )
    try:
        secret = await push.wait(connection, server.reply_timeout)
        if secret is None:
            return Unknown(push.failure(connection))
        await keep(secret)
        await connection.close()
    finally:
        connection.abort()
    return Issued()


class _Push:
    """The message that holds the secret, while it is awaited."""

    def __init__(self, parse: _Parse) -> None:
        self._parse, self._ignored = parse, 0
        self._secret: Secret | None = None
        self._received: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(self, topic: str, payload: bytes) -> None:
        """Parse a message.  Of several secrets, the newest is the valid one."""
        secret = self._parse(topic, payload)
        if secret is None:
            self._ignored += 1
            return
        self._secret = secret
        if not self._received.done():
            self._received.set_result(None)

    async def wait(self, connection: mqtt.MqttConnection, seconds: float) -> Secret | None:
        """Return the secret; None if it did not come.

        It counts though the connection is closed by now: what was issued was issued.
        """
        await asyncio.wait(
            (self._received, connection.closed),
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return self._secret

    def failure(self, connection: mqtt.MqttConnection) -> Reason:
        """Return why no secret came."""
        if self._ignored:
            log.warning("The cloud sent %d messages without a secret.", self._ignored)
            return reasons.BAD_PUSH
        return reasons.HUNG_UP if connection.closed.done() else reasons.NO_PUSH
