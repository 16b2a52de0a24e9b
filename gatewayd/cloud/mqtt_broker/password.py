"""The route "password": a child's password is made here, durable here, then made known there.

The broker is looked up first, and asked last: so a password that it knows is never lost, and one
that it does not know, as an answer or gatewayd was lost meanwhile, is made known at the first login
that it refuses.  Passwords are numbered for that, here and in the client's description there: the
higher number holds.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from gatewayd.cloud import mqtt
from gatewayd.cloud.credentials import GivenSecret, ReadSecret
from gatewayd.cloud.hand_over import trusted_roots
from gatewayd.cloud.mqtt import Login, MqttSession
from gatewayd.cloud.mqtt_broker import dynamic_security, reasons
from gatewayd.cloud.mqtt_broker.broker_sessions import MAX_NOTED, BrokerSessions, topics_of
from gatewayd.cloud.mqtt_broker.dynamic_security import (
    CommandRefused,
    DynamicSecurity,
    FoundChild,
    ManagementFailed,
    Owner,
)
from gatewayd.cloud.mqtt_broker.settings import BrokerManagement, MqttBrokerSettings
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.cloud.provider import (
    Credential,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, SecretCorrupt
from gatewayd.network import tls
from gatewayd.network.connect_errors import ConnectError
from gatewayd.network.tls import Server

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


class PasswordRoute:
    """Implements Route, and HoldableRoute.

    sessions: opens those of children.  own: the login that creates them.
    read_secret: see cloud/credentials.py.  random: returns so many bytes, as URL-safe Base64.
    """

    def __init__(
        self,
        sessions: BrokerSessions,
        settings: MqttBrokerSettings,
        own: BrokerManagement,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._sessions, self._settings, self._own, self._trust = sessions, settings, own, trust
        self._templates, self._random = settings.templates, random
        self._endpoint = sessions.endpoint
        self._given = GivenSecret(read_secret, own.password_credential, own.password_file)
        self._management = DynamicSecurity(self._log_in, settings.reply_timeout)
        self._in_doubt: dict[str, int] = {}

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
        if (session := await self._begin(identity, connection)) is not None:
            return session
        if not await self._made_known(name, identity, password, known=True):
            raise LoginFailed(reasons.TOPICS_DENIED)
        connection = await self._open_again(identity, password.secret)
        if (session := await self._begin(identity, connection)) is None:
            raise LoginFailed(reasons.TOPICS_DENIED)
        return session

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with.  Raises StoreError, ConfigError."""
        if read_password(secret) is None:
            raise SecretCorrupt(reasons.NO_SECRET.text)
        identity, settings = self._templates.identity(name), self._settings
        return Credential(
            settings.host, settings.port, identity.client_id, identity.user, topics_of(identity),
            address=settings.address, ca=await trusted_roots(settings.ca_file), password=secret,
        )  # fmt: skip

    def renew_at(self, _: CloudName, secret: Secret) -> float | None:
        """Return that what is no password is to be replaced at once: identity was changed."""
        return None if read_password(secret) else 0.0

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
        return Owner(self._own.user, f"{name.product}/{name.device}")

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

    async def _server(self) -> Server:
        return self._sessions.server(await self._trust.context(), self._trust.sessions)

    async def _log_in(self, on_message: mqtt.Handler) -> mqtt.MqttConnection:
        """Log the manager in.  Raises ConnectError, ConfigError.

        A password that the operator has replaced is read again for each login.
        """
        user = self._own.user
        # a colon, which no child's client id can have, so that none ends this connection
        login = Login(f"gatewayd:{user}", user, await self._given.read())
        return await mqtt.open_connection(
            await self._server(), login, self._settings.keepalive, on_message,
            max_packet=dynamic_security.MAX_RESPONSE,
        )  # fmt: skip

    async def _open(self, identity: BrokerIdentity, password: Secret) -> mqtt.MqttConnection:
        login = Login(identity.client_id, identity.user, password)
        return await self._sessions.open(login, await self._server())

    async def _open_again(self, identity: BrokerIdentity, password: Secret) -> mqtt.MqttConnection:
        try:
            return await self._open(identity, password)
        except ConnectError as error:
            raise reasons.login(error, *self._endpoint) from error

    async def _begin(
        self, identity: BrokerIdentity, connection: mqtt.MqttConnection
    ) -> MqttSession | None:
        return await self._sessions.begin(identity, connection, listen=False)
