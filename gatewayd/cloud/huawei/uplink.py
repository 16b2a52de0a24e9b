"""A gateway's link to the platform: questions with their answers, and what the platform tells."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from gatewayd.cloud import mqtt
from gatewayd.cloud.faults import End
from gatewayd.cloud.huawei import downlinks, events
from gatewayd.cloud.huawei.downlinks import EventError
from gatewayd.cloud.huawei.events import Event, Notice, Response
from gatewayd.cloud.huawei.pace import Pace
from gatewayd.cloud.subdevices.link import deadline
from gatewayd.cloud.subdevices.questions import Questions
from gatewayd.cloud.times import Time

log = logging.getLogger(__name__)

_UUID_BYTES = 16


class Uplink:
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
        connection: mqtt.Connection,
        reply_timeout: float,
        status_per_second: int,
        time: Time,
        random: Callable[[int], bytes],
    ) -> None:
        self.own, self._connection, self._reply_timeout = own, connection, reply_timeout
        self._time, self._random = time, random
        self.closed: asyncio.Future[End] = connection.closed
        self.on_notice: Callable[[Notice], None] = _ignore
        self.dropped: Counter[str] = Counter()
        self._pace = Pace(status_per_second, time.now)
        self._questions = Questions[tuple[Event, str], Response](self.closed, reply_timeout)
        connection.on_message = self._take

    async def subscribe(self) -> None:
        """Subscribe to the answers.  Raises NoAnswer, LinkDown.

        If that is refused it is no error: the platform answers a gateway without it, at QoS 0.
        """
        async with deadline(self._reply_timeout):
            codes = await self._connection.subscribe([events.down_topic(self.own)])
        if mqtt.REFUSED in codes:
            log.warning("The cloud refuses the gateway's subscription to its answers.")

    async def ask(self, event: Event, paras: Mapping[str, object], children: int) -> Response:
        """Ask once, for so many children.  Raises NoAnswer, LinkDown.

        Waits before it asks, where the platform's limits want it.
        """
        async with self._questions.places:
            await self._wait_turn(event, children)
            event_id = str(uuid.UUID(bytes=self._random(_UUID_BYTES), version=4))
            message = events.request(event, paras, self._time.wall(), event_id)
            send = partial(self._connection.publish, events.up_topic(self.own), message)
            return await self._questions.ask((event, event_id), send)

    async def sync(self, version: int) -> None:
        """Ask to be told of the gateway's children: of changes since a version, or of all for 0.

        There is no answer, only notices, and none where there is nothing to tell.
        Raises NoAnswer, LinkDown.
        """
        await self._wait_turn(Event.SYNC, 0)
        message = events.request(Event.SYNC, events.to_sync(version), self._time.wall())
        async with deadline(self._reply_timeout):
            await self._connection.publish(events.up_topic(self.own), message, qos=1)

    async def _wait_turn(self, event: Event, children: int) -> None:
        await self._questions.rest(self._pace.for_event(event, children))
        await self._questions.rest(self._pace.for_device())

    def _take(self, topic: str, payload: bytes) -> None:
        if topic != events.down_topic(self.own):
            self.dropped["unexpected"] += 1
            return
        try:
            told = downlinks.parse(payload, self.own)
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
