"""The sessions of children at a broker, however they prove who they are."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import partial

from gatewayd.cloud import mqtt
from gatewayd.cloud.command_router import ChildCommands, EarlyPackets, own_commands
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.mqtt import Login, MqttSession
from gatewayd.cloud.mqtt_broker import messages
from gatewayd.cloud.mqtt_broker.large_messages import CautiousPublisher, LargeMessages
from gatewayd.cloud.mqtt_broker.messages import TopicCommands
from gatewayd.cloud.mqtt_broker.settings import MqttBrokerSettings
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.cloud.outbound import proxy_of, server_of
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.publisher import MqttPublisher
from gatewayd.network.addresses import AddressBook, ResumableSessions
from gatewayd.network.tls import Server
from gatewayd.runtime.rate_limiter import Pacer, RateLimiter

WAITERS = 256
"""Messages of a child that wait for its rate."""
MAX_NOTED = 4096
"""Children of whom something is noted about what is under way at the broker."""
ECHO_TIME = 5.0
"""Seconds for what a child has said to itself to come back, once the broker has it."""


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


class BrokerSessions:
    """What opens the sessions of one broker's children.

    cloud: the provider's name.  read_secret: see cloud/credentials.py; for the proxy.
    now: seconds of a steady clock.
    """

    def __init__(
        self,
        cloud: str,
        settings: MqttBrokerSettings,
        read_secret: ReadSecret,
        now: Callable[[], float],
    ) -> None:
        self._cloud, self._settings, self._now = cloud, settings, now
        self._book, self._proxy = AddressBook(), proxy_of(settings, read_secret)
        self._large: dict[str, LargeMessages] = {}

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the broker."""
        return self._settings.host, self._settings.port

    def server(self, context: ssl.SSLContext, sessions: ResumableSessions | None = None) -> Server:
        """Return the broker.  sessions: those of TLS to resume."""
        return server_of(self._settings, context, self._book, self._proxy, sessions)

    async def open(self, login: Login, server: Server) -> mqtt.MqttConnection:
        """Log a child in.  Raises ConnectError."""
        return await mqtt.open_connection(
            server, login, self._settings.keepalive, max_packet=messages.MAX_PACKET
        )

    async def begin(
        self, identity: BrokerIdentity, connection: mqtt.MqttConnection, *, listen: bool
    ) -> MqttSession | None:
        """Return the session of a connection; None, and close it, if the child's topics are denied.

        listen: whether the child has to receive what it says to itself: an access list of mosquitto
        lets each client subscribe to anything, and drops what it must not receive or say.  A role
        of dynamic security refuses the subscription.
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
        own = messages.own_filters(identity)
        echo, early = _Echo(own[-1]), EarlyPackets()
        connection.on_message = partial(echo.receive, early) if listen else session.handle_first
        async with mqtt.preparing(connection, *self.endpoint):
            async with asyncio.timeout(self._settings.reply_timeout):
                allowed = mqtt.REFUSED not in await connection.subscribe(own)
                if allowed and listen:
                    await connection.publish(echo.topic, b"", qos=1)
            if allowed and listen:
                seconds = min(ECHO_TIME, self._settings.reply_timeout)
                allowed = await echo.comes_back(connection, seconds)
        connection.on_message = session.handle_first
        early.hand_over(session.handle_first)
        if not allowed:
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


class _Echo:
    """What a child says to itself, to see that it may."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._back = asyncio.Event()

    def receive(self, others: EarlyPackets, topic: str, payload: bytes) -> None:
        if topic == self.topic:
            self._back.set()
        else:
            others(topic, payload)

    async def comes_back(self, connection: mqtt.MqttConnection, seconds: float) -> bool:
        """Return whether it comes back in time.  Raises Gone."""
        ended = asyncio.ensure_future(connection.wait_closed())
        coming = asyncio.ensure_future(self._back.wait())
        try:
            await asyncio.wait(
                {coming, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            coming.cancel()
            ended.cancel()
        if connection.closed.done():
            raise Gone
        return self._back.is_set()


def topics_of(identity: BrokerIdentity) -> Mapping[str, str]:
    """Return the topics that a child's holder uses, as Credential has them."""
    return {
        "prefix": identity.up,
        "properties": f"{identity.up}properties",
        "set": f"{identity.down}set/+",
    }
