"""A gateway's link to the cloud: questions with their replies, and what the cloud asks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import envelope, topics
from gatewayd.cloud.alibaba.envelope import Downlink, EnvelopeError, Reply
from gatewayd.cloud.alibaba.pace import Pace
from gatewayd.cloud.alibaba.topics import Heard, SubName
from gatewayd.cloud.faults import End
from gatewayd.cloud.pending import Gone
from gatewayd.device.record import CloudName

log = logging.getLogger(__name__)

OUTSTANDING = 256
"""Questions under way at a time; who wants to ask one more waits."""
TOPICS_AT_ONCE = 8
"""Topics of one SUBSCRIBE ("Limits" of the documentation)."""
WATCHED = 40
"""Children with topics of their own: the gateway may have 100, and needs some for itself."""
EARLY = 64
"""Downlinks kept until somebody listens; the oldest give way."""
ANSWERS = 64
"""Answers to the cloud that wait to leave; what it asks beyond them is not answered."""


class LinkError(Exception):
    """A question has no reply."""


class NoAnswer(LinkError):
    """The reply did not come in time: whether the cloud did what was asked is not known."""


class LinkDown(LinkError):
    """The session ended before the reply came; if it was asked, the same is not known."""


class Uplink:
    """One session of the gateway.

    own: the gateway's name.  reply_timeout: seconds.  now: seconds of a steady clock.
    closed: why the session has ended.  Wait for it by asyncio.wait.
    refused: topics to which the cloud did not subscribe us.
    dropped: messages that nobody could use, by why: "late", "malformed", "unexpected", "flood".
    """

    def __init__(
        self,
        own: CloudName,
        connection: mqtt.Connection,
        reply_timeout: float,
        now: Callable[[], float],
    ) -> None:
        self._own, self._connection, self._reply_timeout = own, connection, reply_timeout
        self.closed: asyncio.Future[End] = connection.closed
        self.refused: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self._pace = Pace(now)
        self._places = asyncio.Semaphore(OUTSTANDING)
        self._waiting: dict[str, tuple[str, asyncio.Future[Reply | None]]] = {}
        self._newest = 0
        self._watched: set[SubName] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._early: deque[Downlink] = deque(maxlen=EARLY)
        self._on_request: Callable[[Downlink], None] = self._early.append
        connection.on_message = self._take
        self.closed.add_done_callback(self._end)

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
            async with _deadline(self._reply_timeout):
                await self._connection.unsubscribe(topics.child_topics(child))

    async def ask(self, method: str, params: object) -> Reply:
        """Ask once; `method` is one of topics.METHODS.  Raises NoAnswer, LinkDown.

        Waits before it asks, where the cloud's limits want it.
        """
        async with self._places:
            await self._pass(self._pace.for_method(method, params))
            await self._pass(self._pace.for_device())
            number = self._number()
            topic = topics.request_topic(self._own, method)
            reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
            self._waiting[str(number)] = topics.reply_topic(topic), reply
            try:
                async with _deadline(self._reply_timeout):
                    message = envelope.request(number, method, params)
                    # QoS 0: it must be for sessions, and the reply tells more than a PUBACK.
                    await self._connection.publish(topic, message)
                    replied = await reply
            finally:
                del self._waiting[str(number)]
        if replied is None:
            raise LinkDown
        return replied

    async def _subscribe(self, wanted: Sequence[str]) -> None:
        for first in range(0, len(wanted), TOPICS_AT_ONCE):
            some = wanted[first : first + TOPICS_AT_ONCE]
            async with _deadline(self._reply_timeout):
                codes = await self._connection.subscribe(some)
            no = {topic for topic, code in zip(some, codes, strict=True) if code == mqtt.REFUSED}
            self.refused = (self.refused - set(some)) | no
        if self.refused:
            log.warning("The cloud refuses %d subscriptions of the gateway.", len(self.refused))

    async def _pass(self, seconds: float) -> None:
        """Let time pass, unless the session ends."""
        if seconds > 0:
            await asyncio.wait({self.closed}, timeout=seconds)

    def _number(self) -> int:
        """Return an id that no question under way has."""
        while True:
            self._newest = self._newest % 0xFFFFFFFF + 1
            if str(self._newest) not in self._waiting:
                return self._newest

    def _take(self, topic: str, payload: bytes) -> None:
        asked = topics.heard(topic, self._own)
        try:
            if asked is not None:
                self._requested(asked, payload)
            elif topics.is_reply(topic):
                self._replied(topic, payload)
            else:
                self.dropped["unexpected"] += 1
        except EnvelopeError:
            self.dropped["malformed"] += 1

    def _replied(self, topic: str, payload: bytes) -> None:
        number, reply = envelope.parse_reply(payload)
        expected, waiting = self._waiting.get(number, ("", None))
        if waiting is None or expected != topic or waiting.done():
            self.dropped["late"] += 1
        else:
            waiting.set_result(reply)

    def _requested(self, heard: Heard, payload: bytes) -> None:
        number, downlink = envelope.parse_downlink(heard, payload)
        if number:
            self._answer(topics.answer_topic(heard), envelope.answer(number))
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

    def _end(self, _: object) -> None:
        for _topic, reply in self._waiting.values():
            if not reply.done():
                reply.set_result(None)


class Link:
    """The newest session of the gateway, for whoever needs one.

    current: None while there is none.
    """

    def __init__(self) -> None:
        self.current: Uplink | None = None
        self._up = asyncio.Event()

    async def wait(self, seconds: float) -> Uplink | None:
        """Return the session, if there is one or comes to be one within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.current is None:
                    await self._up.wait()
        return self.current

    def put(self, uplink: Uplink) -> None:
        """Hand out this session from now on, until it ends."""
        self.current = uplink
        self._up.set()
        uplink.closed.add_done_callback(lambda _: self._gone(uplink))

    def _gone(self, uplink: Uplink) -> None:
        if self.current is uplink:
            self.current = None
            self._up.clear()


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Turn what ends a wait for the cloud into errors of the link."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoAnswer from None
    except Gone:
        raise LinkDown from None
