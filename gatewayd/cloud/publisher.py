"""How the messages of a child leave over MQTT: mapped by the rules of its cloud, one by one.

A route gives each session a publisher; the session adds when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from gatewayd.cloud.paho_socket import Acknowledgement, Gone
from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
)
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.device.reason import Reason
from gatewayd.runtime.rate_limiter import TooManyWaiting

ACCEPTED = MessageAccepted()
TOO_MANY_WAIT = MessageDelayed(
    Reason(
        "messages-exhausted",
        "Too many messages wait for the cloud's limit of messages.",
        "If this lasts, have the child send less often.",
    ),
    left=False,
)

LOST = MessageDelayed(
    Reason("connection-lost", "The connection ended before the cloud had the message."),
    left=False,
)


class MappedMessage(NamedTuple):
    """What is published for a message: a topic of the cloud, and its payload."""

    topic: str
    payload: bytes


MapMessage: TypeAlias = Callable[[Message], MappedMessage]
"""Returns what to publish for a message.  Raises UnfitMessage.  Pure."""


class MessagePublisher(Protocol):
    """The publisher of one child's messages, as a session uses it.

    max_payload: bytes of the largest payload that the cloud may take from this child.
    """

    max_payload: int

    async def publish(self, message: Message, ended: asyncio.Future[Any]) -> Publication:
        """Publish a message once, as SupportsMessages says.

        ended: done when the session has ended; then, or when the connection has, this raises Gone
        at once.
        """


class PublishingConnection(Protocol):
    """A connection over which messages are published.  closed: done when it has ended."""

    def post(self, topic: str, payload: bytes) -> asyncio.Future[Acknowledgement | None]:
        """Publish at QoS 1, after what was posted before.

        The future ends with the acknowledgement, or with None as the connection has ended.  It may
        be ended before: the packet keeps its place until it is acknowledged.
        """


Result = TypeVar("Result")


async def unless_ended(answer: asyncio.Future[Result | None], ended: asyncio.Future[Any]) -> Result:
    """Return the answer.  Raises Gone where it is None, or as soon as the session has ended."""

    def end(_: object) -> None:
        if not answer.done():
            answer.set_result(None)

    ended.add_done_callback(end)
    try:
        result = await answer
    finally:
        ended.remove_done_callback(end)
    if result is None:
        raise Gone
    return result


class OrderedPublications:
    """What keeps the order of a child's messages, where one of them is delayed.

    What was handed over after it is then delayed, too, until all of that is handed back, and its
    caller has had the time to learn of it: until then, the caller may have begun with a next one.
    alone: whether no other one is under way.
    delayed: what becomes of the next ones, which do not leave; None while they may.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self.delayed: MessageDelayed | None = None

    @property
    def alone(self) -> bool:
        return self._under_way == 1

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._under_way -= 1
        if kind is not None and issubclass(kind, Gone) and self.delayed is None:
            self.delayed = LOST
        if self.delayed is not None and not self._under_way:
            # At the first turn of the loop, tasks of the caller have taken a first step that were
            # begun before; at the second, those which it began before it learnt of the delay.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._let_go)

    def _let_go(self) -> None:
        if not self._under_way:
            self.delayed = None


class PublicationLimit(Protocol):
    """The limit of what a connection may publish."""

    async def acquire(self, size: int, ended: asyncio.Future[Any]) -> None:
        """Return when a message of so many bytes may leave; do that before the next await.

        ended: once it is done, no wait is of use; then nothing is counted.  Raises TooManyWaiting.
        """

    def arrived(self, size: int) -> None:
        """Note that a message which was counted has arrived, or will not any more."""


class MqttPublisher:
    """A publisher over an MQTT connection, whose PUBACK is all there is to wait for.

    The session ends with the connection, and so does the wait for what was posted.
    map_message: the mapping of the cloud for this child.  limit: of what the connection may carry.
    Implements MessagePublisher.
    """

    def __init__(
        self,
        connection: PublishingConnection,
        map_message: MapMessage,
        limit: PublicationLimit,
        max_payload: int,
    ) -> None:
        self._connection, self._map, self._limit = connection, map_message, limit
        self._order = OrderedPublications()
        self.max_payload = max_payload

    async def publish(self, message: Message, ended: asyncio.Future[Any]) -> Publication:
        """Publish a message once.  Raises Gone."""
        try:
            mapped = self._map(message)
        except UnfitMessage as unfit:
            return MessageRefused(unfit.reason)
        with self._order:
            return await self._publish(mapped, ended)

    async def _publish(self, mapped: MappedMessage, ended: asyncio.Future[Any]) -> Publication:
        size = len(mapped.payload)
        try:
            await self._limit.acquire(size, ended)
        except TooManyWaiting:
            self._order.delayed = TOO_MANY_WAIT
            return TOO_MANY_WAIT
        if ended.done():
            raise Gone(left=False)
        if self._order.delayed is not None:
            self._limit.arrived(size)
            return self._order.delayed
        answer = self._connection.post(mapped.topic, mapped.payload)
        try:
            acknowledgement = await answer
        finally:
            self._limit.arrived(size)
        if acknowledgement is None:
            raise Gone
        return ACCEPTED
