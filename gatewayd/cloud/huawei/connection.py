"""The uplink of a gateway: its MQTT session, for requests, their responses and notices.

The platform's rate limits are kept on this side.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from gatewayd.cloud import mqtt
from gatewayd.cloud.command_router import post_answer
from gatewayd.cloud.huawei import messages
from gatewayd.cloud.huawei.commanding.commands import topics as command_topics
from gatewayd.cloud.huawei.messages import EventError, Notice, Response, SubDeviceEvent
from gatewayd.cloud.huawei.reporting.publishers import HuaweiLimit, HuaweiReports
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.cloud.sub_devices.link import deadline
from gatewayd.cloud.sub_devices.pending_requests import WAITERS, PendingRequests
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.rate_limiter import Pacer, RateLimiter

log = logging.getLogger(__name__)

_UUID_BYTES = 16

REQUESTS: Mapping[SubDeviceEvent, float] = {
    SubDeviceEvent.ADD: 5,
    SubDeviceEvent.DELETE: 5,
    SubDeviceEvent.SYNC: 1,
}
"""Requests in a second, each with as many children as it may name; the vendor gives no limits."""


class HuaweiRateLimits:
    """The rate limits of a gateway, in all its sessions: for each event, and for all messages.

    status_per_second: children reported in a second.  now: seconds of a steady clock.
    messages: of all that the gateway publishes, its requests among it.
    """

    def __init__(self, status_per_second: int, now: Callable[[], float]) -> None:
        self.messages = HuaweiLimit(now)
        rates = {SubDeviceEvent.STATUS: status_per_second, **REQUESTS}
        self._events = {
            event: RateLimiter(Pacer(rate), now, WAITERS, self.messages.limiter)
            for event, rate in rates.items()
        }

    def of(self, event: SubDeviceEvent) -> RateLimiter:
        """Return the limiter of the messages of an event."""
        return self._events[event]


def weight(event: SubDeviceEvent, children: int) -> int:
    """Return how much a message counts: a report of statuses as many, all else as one."""
    return children if event is SubDeviceEvent.STATUS else 1


class HuaweiUplink:
    """One session of the gateway.

    own: the device ID that the gateway has logged in with.
    reply_timeout: seconds; the platform may take 30 for an answer.
    limits: the gateway's.  random: so many unguessable bytes.
    closed: why the session has ended.  Wait for it by asyncio.wait.
    on_notice: called with each notice of the platform; never blocks, never raises.
    reports: what is published for children.
    on_command: called with each message on another topic; returns whether it is a command.
    dropped: unusable messages, by cause: "late", "malformed", "unexpected".  A response that comes
    twice, as the platform also subscribes a gateway by itself, is late.
    """

    def __init__(
        self,
        own: str,
        connection: mqtt.MqttConnection,
        reply_timeout: float,
        limits: HuaweiRateLimits,
        time: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self.own, self._connection, self._reply_timeout = own, connection, reply_timeout
        self._time, self._random = time, random
        self.closed: asyncio.Future[ConnectionEnd] = connection.closed
        self.on_notice: Callable[[Notice], None] = _ignore
        self.on_command: Callable[[str, bytes], bool] = _is_none
        self.dropped: Counter[str] = Counter()
        self._limits = limits
        self._requests = PendingRequests[tuple[SubDeviceEvent, str], Response](
            self.closed, reply_timeout
        )
        self.reports = HuaweiReports(own, connection, self.closed, limits.messages)
        connection.on_message = self._handle_message

    async def subscribe(self) -> None:
        """Subscribe to responses and notices, and to commands.  Raises NoAnswer, LinkDown.

        A refusal is no error: the platform sends them without a subscription, at QoS 0.
        """
        topics = [messages.down_topic(self.own), *command_topics(self.own)]
        async with deadline(self._reply_timeout):
            codes = await self._connection.subscribe(topics)
        if mqtt.REFUSED in codes:
            refused = topics[codes.index(mqtt.REFUSED)]
            log.warning(
                "The platform refused gateway %s the subscription to %s.", self.own, refused
            )

    async def answer(self, mapped: MappedMessage) -> bool:
        """Answer a command; return whether the platform has acknowledged that."""
        return await post_answer(self._connection, mapped, self._limits.messages)

    async def ask(
        self, event: SubDeviceEvent, paras: Mapping[str, object], children: int
    ) -> Response:
        """Send one request, for so many children; return its response.

        Waits first as long as the rate limits demand.  Raises NoAnswer, LinkDown.
        """
        async with self._requests.slots:
            await self._wait_turn(event, children)
            event_id = str(uuid.UUID(bytes=self._random(_UUID_BYTES), version=4))
            message = messages.request(event, paras, self._time.timestamp(), event_id)
            return await self._requests.ask((event, event_id), partial(self._publish, message))

    async def sync(self, version: int) -> None:
        """Request notices of the gateway's children: changes since a version, or all for 0.

        There is no response, only notices, and none where there is nothing to report.
        Raises NoAnswer, LinkDown.
        """
        await self._wait_turn(SubDeviceEvent.SYNC, 1)
        message = messages.request(
            SubDeviceEvent.SYNC, messages.to_sync(version), self._time.timestamp()
        )
        async with deadline(self._reply_timeout):
            await self._publish(message)

    async def _wait_turn(self, event: SubDeviceEvent, children: int) -> None:
        await self._requests.wait_turn(self._limits.of(event), weight(event, children))

    async def _publish(self, request: bytes) -> None:
        """Publish a request whose turn it is, and return when it has arrived.  Raises Gone.

        At QoS 1, as the vendor's SDKs do: what has arrived counts for the limit a while longer.
        """
        counted = not self.closed.done()
        answer = self._connection.post(messages.up_topic(self.own), request)
        if counted:
            answer.add_done_callback(lambda _: self._limits.messages.arrived())
        if await asyncio.shield(answer) is None:
            raise Gone

    def _handle_message(self, topic: str, payload: bytes) -> None:
        if topic != messages.down_topic(self.own):
            self.dropped["unexpected"] += not self.on_command(topic, payload)
            return
        try:
            events = messages.parse(payload, self.own)
        except EventError:
            self.dropped["malformed"] += 1
            return
        for event in events:
            if isinstance(event, Notice):
                self.on_notice(event)
            elif not self._requests.resolve((event.event, event.event_id), event):
                self.dropped["late"] += 1


def _is_none(_: str, __: bytes) -> bool:
    return False


def _ignore(_: Notice) -> None:
    """Drop a notice that comes before there is a listener: it requests all children first."""
