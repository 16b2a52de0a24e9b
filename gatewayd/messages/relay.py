"""The relay of messages: from the doors into the outbox, and from there to the clouds.

    door → bounds → outbox → lanes → session of the child

It joins the parts, which do not know one another: what is received is judged and stored, what is
stored waits in the backlog, and what waits is delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from gatewayd.cloud.provider import Publication
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason, Message
from gatewayd.device.views import MessageStatistics
from gatewayd.errors import StoreError
from gatewayd.messages.backlog import Backlog, ChildBacklog
from gatewayd.messages.bounds import ChildRates, DailySpending
from gatewayd.messages.delivery import MessageDelivery
from gatewayd.messages.intake import IncomingMessage, Settled
from gatewayd.messages.lanes import size_of
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.outbox.file import IndexEntry, StoredMessage
from gatewayd.messages.outbox.outbox import GROUP, MessageOutbox, OutboxThread
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.runtime.clock import Clock

MAX_PAYLOAD = 1024 * 1024
"""Bytes of a payload, at most: the most that any cloud accepts."""
MAX_TOPIC = 4096
"""Characters of a topic, at most."""
SWEEP = 5.0
"""Seconds between two looks for children that are gone."""
AGE_SWEEP = 60.0
"""Seconds between two looks for messages that have waited too long."""
OLDEST = 64
"""Messages of a child whose age is looked at together."""


class ChildStanding:
    """What the relay asks of a child.

    admitted: whether it may speak.  gone: whether it was forgotten or rejected, so that what waits
    of it is dropped.  cloud: the name of its cloud; "" where it has none.
    treatment: how its messages are treated, other than by default; None for that.
    """

    def __init__(
        self,
        admitted: Callable[[DeviceId], bool],
        gone: Callable[[DeviceId], bool],
        cloud: Callable[[DeviceId], str],
        treatment: Callable[[DeviceId], ChildMessageSettings | None] = lambda _: None,
    ) -> None:
        self.admitted, self.gone, self.cloud, self.treatment = admitted, gone, cloud, treatment


class MessageRelay:
    """The way of all messages.  Implements MessageIntake and OutboxOwner.

    directory: of the outbox.  arrival: the time of messages.  thread: of the outbox.
    notes: as in `MessageOutbox`.
    published: called when the publication of a message has ended.
    delivery: to be notified of sessions.
    entrances: the door at which the newest message of each child came in.
    """

    def __init__(  # noqa: PLR0913  # ruff counts keyword-only ones: what it joins
        self,
        settings: MessageSettings,
        directory: Path,
        children: ChildStanding,
        clock: Clock,
        *,
        arrival: ArrivalClock | None = None,
        thread: OutboxThread | None = None,
        notes: Path | None = None,
        published: Callable[[DeviceId, Message, Publication], None] = lambda *_: None,
    ) -> None:
        self._settings, self._children, self._clock = settings, children, clock
        self._arrival = arrival or ArrivalClock(clock.wall)
        delay = settings.commit_delay
        self._outbox = MessageOutbox(
            directory, delay, clock.timestamp, self._arrival, thread, notes=notes
        )
        self._backlog = Backlog(
            lambda child: children.treatment(child) or settings.child, settings.keep
        )
        self._rates = ChildRates()
        self._spending = DailySpending(settings.clouds, {})
        self.entrances: dict[DeviceId, str] = {}
        self._last: tuple[object, MessageStatistics] | None = None
        self.delivery = MessageDelivery(
            self._backlog,
            self._outbox,
            spending=lambda: self._spending,
            arrival=self._arrival,
            cloud_of=children.cloud,
            expired=self._expired,
            clock=clock,
            published=published,
        )

    # Its life.

    async def open(self, doors: Collection[str]) -> None:
        """Open the outbox; until then, `blocked`.

        doors: the names of those that are configured.
        Raises ConfigError; and StoreError, after which it may be tried again.
        """
        await self._outbox.open(self, doors)
        self._spending = DailySpending(self._settings.clouds, self._outbox.spent)
        usable = self._outbox.used + self._outbox.free // 2
        self._backlog.capacity = min(self._settings.keep, usable)
        self.delivery.wake_all()

    def services(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Return what has to run."""
        return [self._outbox.run, self.delivery.run, self._sweep]

    def time_commits(self, timed: Callable[[], AbstractContextManager[None]]) -> None:
        """Have each group that is made durable run in what this returns."""
        self._outbox.timed = timed

    async def ping(self) -> None:
        """Return when the outbox has done all before.  For the watchdog."""
        await self._outbox.ping()

    async def aclose(self) -> None:
        """End all publications, then close the outbox."""
        await self.delivery.aclose()
        await self._outbox.aclose()

    # What is received: MessageIntake.

    @property
    def blocked(self) -> bool:
        """Whether nothing can be stored now."""
        return bool(self._outbox.blocked)

    def session_begun(self, door: str) -> None:
        """Note that no packet of a door is a repeat of an earlier one."""
        self._outbox.forget_packets(door)

    def was_away(self, door: str, seconds: float) -> None:
        """Let children send what a door has not read for some seconds."""
        self._rates.was_away(door, seconds, self._clock.now())

    def on_ready(self, resume: Callable[[], None]) -> None:
        """Have `resume` called, each time that `blocked` ends."""
        self._outbox.on_ready(resume)

    @property
    def gathers(self) -> bool:
        """Whether what comes now is stored a moment later, with what was offered before."""
        return self._outbox.gathers

    def on_due(self, gather: Callable[[], None]) -> None:
        """Have `gather` called, each time that what has come is about to be stored."""
        self._outbox.on_due(gather)

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        """Accept a message, and have `settled` called when it is durable, or dropped."""
        if self._outbox.knows(message):
            self._outbox.settle(settled, None)  # after its first copy
            return
        child = message.child
        if not self._children.admitted(child):
            unknown = DropReason.UNKNOWN_CHILD
            self._backlog.count_dropped(None, self._outbox.door(message.door), unknown)
            self._outbox.settle(settled, unknown)
            return
        own, size = self._backlog.of(child), size_of(message.topic, message.payload)
        reason = self._refusal(own, message, size)
        if reason is not None:
            self._backlog.count_dropped(own, self._outbox.door(message.door), reason)
            self._outbox.settle(settled, reason)
            return
        self.entrances[child] = message.door
        self._backlog.arrive(own, size)
        self._outbox.add(message, settled)

    def _refusal(self, own: ChildBacklog, message: IncomingMessage, size: int) -> DropReason | None:
        """Return why a message is dropped; else make room for it."""
        child = message.child
        most = self.delivery.max_payload(child) or MAX_PAYLOAD
        if len(message.payload) > min(most, MAX_PAYLOAD) or len(message.topic) > MAX_TOPIC:
            return DropReason.TOO_LARGE
        if not _is_text(message.topic):
            return DropReason.REFUSED
        rate = own.settings.rate
        if not self._rates.take(child, message.door, rate, self._clock.now()):
            return DropReason.RATE
        disk_full = self._outbox.full and self._backlog.size + size > self._outbox.ceiling
        if not disk_full and self._backlog.has_room(own, size):
            return None
        if (reason := self._backlog.judge(own, size, disk_full=disk_full)) is not None:
            return reason
        dropped, bound = self._backlog.make_room_for(own, size)
        for one in dropped:
            self._outbox.delete(one.number)
        return bound

    # What is stored: OutboxOwner.

    @property
    def waits(self) -> bool:
        """Whether any message waits."""
        return self._backlog.total.waiting > 0

    @property
    def size(self) -> int:
        """The bytes of what waits, and of what is about to be stored."""
        return self._backlog.size

    def clear(self) -> None:
        """Let nothing wait: the outbox is being opened."""
        self._backlog.clear()

    def restore(self, entries: Sequence[IndexEntry]) -> None:
        """Let messages of an earlier run wait."""
        for entry in entries:
            self._backlog.restored(self._outbox.child_of(entry[1]), entry)

    def stored(self, messages: Sequence[StoredMessage]) -> None:
        """Deliver messages that are durable now."""
        for one in messages:
            own = self._backlog.of(self._outbox.child_of(one.child))
            self._backlog.stored(own, one)
            self.delivery.wake(own.child)

    def make_room(self, count: int, size: int) -> list[int]:
        """Drop the oldest of those children of which most waits; return their numbers."""
        dropped: list[int] = []
        while (count > 0 or size > 0) and len(dropped) < GROUP:
            one = self._backlog.drop_of_largest(DropReason.TOTAL)
            if one is None:
                break
            dropped.append(one.number)
            count, size = count - 1, size - one.size
        return dropped

    def rescue(self) -> list[StoredMessage]:
        """Drop what is not in memory, as the file is lost; return the rest."""
        kept: list[StoredMessage] = []
        for own in self._backlog.children.values():
            for one in own.lanes.drop_unread():
                self._backlog.dropped(own, one, DropReason.CORRUPT)
            kept += own.lanes.loaded()
        return sorted(kept, key=lambda one: one.number)

    # What has waited too long, or for nothing.

    def standing_changed(self, child: DeviceId) -> None:
        """Drop what waits of a child that is gone, before it may be admitted again."""
        own = self._backlog.children.get(child)
        if own is not None and self._children.gone(child):
            self._forget(own)

    async def _sweep(self) -> None:
        """Drop what is not to be delivered any more, until cancelled."""
        aged = self._clock.now() - AGE_SWEEP  # what is restored is looked at soon
        while True:
            await asyncio.sleep(SWEEP)
            for own in tuple(self._backlog.children.values()):
                if self._children.gone(own.child):
                    self._forget(own)
                else:
                    self._backlog.treat(own)
            if self._clock.now() - aged >= AGE_SWEEP:
                aged = self._clock.now()
                self._rates.forget_idle(aged)
                self.delivery.wake_all()
                for own in tuple(self._backlog.children.values()):
                    with suppress(StoreError):  # what is stored next says so
                        await self._drop_aged(own)

    def _forget(self, own: ChildBacklog) -> None:
        for one in self._backlog.forget(own):
            self._outbox.delete(one.number)
        self.entrances.pop(own.child, None)
        if not self.delivery.serves(own.child):
            self._backlog.remove(own)

    async def _drop_aged(self, own: ChildBacklog) -> None:
        """Drop messages of a child that have waited too long."""
        most = 1  # more are read where the oldest has
        while numbers := own.lanes.oldest(most):
            rows = await self._outbox.read(numbers)
            oldest = (rows[0].boot, rows[0].at) if rows else (0, 0)
            if oldest != own.oldest:
                own.oldest, self._last = oldest, None
            aged = {row.number for row in rows if self._expired(row)}
            still = list(takewhile(aged.__contains__, own.lanes.oldest(most)))
            for _ in still:
                if (one := self._backlog.drop_oldest(own, DropReason.AGE)) is not None:
                    self._outbox.delete(one.number)
            if len(still) < most:
                return
            most = OLDEST

    def _expired(self, one: StoredMessage) -> bool:
        """Whether a message has waited too long, as far as that is known."""
        return self._arrival.is_older(one.boot, one.at, self._settings.keep_age * 1000)

    def _time_of(self, one: StoredMessage) -> int:
        return self._arrival.time_of(one.boot, one.at)

    def waiting(self) -> list[DeviceId]:
        """Return the children of which messages wait."""
        return [child for child, own in self._backlog.children.items() if own.tally.waiting]

    # What is shown.

    def statistics(self) -> MessageStatistics:
        """Return the statistics of now: the last ones, if nothing has changed since."""
        revision = self._revision()
        if self._last is None or self._last[0] != revision:
            self._last = revision, self._make_statistics()
        return self._last[1]

    def _revision(self) -> object:
        """Return what is another value whenever the statistics are: counting all costs more."""
        total, outbox = self._backlog.total, self._outbox
        counts = total.waiting, total.bytes, total.received, total.sent, total.dropped.total()
        where = len(self._backlog.children), self._backlog.memory.used
        return counts, where, outbox.blocked, outbox.full, self._arrival.right

    def _make_statistics(self) -> MessageStatistics:
        backlog, outbox = self._backlog, self._outbox
        oldest = {own.child: self._oldest(own) * 1000 for own in backlog.children.values()}
        entrances: dict[str, int] = {}
        for child, at in oldest.items():
            door = self.entrances.get(child, "")
            entrances[door] = min(filter(None, (at, entrances.get(door))), default=0)
        doors = {name: backlog.doors[n] for name, n in outbox.doors.items() if n in backlog.doors}
        state, why = "running", ""
        if outbox.blocked:
            state, why = "blocked", f"Messages cannot be stored: {outbox.blocked}."
        elif outbox.full:
            state, why = "full", "The disk is full, so that old messages are dropped: free space."
        return MessageStatistics(
            state=state,
            explanation=why,
            capacity=backlog.capacity,
            in_memory=backlog.memory.used,
            total=backlog.total.counts(min(filter(None, oldest.values()), default=0)),
            doors={name: t.counts(entrances.get(name, 0)) for name, t in doors.items()},
            children={
                own.child: own.tally.counts(oldest[own.child]) for own in backlog.children.values()
            },
            refusals={
                own.child: own.refusal
                for own in backlog.children.values()
                if own.refusal is not None
            },
        )

    def _oldest(self, own: ChildBacklog) -> int:
        """Return when the oldest message of a child arrived, milliseconds; 0: not known."""
        if not own.lanes.count:
            return 0
        first = own.lanes.first_read()
        return self._arrival.time_of(*own.oldest) if first is None else self._time_of(first)


def _is_text(topic: str) -> bool:
    """Whether a topic can be stored as UTF-8."""
    if topic.isascii():
        return True
    try:
        topic.encode()
    except UnicodeEncodeError:
        return False
    return True
