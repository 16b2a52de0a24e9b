"""The backlog: what waits of all children, inside its bounds, and the counts of it.  Pure.

What arrives counts before it is stored, so that no bound is passed while the disk is slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason, OnFull
from gatewayd.device.reason import Reason
from gatewayd.device.views import MessageCounts
from gatewayd.messages.lanes import OVERHEAD, ChildLanes, MemoryUse, Waiting, size_of
from gatewayd.messages.outbox.file import IndexEntry, StoredMessage
from gatewayd.messages.settings import ChildMessageSettings

IN_MEMORY = 32 * 1024 * 1024
"""Bytes of all children's messages that are in memory; one message more, at most, is read."""
AT_MOST = 2 * IN_MEMORY
"""Bytes up to which a child that has none in memory may read one, so that none waits for others."""

DROPPED_AT_ONCE = 25_000
"""Messages that make room for one, at most, so that nothing else waits long for that.  None needs
more; where a bound is lower than in an earlier run, the next ones make the rest of the room."""
SAME_VICTIM = 64
"""Messages that one child gives up before all are compared again."""


@dataclass(slots=True, eq=False)
class Tally:
    """What became of messages since the start, and what waits of them."""

    waiting: int = 0
    bytes: int = 0
    received: int = 0
    sent: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)

    def counts(self, oldest: int) -> MessageCounts:
        """Return what is shown.  oldest: when it was received, microseconds since the epoch."""
        dropped = {reason.value: count for reason, count in self.dropped.items()}
        return MessageCounts(self.waiting, self.bytes, oldest, self.received, self.sent, dropped)


@dataclass(slots=True, eq=False)
class ChildBacklog:
    """What waits of one child.

    settings: how its messages are treated.
    arriving: bytes that are on their way into the outbox.
    oldest: when the oldest arrived, as `ArrivalClock.now` has said; (0, 0) where that is not known.
    refusal: of its newest message that the cloud refused.
    """

    child: DeviceId
    lanes: ChildLanes
    settings: ChildMessageSettings
    tally: Tally = field(default_factory=Tally)
    arriving: int = 0
    oldest: tuple[int, int] = (0, 0)
    refusal: Reason | None = None

    @property
    def size(self) -> int:
        """What counts against its share."""
        return self.lanes.size + self.arriving

    @property
    def refuses(self) -> bool:
        """Whether its new messages are dropped where there is no room, and none of the old ones."""
        return self.settings.on_full is OnFull.REFUSE

    def treat(self, settings: ChildMessageSettings) -> None:
        """Treat its messages in another way from now on."""
        if settings is not self.settings:
            self.settings = settings
            self.lanes.order(settings.after_outage)


class Backlog:
    """What waits of all children.  capacity: bytes for all of them together.

    settings_of: returns how the messages of a child are treated.
    """

    def __init__(
        self, settings_of: Callable[[DeviceId], ChildMessageSettings], capacity: int
    ) -> None:
        self._settings_of, self.capacity = settings_of, capacity
        self.children: dict[DeviceId, ChildBacklog] = {}
        self.doors: dict[int, Tally] = {}
        self.total, self.memory = Tally(), MemoryUse()
        self.arriving = 0
        self._victim: ChildBacklog | None = None
        self._victim_for = 0

    def of(self, child: DeviceId) -> ChildBacklog:
        """Return the backlog of a child, which is made if need be."""
        found = self.children.get(child)
        if found is None:
            settings = self._settings_of(child)
            lanes = ChildLanes(settings.after_outage, self.memory)
            found = self.children[child] = ChildBacklog(child, lanes, settings)
        return found

    def treat(self, own: ChildBacklog) -> None:
        """Treat the messages of a child as is wanted now: its rule may have changed."""
        own.treat(self._settings_of(own.child))

    def door(self, door: int) -> Tally:
        """Return the tally of a door, by its id in the outbox."""
        found = self.doors.get(door)
        if found is None:
            found = self.doors[door] = Tally()
        return found

    @property
    def size(self) -> int:
        """What counts against the capacity."""
        return self.total.bytes + self.arriving

    # What arrives.

    def has_room(self, own: ChildBacklog, size: int) -> bool:
        """Whether no bound stands in the way of a message of a child."""
        fits = own.lanes.size + own.arriving + size <= own.settings.share
        return fits and self.total.bytes + self.arriving + size <= self.capacity

    def judge(self, own: ChildBacklog, size: int, *, disk_full: bool) -> DropReason | None:
        """Return why a message is refused where old ones make no room for it; else None.

        disk_full: whether nothing can be added to what is stored.
        """
        if (own.size if own.refuses else 0) + size > own.settings.share:
            return DropReason.SHARE
        if (self.size if own.refuses else 0) + size > self.capacity or (own.refuses and disk_full):
            return DropReason.TOTAL
        return None

    def make_room_for(
        self, own: ChildBacklog, size: int
    ) -> tuple[list[Waiting], DropReason | None]:
        """Drop the oldest until there is room for a message; return them.

        Returns the bound that cannot be kept so, if there is one: what is left is under way.
        After DROPPED_AT_ONCE there need not be room yet.
        """
        dropped: list[Waiting] = []
        while own.size + size > own.settings.share and len(dropped) < DROPPED_AT_ONCE:
            if (one := self.drop_oldest(own, DropReason.SHARE)) is None:
                return dropped, DropReason.SHARE
            dropped.append(one)
        while self.size + size > self.capacity and len(dropped) < DROPPED_AT_ONCE:
            if (one := self.drop_of_largest(DropReason.TOTAL)) is None:
                return dropped, DropReason.TOTAL
            dropped.append(one)
        return dropped, None

    def arrive(self, own: ChildBacklog, size: int) -> None:
        """Count a message that is about to be stored."""
        own.arriving += size
        self.arriving += size

    def stored(self, own: ChildBacklog, message: StoredMessage) -> None:
        """Add a message that is stored."""
        size = size_of(message.topic, message.payload)
        if not own.lanes.count:
            own.oldest = message.boot, message.at
        own.arriving -= size
        self.arriving -= size
        kept = message if self.memory.used < IN_MEMORY else None
        own.lanes.append(Waiting(message.number, size, message.door), kept)
        for tally in self._tallies(own, message.door):
            tally.received += 1
            tally.waiting += 1
            tally.bytes += size

    def restored(self, child: DeviceId, entry: IndexEntry) -> None:
        """Add a message of an earlier run."""
        number, _, door, _, length = entry
        own, one = self.of(child), Waiting(number, length + OVERHEAD, door)
        own.lanes.restore(one)
        for tally in self._tallies(own, door):
            tally.waiting += 1
            tally.bytes += one.size

    def remove(self, own: ChildBacklog) -> None:
        """Remove a child of which nothing waits."""
        if not own.lanes.count and not own.arriving:
            self.children.pop(own.child, None)
            self._victim = None

    def clear(self) -> None:
        """Let nothing wait, before anything was stored.  Children may have sessions by then."""
        for own in self.children.values():
            own.lanes.clear()
            own.tally = Tally()
        self.doors.clear()
        self.total, self.arriving = Tally(), 0

    # What leaves.

    def sent(self, own: ChildBacklog, number: int) -> None:
        """Remove a message that the cloud has."""
        one = own.lanes.done(number)
        for tally in self._tallies(own, one.door):
            tally.waiting -= 1
            tally.bytes -= one.size
            tally.sent += 1

    def drop_under_way(self, own: ChildBacklog, number: int, reason: DropReason) -> None:
        """Drop a message that was under way."""
        self.dropped(own, own.lanes.done(number), reason)

    def drop_oldest(self, own: ChildBacklog, reason: DropReason) -> Waiting | None:
        """Drop and return the oldest message of a child that is not under way, if there is one."""
        one = own.lanes.drop_oldest()
        if one is not None:
            self.dropped(own, one, reason)
        return one

    def drop_of_largest(self, reason: DropReason) -> Waiting | None:
        """Drop and return the oldest message of the child of which most waits, if there is one.

        Not of those whose old messages make no room.
        It stays the largest for some messages: to compare all for each would cost too much.
        """
        if self._victim is not None and self._victim_for > 0 and not self._victim.refuses:
            self._victim_for -= 1
            if (one := self.drop_oldest(self._victim, reason)) is not None:
                return one
        droppable = (own for own in self.children.values() if not own.refuses)
        ranked = sorted(droppable, key=lambda own: own.lanes.size, reverse=True)
        for own in ranked:
            if (one := self.drop_oldest(own, reason)) is not None:
                self._victim, self._victim_for = own, SAME_VICTIM
                return one
        return None

    def dropped(self, own: ChildBacklog, one: Waiting, reason: DropReason) -> None:
        """Count a message that waited, and was removed from its lane."""
        for tally in self._tallies(own, one.door):
            tally.waiting -= 1
            tally.bytes -= one.size
        self.count_dropped(own, one.door, reason)

    def count_dropped(self, own: ChildBacklog | None, door: int, reason: DropReason) -> None:
        """Count a message that is dropped.  own: None for a child that is not known."""
        tallies = (self.total, self.door(door)) if own is None else self._tallies(own, door)
        for tally in tallies:
            tally.dropped[reason] += 1

    def forget(self, own: ChildBacklog) -> list[Waiting]:
        """Drop and return all of a child that is not under way."""
        gone = []
        while (one := self.drop_oldest(own, DropReason.FORGOTTEN)) is not None:
            gone.append(one)
        return gone

    def _tallies(self, own: ChildBacklog, door: int) -> tuple[Tally, Tally, Tally]:
        return self.total, self.door(door), own.tally
