"""A gateway's link to the platform: questions with their answers, and what the platform tells.

How fast a gateway may ask: the platform's limits, kept on our side.  Pure.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from gatewayd.cloud import mqtt
from gatewayd.cloud.connect_errors import ConnectionEnd
from gatewayd.cloud.huawei import messages
from gatewayd.cloud.huawei.messages import EventError, Notice, Response, SubDeviceEvent
from gatewayd.cloud.sub_devices.link import deadline
from gatewayd.cloud.sub_devices.requests import PendingRequests
from gatewayd.runtime.backoff import Pacer
from gatewayd.runtime.clock import Clock

MESSAGES = 40
"""In a second, of one device: the platform takes 50 ("Limitations" of the documentation)."""

REQUESTS: Mapping[SubDeviceEvent, float] = {
    SubDeviceEvent.ADD: 5,
    SubDeviceEvent.DELETE: 5,
    SubDeviceEvent.SYNC: 1,
}
"""In a second, each with all the children that it may have; the vendor gives no limits."""


class HuaweiRateLimits:
    """status_per_second: children reported in a second.  now: seconds of a steady clock.

    There are two waits, one after the other: who waits for a busy event takes no moment away from
    the others meanwhile.
    """

    def __init__(self, status_per_second: int, now: Callable[[], float]) -> None:
        self._now = now
        self._all, self._reports = Pacer(MESSAGES), Pacer(status_per_second)
        self._requests = {event: Pacer(rate) for event, rate in REQUESTS.items()}

    def for_event(self, event: SubDeviceEvent, children: int) -> float:
        """Take the next free moment of this event; return the seconds until it comes."""
        if event is SubDeviceEvent.STATUS:
            return self._reports.take(self._now(), children)
        return self._requests[event].take(self._now())

    def for_device(self) -> float:
        """Take the next free moment of the gateway for any message; return the same."""
        return self._all.take(self._now())


log = logging.getLogger(__name__)

_UUID_BYTES = 16


class HuaweiUplink:
    """One session of the gateway.

    own: the gateway's device ID, by which it has logged in.
    reply_timeout: seconds; the platform may take 30 for an answer.
    status_per_second: children reported in a second.  random: so many bytes nobody can guess.
    closed: why the session has ended.  Wait for it by asyncio.wait.
    on_notice: who is told what the platform tells unasked; never blocks, never raises.
    dropped: messages that nobody could use, by why: "late", "malformed", "unexpected".  The answer
    that comes twice, for the platform subscribes a gateway to it unasked, is late.
    """

    def __init__(
        self,
        own: str,
        connection: mqtt.MqttConnection,
        reply_timeout: float,
        status_per_second: int,
        time: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self.own, self._connection, self._reply_timeout = own, connection, reply_timeout
        self._time, self._random = time, random
        self.closed: asyncio.Future[ConnectionEnd] = connection.closed
        self.on_notice: Callable[[Notice], None] = _ignore
        self.dropped: Counter[str] = Counter()
        self._pace = HuaweiRateLimits(status_per_second, time.now)
        self._questions = PendingRequests[tuple[SubDeviceEvent, str], Response](
            self.closed, reply_timeout
        )
        connection.on_message = self._take

    async def subscribe(self) -> None:
        """Subscribe to the answers.  Raises NoAnswer, LinkDown.

        If that is refused it is no error: the platform answers a gateway without it, at QoS 0.
        """
        async with deadline(self._reply_timeout):
            codes = await self._connection.subscribe([messages.down_topic(self.own)])
        if mqtt.REFUSED in codes:
            log.warning("The cloud refuses the gateway's subscription to its answers.")

    async def ask(
        self, event: SubDeviceEvent, paras: Mapping[str, object], children: int
    ) -> Response:
        """Ask once, for so many children.  Raises NoAnswer, LinkDown.

        Waits before it asks, where the platform's limits want it.
        """
        async with self._questions.places:
            await self._wait_turn(event, children)
            event_id = str(uuid.UUID(bytes=self._random(_UUID_BYTES), version=4))
            message = messages.request(event, paras, self._time.wall(), event_id)
            send = partial(self._connection.publish, messages.up_topic(self.own), message)
            return await self._questions.ask((event, event_id), send)

    async def sync(self, version: int) -> None:
        """Ask to be told of the gateway's children: of changes since a version, or of all for 0.

        There is no answer, only notices, and none where there is nothing to tell.
        Raises NoAnswer, LinkDown.
        """
        await self._wait_turn(SubDeviceEvent.SYNC, 0)
        message = messages.request(
            SubDeviceEvent.SYNC, messages.to_sync(version), self._time.wall()
        )
        async with deadline(self._reply_timeout):
            await self._connection.publish(messages.up_topic(self.own), message, qos=1)

    async def _wait_turn(self, event: SubDeviceEvent, children: int) -> None:
        await self._questions.rest(self._pace.for_event(event, children))
        await self._questions.rest(self._pace.for_device())

    def _take(self, topic: str, payload: bytes) -> None:
        if topic != messages.down_topic(self.own):
            self.dropped["unexpected"] += 1
            return
        try:
            told = messages.parse(payload, self.own)
        except EventError:
            self.dropped["malformed"] += 1
            return
        for one in told:
            if isinstance(one, Notice):
                self.on_notice(one)
            elif not self._questions.answer((one.event, one.event_id), one):
                self.dropped["late"] += 1


def _ignore(_: Notice) -> None:
    """Drop what comes before anybody listens: whoever does asks for all children first."""
