"""A second client of a door's broker, which reads what devices announce there: their births.

It has a connection of its own, so that births hold up no message of a child: they come with QoS 0,
and nothing waits for an acknowledgement; the broker keeps none while gatewayd is away.  What comes
faster than it is read waits at the broker, which drops it there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeAlias

from gatewayd.device.reason import NONE
from gatewayd.messages.doors.access import DoorAccess
from gatewayd.messages.doors.door import STABLE, Retry
from gatewayd.messages.doors.faults import DoorError, DoorFault, door_reason
from gatewayd.messages.doors.outgoing import OutgoingMessage
from gatewayd.messages.doors.packets import V5, V311, PublishPacket
from gatewayd.messages.doors.session import NOT_MQTT_5, DoorSession
from gatewayd.messages.doors.site.topic_pattern import MAX_TOPIC
from gatewayd.network.mqtt_rules import covers
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.rate_limiter import SlidingWindow

log = logging.getLogger(__name__)

MOST_A_SECOND, MOST_BYTES_A_SECOND = 1000, 4 << 20
"""Births that are passed on in a second, and bytes of their payloads."""
MOST_WAITING, MOST_BYTES_WAITING = 256, 4 << 20
"""Births that wait to be passed on, and bytes: then the connection is not read."""
MOST_READ, READ_PERIOD = 3, 180.0
"""How often all is read that the broker keeps, in so many seconds."""
MAX_NAMES = 4096
"""Topics of one connection of which the first message counts."""
GIVE_WAY = 3600.0
"""Seconds for which a connection is not made again that another with its identifier has ended: at a
broker that gives all clients of a user the same one, that is the door itself."""
AWAY = 30.0
"""Seconds after which it is a fault that there is no connection."""


class WantedBirths(NamedTuple):
    """What is read.

    filter: of topics.  largest: bytes of a payload; a larger one is dropped.
    names_only: whether the topic alone counts, once in a connection.
    """

    filter: str
    largest: int
    names_only: bool


class ReceivedBirth(NamedTuple):
    """One message.  at: when it came, seconds of the clock."""

    topic: str
    payload: bytes
    retained: bool
    at: float


class BirthHandler(Protocol):
    """The receiver of births.  Both wait while it has no room; neither raises."""

    async def connected(self, door: str, *, is_open: bool) -> None:
        """Note that a connection has ended, or is there and all comes that the broker keeps."""

    async def pass_on(self, door: str, birth: ReceivedBirth) -> bool:
        """Pass one message on; return whether there was something to pass it to."""


_Item: TypeAlias = ReceivedBirth | bool
"""A message; or whether the connection begins or ends."""
_BEGIN, _END = True, False


class BirthReader:
    """The reader of one broker.  It connects when it is to read for the first time.

    door: its name.  name: of the discoverer, which makes the client identifier another.
    wanted: what is read; the first that fits a topic counts.
    """

    def __init__(  # noqa: PLR0913  # one by keyword: what it joins
        self,
        door: str,
        name: str,
        access: DoorAccess,
        wanted: Sequence[WantedBirths],
        handler: BirthHandler,
        clock: Clock,
        *,
        retry: Retry,
    ) -> None:
        self.door, self._name, self._access, self._wanted = door, name, access, wanted
        self._handler, self._clock, self._retry = handler, clock, retry
        self._waiting: deque[_Item] = deque()
        self._bytes = 0
        self._news, self._again = asyncio.Event(), asyncio.Event()
        self._reads = SlidingWindow(MOST_READ, READ_PERIOD)
        self._session: DoorSession | None = None
        self._version = V5
        self._is_paused = False
        self._named: set[str] = set()
        self._reason, self._since = NONE, clock.now()
        self._received = 0
        self._dropped: Counter[str] = Counter()

    def read_again(self) -> None:
        """Have all read that the broker keeps, now or when that was not just done."""
        self._again.set()

    def ask(self, topic: str, payload: bytes) -> bool:
        """Publish a question, with QoS 0; return whether it leaves."""
        session = self._session
        if session is None or session.connection.is_congested:
            return False
        session.publish(0, OutgoingMessage(topic, payload))
        return True

    def fault(self) -> str:
        """Return why there is no connection, a sentence; "" if there is one, or soon."""
        if not self._reason.code or self._clock.now() - self._since < AWAY:
            return ""
        return f"births at door {self.door}: {str(self._reason).rstrip('.')}"

    def counters(self) -> Mapping[str, int]:
        """Return what has come, and what was dropped, by kebab-case cause."""
        causes = {f"dropped:{cause}": number for cause, number in self._dropped.items()}
        return {"received": self._received, **causes}

    async def run(self) -> None:
        """Be connected once it is to read, until cancelled."""
        await self._again.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on(), name=f"births of door {self.door}")
            group.create_task(self._keep_connected(), name=f"births at door {self.door}")

    # The connection.

    async def _keep_connected(self) -> None:
        failures, retry = 0, self._retry
        while True:
            begun = self._clock.now()
            error = await self._connect()
            if error.reason.code == DoorFault.VERSION and self._version == V311:
                continue  # with the version that was just chosen
            failures = 1 if self._clock.now() - begun > STABLE else failures + 1
            self._note(error)
            wait = delay(failures, retry.first, retry.last, self._clock.jitter())
            await asyncio.sleep(GIVE_WAY if error.reason.code == DoorFault.TAKEN_OVER else wait)

    async def _connect(self) -> DoorError:
        """Connect once, and return why that failed, or how it ended."""
        version, self._version = self._version, V5
        try:
            login = await self._access.login()
            sock = await self._access.open()
        except DoorError as error:
            return error
        timeout = self._access.reply_timeout
        session = DoorSession(sock, version, self, self._access.endpoint, timeout)
        self._is_paused = False
        self._named.clear()
        try:
            client_id = f"{login.client_id}-{self._name}"
            await session.log_in(replace(login, client_id=client_id, clean=True))
            self._session = session
            self._add(_BEGIN)
            return await self._serve(session)
        except DoorError as error:
            if version == V5 and self._access.may_be_old and error.reason.code in NOT_MQTT_5:
                self._version = V311
            return error
        finally:
            if self._session is not None:
                self._session = None
                self._add(_END)
            await session.connection.close()

    async def _serve(self, session: DoorSession) -> DoorError:
        """Read, and again when that is requested; return how the connection has ended."""
        ended = asyncio.ensure_future(session.wait_closed())
        requested: asyncio.Future[None] | None = None
        try:
            while True:
                self._again.clear()
                await self._read_all(session)
                requested = asyncio.ensure_future(self._again_in_time())
                await asyncio.wait({ended, requested}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    return ended.result()
                self._add(_BEGIN)
        finally:
            ended.cancel()
            if requested is not None:
                requested.cancel()

    async def _read_all(self, session: DoorSession) -> None:
        """Subscribe to one filter after the other: the next when the one before was read.

        Raises DoorError.
        """
        self._reads.record(self._clock.now())
        refused = 0
        for one in self._wanted:
            refused += not await session.subscribe_to_kept(one.filter)
        if refused:
            reason = door_reason(DoorFault.SUBSCRIPTION, self._access.endpoint)
            self._note(DoorError(reason))
        else:
            self._note(DoorError(NONE))

    async def _again_in_time(self) -> None:
        """Return when it is requested to read all again, and that was not just done."""
        await self._again.wait()
        while (wait := self._reads.wait(self._clock.now())) > 0:
            await asyncio.sleep(wait)

    def _note(self, error: DoorError) -> None:
        """Note a reason, and log it where it is another than before."""
        if error.reason.code == self._reason.code:
            return
        if not self._reason.code:
            self._since = self._clock.now()
        self._reason = error.reason
        if error.reason.code:
            text = f"{error.reason} {error.detail}".rstrip()
            log.warning("Births at door %s: %s", self.door, text)

    # What comes.

    def on_message(self, message: PublishPacket, acknowledge: Callable[[], None]) -> None:
        """Queue a birth; drop what is none."""
        acknowledge()  # a broker may send with QoS 1 what was not asked for so
        self._received += 1
        if len(message.topic) > MAX_TOPIC:
            self._dropped["topic-too-long"] += 1
            return
        wanted = next((one for one in self._wanted if covers(one.filter, message.topic)), None)
        if wanted is None:
            self._dropped["not-subscribed"] += 1
        elif wanted.names_only:
            self._name_once(message)
        elif message.too_large or len(message.payload) > wanted.largest:
            self._dropped["too-large"] += 1
        else:
            now = self._clock.now()
            self._add(ReceivedBirth(message.topic, message.payload, message.retained, now))

    def on_published(self, packet: int, code: int) -> None:
        """Do nothing: questions are not acknowledged."""

    def _name_once(self, message: PublishPacket) -> None:
        if message.topic in self._named:
            return
        if len(self._named) >= MAX_NAMES:
            self._dropped["names-full"] += 1
            return
        self._named.add(message.topic)
        self._add(ReceivedBirth(message.topic, b"", message.retained, self._clock.now()))

    def _add(self, item: _Item) -> None:
        self._waiting.append(item)
        self._bytes += _size(item)
        self._news.set()
        if len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES_WAITING:
            self._pause()

    def _pause(self) -> None:
        if self._session is not None and not self._is_paused:
            self._is_paused = True
            self._session.connection.pause()

    def _resume(self) -> None:
        has_room = len(self._waiting) <= MOST_WAITING // 2
        if self._is_paused and has_room and self._bytes <= MOST_BYTES_WAITING // 2:
            self._is_paused = False
            if self._session is not None:
                self._session.connection.resume()

    async def _pass_on(self) -> None:
        """Pass on what waits, within the bounds of each second, until cancelled."""
        second, count, size = self._clock.now(), 0, 0
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            item = self._waiting.popleft()
            self._bytes -= _size(item)
            self._resume()
            if isinstance(item, bool):
                await self._handler.connected(self.door, is_open=item)
            elif not await self._handler.pass_on(self.door, item):
                self._dropped["no-helper"] += 1
            count, size = count + 1, size + _size(item)
            now = self._clock.now()
            if now - second >= 1:
                second, count, size = now, 0, 0
            elif count >= MOST_A_SECOND or size >= MOST_BYTES_A_SECOND:
                await asyncio.sleep(second + 1 - now)
                second, count, size = self._clock.now(), 0, 0


def _size(item: _Item) -> int:
    return 0 if isinstance(item, bool) else len(item.topic) + len(item.payload)
