"""The delivery: what waits is published over each child's session, in order, a few at a time.

A child has a channel: the session it has now, and its messages under way.  One message that is
delayed holds the channel: when nothing is under way any more, all that was not accepted goes back
to its place.  So it is before a newer session is used, too: no message overtakes an earlier one.

Children whose sessions share a connection take turns on it, one message each.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
    Session,
    SharesConnection,
    SupportsMessages,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import Acceptance, DropReason, Message
from gatewayd.device.reason import Reason
from gatewayd.errors import StoreError
from gatewayd.messages.backlog import AT_MOST, IN_MEMORY, Backlog, ChildBacklog
from gatewayd.messages.bounds import NOTHING, DailySpending
from gatewayd.messages.lanes import LoadedMessage, Waiting
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.outbox.file import Spent, StoredMessage
from gatewayd.messages.outbox.outbox import MessageOutbox
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

SHARED_WINDOW = 200
"""Messages under way on a connection that several children share: two of Huawei's largest batches,
one that waits for its acknowledgement and the next; and few enough that a new one is sent soon."""
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""Seconds until a delayed message is published again over the same session."""
GIVE_UP = 10.0
"""Seconds that publications over a session have to end, once a newer one has taken its place."""
READ_AT_ONCE = 500
"""Messages that are read from the outbox at a time."""
READ_RETRY = 1.0
"""Seconds after which reading is tried again."""

MAX_FAULTS = 3
"""Faults that one message meets before it is dropped: it would keep back all after it."""

FAULT = Reason("internal-error", "gatewayd has a fault; the journal has the details.")
ENDED = Reason("session-ended", "The session ended.")


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection to a cloud, and the children that wait for their turn on it.

    key: what its sessions have in common.  users: channels that use it.
    """

    key: object
    window: int
    under_way: int = 0
    users: int = 0
    turns: deque[_Channel] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class _Channel:
    """A child's way to its cloud.

    session: in use; wanted: the newest, which takes its place when nothing is under way.
    held: whether a message was delayed, so that none is sent.  failures: delays in a row.
    hungry: whether it is in the queue of those that read.  queued: in that of its connection.
    tasks: its publications, by the numbers of the messages.
    faults: how often messages have met a fault of the provider, by their numbers; of as many as can
    be under way.  logged: the faults of the provider that were logged.
    """

    own: ChildBacklog
    session: SupportsMessages | None = None
    wanted: SupportsMessages | None = None
    connection: _Connection | None = None
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    held: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    hungry: bool = False
    queued: bool = False
    faults: dict[int, int] = field(default_factory=dict)
    logged: set[str] = field(default_factory=set)


class MessageDelivery:
    """What publishes messages.  Implements SessionListener.

    cloud_of: returns the name of a child's cloud; "" where it has none.
    expired: whether a message has waited longer than it may.
    published: called when a publication has ended.
    """

    def __init__(  # noqa: PLR0913  # ruff counts keyword-only ones: what it joins
        self,
        backlog: Backlog,
        outbox: MessageOutbox,
        *,
        spending: Callable[[], DailySpending],
        arrival: ArrivalClock,
        cloud_of: Callable[[DeviceId], str],
        expired: Callable[[StoredMessage], bool],
        clock: Clock,
        published: Callable[[DeviceId, Message, Publication], None] = lambda *_: None,
    ) -> None:
        self._backlog, self._outbox = backlog, outbox
        self._spending, self._arrival, self._cloud_of = spending, arrival, cloud_of
        self._expired, self._clock, self._published = expired, clock, published
        self._channels: dict[DeviceId, _Channel] = {}
        self._connections: dict[int, _Connection] = {}
        self._hungry: deque[_Channel] = deque()
        self._may_read = asyncio.Event()

    # Sessions.

    def session_opened(self, device: DeviceId, session: Session) -> None:
        """Use this session from now on, in place of another one."""
        channel = self._channels.get(device)
        if channel is None:
            channel = self._channels[device] = _Channel(self._backlog.of(device))
        channel.wanted = session if isinstance(session, SupportsMessages) else None
        if channel.tasks:
            asyncio.get_running_loop().call_later(GIVE_UP, _cancel, tuple(channel.tasks.values()))
        self._settle(channel)

    def session_closed(self, device: DeviceId) -> None:
        """Use the session of this child no more."""
        channel = self._channels.get(device)
        if channel is not None:
            channel.wanted = None
            _cancel(tuple(channel.tasks.values()))
            self._settle(channel)

    def serves(self, device: DeviceId) -> bool:
        """Whether a child has a session over which it can speak, or had one a moment ago."""
        return device in self._channels

    def max_payload(self, device: DeviceId) -> int:
        """Return the largest payload that a child's cloud may take now; 0 where it is not known."""
        channel = self._channels.get(device)
        return channel.session.max_payload if channel and channel.session else 0

    def wake(self, device: DeviceId) -> None:
        """Send what waits of a child, if it can be."""
        if (channel := self._channels.get(device)) is not None:
            self._wake(channel)

    def wake_all(self) -> None:
        """Send what waits, if it can be: another day has begun, perhaps."""
        self._read_soon()
        for channel in tuple(self._channels.values()):
            self._wake(channel)

    async def run(self) -> None:
        """Read ahead what is to be sent, until cancelled."""
        while True:
            await self._may_read.wait()
            wanted = self._take_hungry()
            if wanted:
                await self._read(wanted)

    async def aclose(self) -> None:
        """End all publications."""
        for channel in self._channels.values():
            channel.wanted = None
            if channel.timer is not None:
                channel.timer.cancel()
        await cancel_and_wait(
            [t for channel in self._channels.values() for t in channel.tasks.values()]
        )

    # From a session to the next.

    def _settle(self, channel: _Channel) -> None:
        """Go on when nothing is under way: with another session, or with what was delayed."""
        if channel.tasks:
            return
        lanes = channel.own.lanes
        lanes.put_back()
        if channel.wanted is not channel.session:
            self._use(channel, channel.wanted)
        elif channel.held and channel.session is not None:
            channel.failures += 1
            wait = delay(channel.failures, RETRY_FIRST, RETRY_LAST, self._clock.jitter())
            loop = asyncio.get_running_loop()
            channel.timer = loop.call_later(wait, self._try_again, channel)
            return
        channel.held = False
        self._wake(channel)

    def _use(self, channel: _Channel, session: SupportsMessages | None) -> None:
        self._leave(channel)
        channel.session, channel.failures = session, 0
        if channel.timer is not None:
            channel.timer.cancel()
            channel.timer = None
        if session is None:
            channel.own.lanes.closed()
            self._read_soon()
            self._channels.pop(channel.own.child, None)
            return
        channel.own.lanes.opened()
        channel.connection = self._connection_of(session, channel.own.settings.window)
        channel.connection.users += 1

    def _connection_of(self, session: SupportsMessages, window: int) -> _Connection:
        shared = isinstance(session, SharesConnection)
        key: object = session.connection if isinstance(session, SharesConnection) else session
        found = self._connections.get(id(key))
        if found is None:
            most = SHARED_WINDOW if shared else window
            found = self._connections[id(key)] = _Connection(key, most)
        return found

    def _leave(self, channel: _Channel) -> None:
        connection, channel.connection = channel.connection, None
        if connection is None:
            return
        if channel.queued:
            connection.turns.remove(channel)
            channel.queued = False
        connection.users -= 1
        if not connection.users:
            del self._connections[id(connection.key)]

    def _try_again(self, channel: _Channel) -> None:
        channel.timer, channel.held = None, False
        self._wake(channel)

    # Turns.

    def _wake(self, channel: _Channel) -> None:
        connection = channel.connection
        if connection is not None and not channel.queued and self._may_send(channel):
            channel.queued = True
            connection.turns.append(channel)
            self._serve(connection)

    def _may_send(self, channel: _Channel) -> bool:
        lanes = channel.own.lanes
        return (
            lanes.count > lanes.under_way  # first: mostly there is none
            and channel.session is not None
            and channel.session is channel.wanted
            and not channel.held
            and len(channel.tasks) < channel.own.settings.window
        )

    def _serve(self, connection: _Connection) -> None:
        while connection.turns and connection.under_way < connection.window:
            channel = connection.turns.popleft()
            channel.queued = False
            if self._may_send(channel) and self._send_next(channel, connection):
                channel.queued = True
                connection.turns.append(channel)

    def _send_next(self, channel: _Channel, connection: _Connection) -> bool:
        """Send the next message of a child, or drop it; return whether there was one to send."""
        lanes, session = channel.own.lanes, channel.session
        if self._is_spent(channel.own.child):
            lanes.unload()  # until tomorrow, the memory is for others
            self._read_soon()
            return False
        if lanes.needs_reading and not channel.hungry:
            channel.hungry = True
            self._hungry.append(channel)
            self._read_soon()
        one = lanes.next()
        if one is None or session is None:
            return False
        if (reason := self._unfit(one, session)) is not None:
            self._drop(channel, lanes.take(), reason)
            return True
        spent = self._charge(channel.own.child, one.stored)
        if spent is None:
            return False
        self._publish(channel, connection, session, lanes.take(), spent)
        return True

    def _is_spent(self, child: DeviceId) -> bool:
        """Whether the messages of a child have to wait for another day."""
        spending = self._spending()
        if not spending.has_budgets:
            return False
        return spending.is_closed(self._cloud_of(child), self._clock.timestamp())

    def _charge(self, child: DeviceId, stored: StoredMessage) -> Spent | None:
        """Count what a message costs; None if it has to wait for another day."""
        spending = self._spending()
        if not spending.has_budgets:
            return NOTHING
        cloud, size = self._cloud_of(child), len(stored.topic) + len(stored.payload)
        spent = spending.take(cloud, size, self._clock.timestamp())
        if spent is not None and spent.messages:
            self._outbox.spend(cloud, spent)
        return spent

    def _unfit(self, one: LoadedMessage, session: SupportsMessages) -> DropReason | None:
        """Return why a message is not to be sent; None if it is."""
        if self._expired(one.stored):
            return DropReason.AGE
        too_large = 0 < session.max_payload < len(one.stored.payload)
        return DropReason.TOO_LARGE if too_large else None

    # Publications.

    def _publish(
        self,
        channel: _Channel,
        connection: _Connection,
        session: SupportsMessages,
        one: LoadedMessage,
        spent: Spent,
    ) -> None:
        stored = one.stored
        at = self._arrival.time_of(stored.boot, stored.at)
        confirmed = channel.own.settings.accepted is Acceptance.REPLY
        message = Message(stored.topic, stored.payload, at, one.late, confirmed)
        connection.under_way += 1
        work = self._deliver(channel, connection, session, one, message, spent)
        channel.tasks[stored.number] = asyncio.get_running_loop().create_task(work)

    async def _deliver(
        self,
        channel: _Channel,
        connection: _Connection,
        session: SupportsMessages,
        one: LoadedMessage,
        message: Message,
        spent: Spent,
    ) -> None:
        """Publish a message, and act on what became of it in the same turn of the loop.

        spent: what was counted for it.
        """
        number = one.waiting.number
        result: Publication = MessageDelayed(ENDED)
        try:
            result = await session.publish(message)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001  # border: a fault must not stop the others
            result = self._fault(channel, number, error)
        del channel.tasks[number]
        connection.under_way -= 1
        if isinstance(result, MessageDelayed) and not result.left:
            self._give_back(channel, one.stored, spent)
        self._ended(channel, one, message, result)
        if connection.turns:
            self._serve(connection)

    def _give_back(self, channel: _Channel, stored: StoredMessage, spent: Spent) -> None:
        """Charge a message no more that has not left."""
        cloud, size = self._cloud_of(channel.own.child), len(stored.topic) + len(stored.payload)
        left = self._spending().give_back(cloud, size, spent, self._clock.timestamp())
        if left.day:
            self._outbox.spend(cloud, left)

    def _fault(self, channel: _Channel, number: int, error: BaseException) -> Publication:
        """Log a fault of a provider; give a message up that meets one again and again.

        Each place in the code is named once: a child could send what meets one again and again.
        """
        device, faults = channel.own.child, channel.faults
        count = faults.pop(number, 0) + 1
        if count < MAX_FAULTS:
            faults[number] = count
        while len(faults) > channel.own.settings.window:  # the first are of messages that are gone
            del faults[next(iter(faults))]
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" at {one.filename}:{one.lineno}" for one in last)
        fault = f"{type(error).__name__}{where}"  # not its text, which may have what the child said
        level = logging.DEBUG if fault in channel.logged else logging.ERROR
        channel.logged.add(fault)
        log.log(
            level, "Device %s: a message was not published: %s.", device, fault,
            extra={"device": device},
        )  # fmt: skip
        return MessageDelayed(FAULT) if count < MAX_FAULTS else MessageRefused(FAULT)

    def _ended(
        self, channel: _Channel, one: LoadedMessage, message: Message, result: Publication
    ) -> None:
        own = channel.own
        self._published(own.child, message, result)
        match result:
            case MessageAccepted():
                channel.failures = 0
                self._backlog.sent(own, one.waiting.number)
                self._outbox.conclude(one.stored)
            case MessageRefused(reason):
                own.refusal = reason
                self._drop(channel, one, DropReason.REFUSED)
            case MessageDelayed():
                channel.held = True
        if self._hungry:
            self._read_soon()
        if channel.held or channel.wanted is not channel.session:
            self._settle(channel)
        else:
            self._wake(channel)

    def _drop(self, channel: _Channel, one: LoadedMessage, reason: DropReason) -> None:
        """Drop a message that is under way."""
        self._backlog.drop_under_way(channel.own, one.waiting.number, reason)
        self._outbox.conclude(one.stored)

    # Reading ahead.

    def _read_soon(self) -> None:
        """Read for those in the queue: there may be room in memory."""
        if self._hungry:
            self._may_read.set()

    def _take_hungry(self) -> list[tuple[_Channel, list[Waiting]]]:
        """Return what to read now, for the next children in the queue."""
        used, count = self._backlog.memory.used, 0
        found = []
        for _ in range(len(self._hungry)):
            channel = self._hungry.popleft()
            lanes = channel.own.lanes
            most = IN_MEMORY - used
            if most <= 0 and not lanes.in_memory and used < AT_MOST:
                most = 1  # one message, whatever its size
            if lanes.needs_reading and (most <= 0 or count >= READ_AT_ONCE):
                self._hungry.append(channel)
                continue
            wanted = lanes.to_read(most)
            if wanted:
                found.append((channel, wanted))
            else:
                channel.hungry = False
            count += len(wanted)
            used += sum(one.size for one in wanted)
        if not found:  # those in the queue wait for memory
            self._may_read.clear()
        return found

    async def _read(self, wanted: list[tuple[_Channel, list[Waiting]]]) -> None:
        numbers = [one.number for _, waiting in wanted for one in waiting]
        try:
            rows = await self._outbox.read(numbers)
        except StoreError as error:
            log.debug("Messages cannot be read: %s.", error)
            await asyncio.sleep(READ_RETRY)
            for channel, _ in wanted:
                channel.hungry = False
                self._wake(channel)
            return
        found = {row.number: row for row in rows}
        for channel, waiting in wanted:
            channel.hungry = False
            rows = [found[one.number] for one in waiting if one.number in found]
            for missing in channel.own.lanes.read(waiting, rows):
                self._backlog.dropped(channel.own, missing, DropReason.CORRUPT)
            self._wake(channel)


def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel publications, once they have begun: before, they would not note that they ended."""
    loop = asyncio.get_running_loop()
    for task in tasks:
        loop.call_soon(task.cancel)
