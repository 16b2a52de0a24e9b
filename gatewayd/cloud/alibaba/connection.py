"""A gateway's link to the cloud: questions with their replies, and what the cloud asks.

How fast a gateway may ask: the cloud's limits, kept on our side.  Pure.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import alink, topics
from gatewayd.cloud.alibaba.alink import AlinkError, AlinkReply, Downlink
from gatewayd.cloud.alibaba.topics import DownlinkTopic, SubName
from gatewayd.cloud.connect_errors import ConnectionEnd
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.sub_devices.link import deadline
from gatewayd.cloud.sub_devices.requests import PendingRequests
from gatewayd.device.record import CloudName
from gatewayd.runtime.backoff import Pacer, RateLimiter

ALL, LOGINS, OTHERS = 24, 150, 10
"""In a second: messages of one device, of which the cloud takes 30; children logged in through one
gateway, of which it takes 200 ("Limits" of the documentation); and questions of each other method,
of which it says only that too many are refused."""

CHILD_LOGINS, WHILE = 5, 75.0
"""Logins of one child in so many seconds, at most: the cloud takes 5 in 60.  The rest is for what
has to wait before it leaves."""


class ChildLogins:
    """Logins of each child.  now: seconds of a steady clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._children: dict[SubName, tuple[float, RateLimiter]] = {}

    def take(self, child: SubName) -> bool:
        """Take one login of a child; return whether there was one."""
        now = self._now()
        _, allowance = self._children.pop(child, (now, RateLimiter(CHILD_LOGINS, WHILE)))
        self._children[child] = now, allowance
        self._forget_old(now)
        return allowance.take(now)

    def _forget_old(self, now: float) -> None:
        """Keep the table as small as what was asked of late; the oldest is the first."""
        oldest = next(iter(self._children))
        if self._children[oldest][0] + WHILE <= now:
            del self._children[oldest]


class AlibabaRateLimits:
    """now: seconds of a steady clock.

    There are two waits, one after the other: who waits for a busy method takes no moment away from
    the others meanwhile.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._all, self._logins = Pacer(ALL), Pacer(LOGINS)
        others = set(topics.METHODS) - {topics.LOGIN, topics.BATCH_LOGIN}
        self._others = {method: Pacer(OTHERS) for method in others}

    def for_method(self, method: str, params: object) -> float:
        """Take the next free moment of this method; return the seconds until it comes."""
        lane = self._others.get(method, self._logins)
        return lane.take(self._now(), _count(method, params))

    def for_device(self) -> float:
        """Take the next free moment of the gateway for any message; return the same."""
        return self._all.take(self._now())


def _count(method: str, params: object) -> int:
    """Return how much this counts: a batch of logins as many, all else as one."""
    if method == topics.BATCH_LOGIN and isinstance(params, dict):
        return max(1, len(params["deviceList"]))
    return 1


log = logging.getLogger(__name__)

TOPICS_AT_ONCE = 8
"""Topics of one SUBSCRIBE ("Limits" of the documentation)."""
WATCHED = 40
"""Children with topics of their own: the gateway may have 100, and needs some for itself."""
EARLY = 64
"""Downlinks kept until somebody listens; the oldest give way."""
ANSWERS = 64
"""Answers to the cloud that wait to leave; what it asks beyond them is not answered."""


class AlibabaUplink:
    """One session of the gateway.

    own: the gateway's name.  reply_timeout: seconds.  now: seconds of a steady clock.
    closed: why the session has ended.  Wait for it by asyncio.wait.
    refused: topics to which the cloud did not subscribe us.
    dropped: messages that nobody could use, by why: "late", "malformed", "unexpected", "flood".
    """

    def __init__(
        self,
        own: CloudName,
        connection: mqtt.MqttConnection,
        reply_timeout: float,
        now: Callable[[], float],
    ) -> None:
        self._own, self._connection, self._reply_timeout = own, connection, reply_timeout
        self.closed: asyncio.Future[ConnectionEnd] = connection.closed
        self.refused: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self._pace = AlibabaRateLimits(now)
        self._questions = PendingRequests[tuple[str, str], AlinkReply](self.closed, reply_timeout)
        self._newest = 0
        self._watched: set[SubName] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._early: deque[Downlink] = deque(maxlen=EARLY)
        self._on_request: Callable[[Downlink], None] = self._early.append
        connection.on_message = self._take

    @property
    def on_request(self) -> Callable[[Downlink], None]:
        """Who is told what the cloud asks; never blocks, never raises.

        Whoever listens first is told at once what has come before.
        """
        return self._on_request

    @on_request.setter
    def on_request(self, handler: Callable[[Downlink], None]) -> None:
        self._on_request = handler
        while self._early:
            handler(self._early.popleft())

    async def subscribe_all(self) -> None:
        """Subscribe to what a gateway listens to for itself.  Raises NoAnswer, LinkDown.

        A topic that is refused is put on record, and no error: the cloud subscribes a gateway to
        some by itself.
        """
        await self._subscribe(topics.gateway_topics(self._own))

    async def watch(self, children: Iterable[SubName]) -> None:
        """Listen to what the cloud tells these children, as far as there is room.

        Without room nothing is lost but time: the cloud tells the gateway, too.
        Raises NoAnswer, LinkDown.
        """
        new = [child for child in dict.fromkeys(children) if child not in self._watched]
        new = new[: WATCHED - len(self._watched)]
        self._watched.update(new)
        await self._subscribe([topic for child in new for topic in topics.child_topics(child)])

    async def unwatch(self, child: SubName) -> None:
        """Listen to this child no more.  Raises NoAnswer, LinkDown."""
        if child in self._watched:
            self._watched.remove(child)
            async with deadline(self._reply_timeout):
                await self._connection.unsubscribe(topics.child_topics(child))

    async def ask(self, method: str, params: object) -> AlinkReply:
        """Ask once; `method` is one of topics.METHODS.  Raises NoAnswer, LinkDown.

        Waits before it asks, where the cloud's limits want it.
        """
        questions = self._questions
        async with questions.places:
            await questions.rest(self._pace.for_method(method, params))
            await questions.rest(self._pace.for_device())
            topic = topics.request_topic(self._own, method)
            replied = topics.reply_topic(topic)
            number = self._number(replied)
            message = alink.request(number, method, params)
            # QoS 0: it must be for sessions, and the reply tells more than a PUBACK.
            return await questions.ask(
                (replied, str(number)), lambda: self._connection.publish(topic, message)
            )

    async def _subscribe(self, wanted: Sequence[str]) -> None:
        for first in range(0, len(wanted), TOPICS_AT_ONCE):
            some = wanted[first : first + TOPICS_AT_ONCE]
            async with deadline(self._reply_timeout):
                codes = await self._connection.subscribe(some)
            no = {topic for topic, code in zip(some, codes, strict=True) if code == mqtt.REFUSED}
            self.refused = (self.refused - set(some)) | no
        if self.refused:
            log.warning("The cloud refuses %d subscriptions of the gateway.", len(self.refused))

    def _number(self, topic: str) -> int:
        """Return an id that no question under way has which is answered there."""
        while True:
            self._newest = self._newest % 0xFFFFFFFF + 1
            if (topic, str(self._newest)) not in self._questions:
                return self._newest

    def _take(self, topic: str, payload: bytes) -> None:
        asked = topics.downlink_topic(topic, self._own)
        try:
            if asked is not None:
                self._requested(asked, payload)
            elif topics.is_reply(topic):
                self._replied(topic, payload)
            else:
                self.dropped["unexpected"] += 1
        except AlinkError:
            self.dropped["malformed"] += 1

    def _replied(self, topic: str, payload: bytes) -> None:
        number, reply = alink.parse_reply(payload)
        if not self._questions.answer((topic, number), reply):
            self.dropped["late"] += 1

    def _requested(self, heard: DownlinkTopic, payload: bytes) -> None:
        number, downlink = alink.parse_downlink(heard, payload)
        if number:
            self._answer(topics.answer_topic(heard), alink.answer(number))
        self._on_request(downlink)

    def _answer(self, topic: str, payload: bytes) -> None:
        """Let an answer leave when it can; it ends with the session at the latest."""
        if len(self._answering) >= ANSWERS:
            self.dropped["flood"] += 1
            return
        task = asyncio.create_task(self._publish(topic, payload))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _publish(self, topic: str, payload: bytes) -> None:
        with suppress(Gone):
            await self._connection.publish(topic, payload)
