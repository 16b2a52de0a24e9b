"""The lanes of one child: what waits, in what order it leaves, and what is under way.  Pure.

What waits is known by its number alone, 14 bytes a message; the next few messages of a lane are
read ahead.  Nothing here asks the disk whether there is more: numbers in memory miss nothing that
is stored while something else is being read.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from gatewayd.device.message import AfterOutage
from gatewayd.messages.outbox.file import StoredMessage

READ_AHEAD = 64
"""Messages of a child that are read ahead."""
READ_AHEAD_SIZE = 256 * 1024
"""Their size, at most, unless one alone is larger."""
READ_AGAIN = 16
"""Messages that are left of them when more are read."""
OVERHEAD = 48
"""Bytes that count for storing a message, besides its topic and its payload."""
_COMPACT = 1024
"""Places before the head of a list that are worth being freed."""


class Waiting(NamedTuple):
    """A message that waits: its number, what it counts against the bounds, and its door's id."""

    number: int
    size: int
    door: int


class LoadedMessage(NamedTuple):
    """A message that is in memory.  late: whether it leaves as one that has waited."""

    waiting: Waiting
    stored: StoredMessage
    late: bool = False


def size_of(topic: str, payload: bytes) -> int:
    """Return what a message counts against the bounds."""
    return len(topic) + len(payload) + OVERHEAD


@dataclass(slots=True, eq=False)
class MemoryUse:
    """The bytes of all messages that are in memory."""

    used: int = 0


class WaitingList:
    """Messages that wait, oldest first."""

    def __init__(self) -> None:
        self._numbers, self._sizes, self._doors = array("Q"), array("I"), array("H")
        self._head = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._head

    def __iter__(self) -> Iterator[Waiting]:
        return map(self._at, range(self._head, len(self._numbers)))

    def first(self) -> Waiting:
        """Return the oldest."""
        return self._at(self._head)

    def append(self, one: Waiting) -> None:
        """Add the newest."""
        self._numbers.append(one.number)
        self._sizes.append(one.size)
        self._doors.append(one.door)

    def pop(self) -> Waiting:
        """Remove and return the oldest."""
        one = self._at(self._head)
        self._head += 1
        if self._head >= _COMPACT and self._head * 2 >= len(self._numbers):
            self._cut()
        return one

    def prepend(self, older: Sequence[Waiting]) -> None:
        """Add what is older than all, oldest first."""
        self._cut()
        self._numbers[:0] = array("Q", (one.number for one in older))
        self._sizes[:0] = array("I", (one.size for one in older))
        self._doors[:0] = array("H", (one.door for one in older))

    def move_to(self, other: WaitingList) -> None:
        """Move all to the end of another list."""
        self._cut()
        other._numbers += self._numbers
        other._sizes += self._sizes
        other._doors += self._doors
        self._head = len(self._numbers)
        self._cut()

    def _at(self, place: int) -> Waiting:
        return Waiting(self._numbers[place], self._sizes[place], self._doors[place])

    def _cut(self) -> None:
        for column in (self._numbers, self._sizes, self._doors):
            del column[: self._head]
        self._head = 0


class Lane:
    """Messages in order: those that are read ahead come before those that are not."""

    def __init__(self) -> None:
        self.ahead: deque[LoadedMessage] = deque()
        self.unread = WaitingList()

    def __bool__(self) -> bool:
        return bool(self.ahead or self.unread)


class ChildLanes:
    """What waits of one child, and what of it is under way.

    There are two lanes after an outage if new messages are to leave first, else one.
    memory: of all children.
    size, count: of all that waits, with what is under way.
    """

    def __init__(self, after_outage: AfterOutage, memory: MemoryUse) -> None:
        self._live, self._late = Lane(), Lane()
        self._after_outage = after_outage
        self._live_first = after_outage is AfterOutage.LIVE_FIRST
        self._under_way: dict[int, LoadedMessage] = {}
        self._online, self._memory = False, memory
        self._kept = 0  # bytes of its messages that are in memory
        self.size = self.count = 0

    @property
    def under_way(self) -> int:
        """How many messages are under way."""
        return len(self._under_way)

    @property
    def in_memory(self) -> int:
        """Bytes of its messages that are in memory."""
        return self._kept

    def order(self, after_outage: AfterOutage) -> None:
        """Set in which order messages leave; while there are two lanes, it is that of before."""
        self._after_outage = after_outage
        if not self._live and not any(not one.late for one in self._under_way.values()):
            self._live_first = after_outage is AfterOutage.LIVE_FIRST

    # What comes.

    def append(self, one: Waiting, stored: StoredMessage | None) -> None:
        """Add the newest message.  stored: where it is in memory, and may be kept there."""
        late = not self._online or (not self._live_first and self._waits_late())
        lane = self._late if late else self._live
        size = one.size
        self.count += 1
        self.size += size
        if stored is not None and self._online and self._has_room(lane, size):
            lane.ahead.append(LoadedMessage(one, stored, late))
            self._kept += size
            self._memory.used += size
        else:
            lane.unread.append(one)

    def restore(self, one: Waiting) -> None:
        """Add the newest message of an earlier run: it is late, whatever comes meanwhile."""
        self._late.unread.append(one)
        self.count += 1
        self.size += one.size

    def clear(self) -> None:
        """Let nothing wait: what was restored is restored again.  Nothing was sent so far."""
        self._late.unread = WaitingList()
        self.count = self.size = 0

    def opened(self) -> None:
        """A session begins: what waits is late, and what comes from now on is not."""
        self._online = True

    def closed(self) -> None:
        """The session has ended, and what was under way was put back: all that waits is late."""
        assert not self._under_way, "it was put back"
        self._online = False
        self.unload()
        self._live.unread.move_to(self._late.unread)
        self.order(self._after_outage)

    def unload(self) -> None:
        """Let what was read ahead wait unread again, as it cannot be sent now."""
        for lane in (self._live, self._late):
            self._forget_read(lane)

    # What leaves.

    def next(self) -> LoadedMessage | None:
        """Return the next message; None while it is not read, or where there is none."""
        lane = self._next_lane()
        return lane.ahead[0] if lane is not None and lane.ahead else None

    def take(self) -> LoadedMessage:
        """Return the next message, which was read, and is under way from now on."""
        lane = self._next_lane()
        assert lane is not None, "it was read"
        one = lane.ahead.popleft()
        self._under_way[one.waiting.number] = one
        return one

    def done(self, number: int) -> Waiting:
        """Remove a message that was under way."""
        one = self._under_way.pop(number).waiting
        self._leave_memory(one.size)
        return self._gone(one)

    def put_back(self) -> None:
        """Put what is under way back to its place: it is to be sent again, before later ones."""
        back = sorted(self._under_way.values(), key=lambda one: one.waiting.number, reverse=True)
        for one in back:
            (self._late if one.late else self._live).ahead.appendleft(one)
        self._under_way.clear()

    # What is read.

    @property
    def needs_reading(self) -> bool:
        """Whether messages are to be read ahead now."""
        lane = self._next_lane() if self._online else None
        return lane is not None and len(lane.ahead) <= READ_AGAIN and len(lane.unread) > 0

    def to_read(self, most: int) -> list[Waiting]:
        """Return the messages to read now, of so many bytes, or one that is larger."""
        lane = self._next_lane()
        if lane is None or not self.needs_reading or most <= 0:
            return []
        found: list[Waiting] = []
        room, size = READ_AHEAD - len(lane.ahead), 0
        for one in lane.unread:
            size += one.size
            if len(found) >= room or (found and size > min(most, READ_AHEAD_SIZE)):
                break
            found.append(one)
        return found

    def read(self, wanted: Iterable[Waiting], found: Iterable[StoredMessage]) -> list[Waiting]:
        """Add messages that were read; return those that were not found, which are removed.

        wanted: what `to_read` returned.  What has left its lane meanwhile is ignored.
        """
        if not self._online:
            return []
        numbers, loaded = {one.number for one in wanted}, {one.number: one for one in found}
        missing = []
        for lane, late in ((self._late, True), (self._live, False)):
            while len(lane.unread) and lane.unread.first().number in numbers:
                one = lane.unread.pop()
                if (stored := loaded.get(one.number)) is None:
                    missing.append(self._gone(one))
                else:
                    self._keep(lane, LoadedMessage(one, stored, late))
        return missing

    # What is dropped.

    def drop_oldest(self) -> Waiting | None:
        """Remove and return the oldest message that is not under way; None where there is none."""
        lane = self._oldest_lane()
        if lane is None:
            return None
        if lane.ahead:
            one = lane.ahead.popleft().waiting
            self._leave_memory(one.size)
        else:
            one = lane.unread.pop()
        return self._gone(one)

    def first_read(self) -> StoredMessage | None:
        """Return the oldest message that waits or is under way, where that is in memory."""
        if self._under_way:
            return self._under_way[min(self._under_way)].stored
        lane = self._oldest_lane()
        return lane.ahead[0].stored if lane is not None and lane.ahead else None

    def oldest(self, most: int) -> list[int]:
        """Return the numbers of so many messages that are the oldest of those not under way."""
        ahead = (one.waiting for lane in (self._late, self._live) for one in lane.ahead)
        unread = chain(self._late.unread, self._live.unread)
        return sorted(one.number for one in chain(ahead, islice(unread, most)))[:most]

    def loaded(self) -> list[StoredMessage]:
        """Return what is in memory, in order of its numbers."""
        kept = (*self._under_way.values(), *self._late.ahead, *self._live.ahead)
        return sorted((one.stored for one in kept), key=lambda one: one.number)

    def drop_unread(self) -> list[Waiting]:
        """Remove and return what is not in memory."""
        lists = (self._late.unread, self._live.unread)
        return [self._gone(unread.pop()) for unread in lists for _ in range(len(unread))]

    # Inside.

    def _next_lane(self) -> Lane | None:
        if self._live_first and self._live.ahead:
            return self._live
        if self._live and (self._live_first or not self._late):
            return self._live
        return self._late or None

    def _oldest_lane(self) -> Lane | None:
        """Return the lane with the oldest message: what is late came before what is live."""
        return next((lane for lane in (self._late, self._live) if lane), None)

    def _waits_late(self) -> bool:
        return bool(self._late) or any(one.late for one in self._under_way.values())

    def _has_room(self, lane: Lane, size: int) -> bool:
        read = len(lane.ahead) < READ_AHEAD and self._kept + size <= READ_AHEAD_SIZE
        return read and not len(lane.unread)

    def _keep(self, lane: Lane, one: LoadedMessage) -> None:
        lane.ahead.append(one)
        self._leave_memory(-one.waiting.size)

    def _forget_read(self, lane: Lane) -> None:
        """Have what was read ahead wait unread again."""
        if lane.ahead:
            lane.unread.prepend([one.waiting for one in lane.ahead])
            self._leave_memory(sum(one.waiting.size for one in lane.ahead))
            lane.ahead.clear()

    def _leave_memory(self, size: int) -> None:
        self._kept -= size
        self._memory.used -= size

    def _gone(self, one: Waiting) -> Waiting:
        self.count -= 1
        self.size -= one.size
        return one
