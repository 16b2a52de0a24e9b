"""The route "password": a child's password is made here, durable here, then made known there.

The broker is looked up first, and asked last: so a password that it knows is never lost, and one
that it does not know, as an answer or gatewayd was lost meanwhile, is made known at the first login
that it refuses.  Passwords are numbered for that, here and in the client's description there: the
higher number holds.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from gatewayd.cloud import mqtt
from gatewayd.cloud.command_router import ChildCommands, own_commands
from gatewayd.cloud.credentials import GivenSecret, ReadSecret
from gatewayd.cloud.hand_over import trusted_roots
from gatewayd.cloud.mqtt import Login, MqttSession
from gatewayd.cloud.mqtt_broker import dynamic_security, messages, reasons
from gatewayd.cloud.mqtt_broker.dynamic_security import (
    CommandRefused,
    DynamicSecurity,
    FoundChild,
    ManagementFailed,
    Owner,
)
from gatewayd.cloud.mqtt_broker.large_messages import CautiousPublisher, LargeMessages
from gatewayd.cloud.mqtt_broker.messages import TopicCommands
from gatewayd.cloud.mqtt_broker.settings import MqttBrokerSettings
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.cloud.outbound import proxy_of, server_of
from gatewayd.cloud.provider import (
    Credential,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
)
from gatewayd.cloud.publisher import MqttPublisher
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, SecretCorrupt
from gatewayd.network import tls
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError
from gatewayd.network.tls import Server
from gatewayd.runtime.rate_limiter import Pacer, RateLimiter

WAITERS = 256
"""Messages of a child that wait for its rate."""
MAX_NOTED = 4096
"""Children of whom something is noted about what is under way at the broker."""
_PASSWORD = re.compile(rb"gw1\.([0-9]{1,9})\.[A-Za-z0-9_-]{43}")
_FAULTS = (ConnectError, ConfigError, ManagementFailed, CommandRefused)


class BrokerPassword(NamedTuple):
    """A password and its number."""

    number: int
    secret: Secret


def make_password(number: int, random: Callable[[int], str]) -> BrokerPassword:
    """Return a new password.  random: returns so many bytes, as URL-safe Base64."""
    return BrokerPassword(number, Secret(f"gw1.{number}.{random(32)}".encode()))


def read_password(secret: Secret) -> BrokerPassword | None:
    """Return a kept secret as a password; None if it is none."""
    found = _PASSWORD.fullmatch(secret.reveal())
    return BrokerPassword(int(found[1]), secret) if found else None


class ChildLimit:
    """The limit of what one child publishes.  Implements PublicationLimit and AnswerLimit."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._limiter = RateLimiter(Pacer(rate), now, WAITERS)

    async def acquire(self, _: int, ended: asyncio.Future[object]) -> None:
        """Return when a message may leave.  Raises TooManyWaiting."""
        await self._limiter.acquire(1, ended)

    async def acquire_urgently(self, _: int, ended: asyncio.Future[object]) -> None:
        """Return when an answer may leave, before messages.  Raises TooManyWaiting."""
        await self._limiter.acquire(1, ended, urgent=True)

    def arrived(self, _: int) -> None:
        """Note nothing: it is counted when it leaves."""


class PasswordRoute:
    """Implements Route, and HoldableRoute.

    cloud: the provider's name.  read_secret: see cloud/credentials.py.
    now: seconds of a steady clock.  random: returns so many bytes, as URL-safe Base64.
    """

    def __init__(
        self,
        cloud: str,
        settings: MqttBrokerSettings,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        now: Callable[[], float],
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._cloud, self._settings, self._trust = cloud, settings, trust
        self._templates, self._now, self._random = settings.templates, now, random
        self._book, self._proxy = AddressBook(), proxy_of(settings, read_secret)
        own = settings.management
        self._given = GivenSecret(read_secret, own.password_credential, own.password_file)
        self._management = DynamicSecurity(self._log_in, settings.reply_timeout)
        self._in_doubt: dict[str, int] = {}
        self._large: dict[str, LargeMessages] = {}

    def check_name(self, _: CloudName) -> Reason | None:
        """Return None: what the broker cannot have was found before."""
        return None

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Return None: only the broker itself is needed."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Make a password, keep it, and make it known at the broker; see Route.

        What fails after it was kept is done at the next login.
        """
        identity, owner = self._templates.identity(name), self._owner(name)
        try:
            found = await dynamic_security.look_up(self._management.send, identity.user)
        except _FAULTS as error:
            return reasons.outcome(error, *self._endpoint)
        newest = found.number(owner)
        if newest is None:
            return Refused(reasons.CLIENT_EXISTS)
        newest = max(newest, self._in_doubt.get(identity.user, 0))
        password = make_password(newest + 1, self._random)
        await keep(password.secret)
        with suppress(*_FAULTS):  # `connect` tries it again, and says what is wrong
            await self._make(identity, found, owner, password)
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once; what the broker does not know yet is made known to it.

        Raises LoginRefused, LoginFailed.
        """
        password = read_password(secret)
        if password is None:
            raise LoginRefused(reasons.NO_SECRET)
        identity = self._templates.identity(name)
        try:
            connection = await self._open(identity, password.secret)
        except ConnectError as error:
            refused = reasons.login(error, *self._endpoint)
            if error.code not in reasons.NOT_ACCEPTED:
                raise refused from error
            if not await self._made_known(name, identity, password, known=False):
                raise refused from error
            connection = await self._open_again(identity, password.secret)
        if (session := await self._session(identity, connection)) is not None:
            return session
        if not await self._made_known(name, identity, password, known=True):
            raise LoginFailed(reasons.TOPICS_DENIED)
        connection = await self._open_again(identity, password.secret)
        if (session := await self._session(identity, connection)) is None:
            raise LoginFailed(reasons.TOPICS_DENIED)
        return session

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with.  Raises StoreError, ConfigError."""
        if read_password(secret) is None:
            raise SecretCorrupt(reasons.NO_SECRET.text)
        identity, settings = self._templates.identity(name), self._settings
        topics = {
            "prefix": identity.up,
            "properties": f"{identity.up}properties",
            "set": f"{identity.down}set/+",
        }
        return Credential(
            settings.host, settings.port, identity.client_id, identity.user, topics,
            address=settings.address, ca=await trusted_roots(settings.ca_file), password=secret,
        )  # fmt: skip

    async def unbind(self, name: CloudName) -> Reason | None:
        """Remove the child's client at the broker, if it is ours; return why that failed."""
        identity = self._templates.identity(name)
        try:
            found = await dynamic_security.look_up(self._management.send, identity.user)
            if found.number(self._owner(name)) is not None:
                await dynamic_security.remove(self._management.send, identity)
        except _FAULTS as error:
            return reasons.management(error, *self._endpoint)
        return None

    async def close(self) -> None:
        """Close the connection of the management."""
        await self._management.close()

    # How the broker learns of a password.

    def _owner(self, name: CloudName) -> Owner:
        return Owner(self._settings.management.user, f"{name.product}/{name.device}")

    async def _make(
        self, identity: BrokerIdentity, found: FoundChild, owner: Owner, password: BrokerPassword
    ) -> None:
        """Make a child what it is to be.  Raises one of _FAULTS.

        What fails may still arrive: no other password gets that number, or it would be taken for
        this one.
        """
        user, send = identity.user, self._management.send
        self._in_doubt.pop(user, None)
        self._in_doubt[user] = password.number
        if len(self._in_doubt) > MAX_NOTED:
            del self._in_doubt[next(iter(self._in_doubt))]
        await dynamic_security.make(send, identity, found, owner, password)
        self._in_doubt.pop(user, None)

    async def _made_known(
        self, name: CloudName, identity: BrokerIdentity, password: BrokerPassword, *, known: bool
    ) -> bool:
        """Make a password and its role known, if the broker has none or an older one.

        known: whether it accepts the password, so that only the role is another one.
        Returns whether it was made known.  Raises LoginRefused, LoginFailed.
        """
        owner = self._owner(name)
        try:
            found = await dynamic_security.look_up(self._management.send, identity.user)
            newest = found.number(owner)
            if newest is None:
                raise LoginRefused(reasons.CLIENT_EXISTS)
            if newest >= password.number + known:
                return False
            await self._make(identity, found, owner, password)
        except _FAULTS as error:
            raise LoginFailed(reasons.management(error, *self._endpoint)) from error
        return True

    # Connections.

    @property
    def _endpoint(self) -> tuple[str, int]:
        return self._settings.host, self._settings.port

    async def _server(self) -> Server:
        context = await self._trust.context()
        return server_of(self._settings, context, self._book, self._proxy, self._trust.sessions)

    async def _log_in(self, on_message: mqtt.Handler) -> mqtt.MqttConnection:
        """Log the manager in.  Raises ConnectError, ConfigError.

        A password that the operator has replaced is read again for each login.
        """
        user = self._settings.management.user
        # a colon, which no child's client id can have, so that none ends this connection
        login = Login(f"gatewayd:{user}", user, await self._given.read())
        return await mqtt.open_connection(
            await self._server(), login, self._settings.keepalive, on_message,
            max_packet=dynamic_security.MAX_RESPONSE,
        )  # fmt: skip

    async def _open(self, identity: BrokerIdentity, password: Secret) -> mqtt.MqttConnection:
        login = Login(identity.client_id, identity.user, password)
        return await mqtt.open_connection(
            await self._server(), login, self._settings.keepalive,
            max_packet=messages.MAX_PACKET,
        )  # fmt: skip

    async def _open_again(self, identity: BrokerIdentity, password: Secret) -> mqtt.MqttConnection:
        try:
            return await self._open(identity, password)
        except ConnectError as error:
            raise reasons.login(error, *self._endpoint) from error

    async def _session(
        self, identity: BrokerIdentity, connection: mqtt.MqttConnection
    ) -> MqttSession | None:
        """Return the session of a connection; None, and close it, if the child's topics are denied.

        A broker of MQTT 3.1.1 accepts what a role does not let a client publish, and drops it.
        Raises LoginFailed.
        """
        limit = ChildLimit(self._settings.rate, self._now)
        mapping = partial(messages.mapped, identity=identity)

        def publisher() -> CautiousPublisher:
            inner = MqttPublisher(connection, mapping, limit, self._settings.max_payload)
            return CautiousPublisher(inner, self._large_of(identity.user), self._now)

        def commands() -> ChildCommands:
            form = TopicCommands(identity, lambda: connection.retained)
            return own_commands(connection, identity.user, form, limit, self._cloud, self._now)

        session = MqttSession(connection, publisher, commands)
        connection.on_message = session.handle_first
        async with mqtt.preparing(connection, *self._endpoint):
            async with asyncio.timeout(self._settings.reply_timeout):
                codes = await connection.subscribe(messages.own_filters(identity))
        if mqtt.REFUSED in codes:
            await session.close()
            return None
        return session

    def _large_of(self, user: str) -> LargeMessages:
        """Return what is known of a child's large messages, of this session and those before."""
        large = self._large.pop(user) if user in self._large else LargeMessages()
        self._large[user] = large
        if len(self._large) > MAX_NOTED:
            del self._large[next(iter(self._large))]
        return large
