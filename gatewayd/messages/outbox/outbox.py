"""The outbox: messages become durable in groups, and are settled in the order of their arrival.

The first message starts a short wait; all that came by then is one transaction.  A full disk, a
file that is damaged and one that cannot be written end here: what has not been settled is kept, and
is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason
from gatewayd.errors import StoreError, StoreFull, StoreUnavailable
from gatewayd.messages.intake import IncomingMessage, Settled
from gatewayd.messages.outbox.arrival import ArrivalClock, KnownPackets, boot_name, digest_of
from gatewayd.messages.outbox.concluded import ConcludedMessages
from gatewayd.messages.outbox.file import (
    Changes,
    IndexEntry,
    OutboxFile,
    SeenPacket,
    Spent,
    StoredMessage,
    set_aside,
)
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

T = TypeVar("T")
Name = TypeVar("Name", bound=str)

GROUP = 1000
"""Messages that are stored, or deleted, in one transaction."""
GROUP_SIZE = 16 * 1024 * 1024
"""Bytes that are stored in one transaction, unless one message is larger."""
DELETE_DELAY = 1.0
"""Seconds for which deletes wait for messages to be stored with."""
RETRY = 1.0
"""Seconds after which the disk is tried again."""
REOPEN = 10
"""Failures in a row after which the file is opened again, and examined."""
TEND = 10.0
"""Seconds between two looks at the clock and the disk."""
VACUUM_EVERY = 1.0
"""Seconds between two steps of giving pages back."""
FIRST_ROOM = 500
"""Messages that make room when nothing more fits, so that there is some for what follows."""
SLACK = 256 * 1024
"""Bytes by which what waits may grow while the disk is full, from what the reserve gives back: what
is sent at once needs room for a moment."""
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class OutboxOwner(Protocol):
    """What the outbox asks of its owner.  Never blocks, never raises."""

    @property
    def waits(self) -> bool:
        """Whether any message waits."""

    @property
    def size(self) -> int:
        """The bytes of what waits, and of what is about to be stored."""

    def clear(self) -> None:
        """Nothing waits.  Called while the outbox is opened, on its thread."""

    def restore(self, entries: Sequence[IndexEntry]) -> None:
        """These wait, after those before.  Called while the outbox is opened, on its thread."""

    def stored(self, messages: Sequence[StoredMessage]) -> None:
        """These are durable now."""

    def make_room(self, count: int, size: int) -> list[int]:
        """Give up so many messages at least, and so many bytes, if there are; return which."""

    def rescue(self) -> list[StoredMessage]:
        """Give up what is not in memory, as the file is lost; return what is."""


@dataclass(slots=True, eq=False)
class _Arrival:
    """A message on its way into the file, or one that is dropped, and is settled in its turn."""

    settled: Settled
    dropped: DropReason | None = None
    message: StoredMessage | None = None
    seen: SeenPacket | None = None


class OutboxThread:
    """The thread of the outbox.  executor: of one worker."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor or ThreadPoolExecutor(1, "outbox")

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a work, after those before it.  Cancelled: it is done all the same."""
        loop = asyncio.get_running_loop()
        # else what still waits for its turn would be cancelled with its caller
        return await asyncio.shield(loop.run_in_executor(self._executor, work, *arguments))

    def close(self) -> None:
        """End the thread when it has done all."""
        self._executor.shutdown(wait=False)


class MessageOutbox:
    """The messages that wait, durable, and those that become it.  Used on the event loop.

    directory: of the file.  delay: seconds for which a message waits for others.
    timestamp: returns the time in seconds since the epoch.
    notes: the directory of what is concluded; None for that of the file.
    blocked: why nothing can be stored now; "" where it can.
    full: whether the disk is full, so that old messages make room for new ones, above `ceiling`.
    ceiling: bytes that may wait while the disk is full.
    children, doors: their ids.  spent: what an earlier run has spent at each cloud.
    free, used: bytes of the disk, when that was last looked at.
    """

    def __init__(
        self,
        directory: Path,
        delay: float,
        timestamp: Callable[[], float],
        arrival: ArrivalClock,
        thread: OutboxThread | None = None,
        *,
        notes: Path | None = None,
    ) -> None:
        self._directory, self._delay, self._timestamp = directory, delay, timestamp
        self._arrival, self._thread = arrival, thread or OutboxThread()
        self._concluded = ConcludedMessages(notes or directory)
        self._arrivals: deque[_Arrival] = deque()
        self._deleted: deque[int] = deque()
        self._next = Changes()  # what goes with the next group, besides those
        self._work, self._arrived = asyncio.Event(), asyncio.Event()
        self._ready: list[Callable[[], None]] = []
        self._due: list[Callable[[], None]] = []
        self._is_due = False
        self._damage, self._reopens, self._failures, self._last = "", False, 0, 0
        self.blocked, self.full, self.ceiling, self.free, self.used = "", False, 0, 0, 0
        self.children: dict[DeviceId, int] = {}
        self.doors: dict[str, int] = {}
        self.spent: dict[str, Spent] = {}
        self._names: dict[int, DeviceId] = {}
        self._known, self._is_open = KnownPackets(), False
        self._file: OutboxFile  # from the first try to open it on
        self.timed: Callable[[], AbstractContextManager[None]] = nullcontext

    # What is stored, and deleted.

    def knows(self, message: IncomingMessage) -> bool:
        """Whether a message is a repeat of one that is stored, or about to be."""
        if not (message.repeated and message.packet):
            return False
        return self._known.knows(self.door(message.door), message.packet, _digest(message))

    def forget_packets(self, door: str) -> None:
        """Take no packet that a door receives from now on for a repeat of an earlier one."""
        if (number := self.doors.get(door)) is not None and self._known.forget(number):
            self._next.unknown.add(number)
            self._work.set()

    def door(self, name: str) -> int:
        """Return the id of a door."""
        return self._id(self.doors, name, self._next.doors)

    def child(self, name: DeviceId) -> int:
        """Return the id of a child."""
        found = self.children.get(name)
        if found is None:
            found = self._id(self.children, name, self._next.children)
            self._names[found] = name
        return found

    def child_of(self, number: int) -> DeviceId:
        """Return the child that has an id."""
        found = self._names.get(number)
        return DeviceId(f"unknown-{number}") if found is None else found

    def add(self, message: IncomingMessage, settled: Settled) -> None:
        """Store a message.  settled: called when it is durable, after those before."""
        door, child = self.door(message.door), self.child(message.child)
        boot, at = self._arrival.now()
        self._last += 1
        row = StoredMessage(self._last, child, door, boot, at, message.topic, message.payload)
        seen = None
        if message.packet:
            seen = self._known.add(door, message.packet, _digest(message))
        self._append(_Arrival(settled, message=row, seen=seen))

    def settle(self, settled: Settled, dropped: DropReason | None) -> None:
        """Call `settled` in its turn, for a message that is not stored, or not again."""
        self._append(_Arrival(settled, dropped))

    def delete(self, number: int) -> None:
        """Delete a message soon: a delete that is lost costs a repeat."""
        self._deleted.append(number)
        self._work.set()

    def conclude(self, message: StoredMessage) -> None:
        """Delete a message soon that the cloud has, or has refused: a kill repeats it no more."""
        self._concluded.add(message)
        self.delete(message.number)

    def spend(self, cloud: str, spent: Spent) -> None:
        """Keep what was spent at a cloud, soon."""
        self.spent[cloud] = self._next.spent[cloud] = spent
        self._work.set()

    async def read(self, numbers: Sequence[int]) -> list[StoredMessage]:
        """Return the messages with these numbers that are there.  Raises StoreError."""
        try:
            return await self._thread.run(lambda: self._file.read(numbers))
        except (StoreFull, StoreUnavailable):
            raise
        except StoreError as error:
            self._damage = str(error)
            self._work.set()
            raise

    def on_ready(self, resume: Callable[[], None]) -> None:
        """Have `resume` called, each time that `blocked` ends."""
        self._ready.append(resume)

    @property
    def gathers(self) -> bool:
        """Whether messages wait for others, to be stored with them."""
        return bool(self._arrivals) and self._delay > 0 and not self._is_due

    def on_due(self, gather: Callable[[], None]) -> None:
        """Have `gather` called, each time that those which wait are about to be stored."""
        self._due.append(gather)

    # Its life.

    async def open(self, owner: OutboxOwner, doors: Collection[str]) -> None:
        """Open the file, and restore what is in it; until then, nothing can be stored.

        doors: those that are configured.
        Raises ConfigError; and StoreError, after which it may be tried again.
        """
        self._owner = owner
        try:
            why = await self._thread.run(self._open, doors)
        except StoreError as error:
            self.blocked = str(error)
            raise
        except BaseException:
            self._thread.close()
            raise
        self._is_open = True
        self._is_durable()
        if self._deleted:
            self._work.set()
        if why:
            _log_replaced(why)

    async def run(self) -> None:
        """Make messages durable, until cancelled."""
        tending = asyncio.create_task(self._tend())
        try:
            while True:
                await self._group_is_due()
                await self._commit()
        finally:
            await cancel_and_wait([tending])

    async def ping(self) -> None:
        """Return when the thread has done all before.  For the watchdog."""
        await self._thread.run(lambda: None)

    async def aclose(self) -> None:
        """Try once to make durable what is not; then close the file and end the thread."""
        if not self._is_open:
            self._thread.close()
            return
        try:
            while self._work.is_set():
                changes, arrivals = self._take()
                if changes:
                    await self._thread.run(self._apply, changes)
                self._settle(arrivals)
        except StoreError as error:
            log.warning("Messages that were not acknowledged are not stored: %s.", error)
        else:
            await self._thread.run(self._concluded.end)
        await self._thread.run(self._close)
        self._thread.close()

    # Groups.

    async def _group_is_due(self) -> None:
        await self._work.wait()
        if not self._arrivals and len(self._deleted) < GROUP and not self._damage:
            # not by wait_for: until Python 3.12 it may swallow a cancellation
            with suppress(TimeoutError):
                async with asyncio.timeout(DELETE_DELAY):
                    await self._arrived.wait()
        if self._arrivals:
            await asyncio.sleep(self._delay)
            await self._gather()

    async def _gather(self) -> None:
        """Have the doors hand over what has come meanwhile."""
        self._is_due = True
        for gather in self._due:
            asyncio.get_running_loop().call_soon(gather)
        await asyncio.sleep(0)  # until then, they have
        self._is_due = False

    async def _commit(self) -> None:
        changes, arrivals = self._take()
        if changes or self._damage:
            await self._make_durable(changes)
        self._settle(arrivals)

    def _take(self) -> tuple[Changes, list[_Arrival]]:
        """Take the next group: changes, and what is settled when they are durable."""
        changes, self._next = self._next, Changes()
        arrivals: list[_Arrival] = []
        size = 0
        while self._arrivals and len(arrivals) < GROUP:
            message = self._arrivals[0].message
            size += len(message.payload) if message else 0
            if arrivals and size > GROUP_SIZE:
                break
            arrivals.append(self._arrivals.popleft())
        changes.stored = [one.message for one in arrivals if one.message]
        changes.seen = [one.seen for one in arrivals if one.seen]
        changes.deleted = [self._deleted.popleft() for _ in range(min(len(self._deleted), GROUP))]
        if self.full:
            self._make_room(changes, 0, self._owner.size - self.ceiling)
        if not self._arrivals:
            self._arrived.clear()
            if not self._deleted:
                self._work.clear()
        return changes, arrivals

    def _make_room(self, changes: Changes, count: int, size: int) -> None:
        if changes.stored and (count > 0 or size > 0):
            changes.deleted += (gone := self._owner.make_room(count, size))
            given_up = set(gone)  # perhaps some that were to be stored in a new file
            changes.stored = [one for one in changes.stored if one.number not in given_up]

    def _settle(self, arrivals: Sequence[_Arrival]) -> None:
        if stored := [one.message for one in arrivals if one.message]:
            self._owner.stored(stored)
        for one in arrivals:
            one.settled(one.dropped)

    async def _make_durable(self, changes: Changes) -> None:
        arrived, begun = changes.stored, False
        while True:
            try:
                if self._damage:
                    await self._begin_again(changes, arrived)
                    begun = True
                await self._thread.run(self._apply, changes)
            except StoreFull as error:
                await self._when_full(changes, error)
            except StoreUnavailable as error:
                await self._when_unavailable(error)
            except StoreError as error:  # of its leaves, only those above come from a file
                self._damage = str(error)
                if begun:  # the new file, too
                    await self._wait(error)
            else:
                self._is_durable()
                return

    def _is_durable(self) -> None:
        self._failures = 0
        if self.blocked:
            self.blocked = ""
            log.info("Messages can be stored again.")
            for resume in self._ready:
                resume()

    # What goes wrong.

    async def _when_full(self, changes: Changes, error: StoreError) -> None:
        """Make room, by the reserve or by old messages; wait where neither is left."""
        used = await self._thread.run(self._use_reserve)
        if not self.full:  # after that: while there is a reserve, the disk counts as not full
            self.full = True
            log.warning(
                "The disk is full: old messages make room for new ones. Free some space.",
                extra={"message_id": "messages-disk-full"},
            )
        if used:
            self.ceiling = self._owner.size + SLACK
            return
        if not changes.deleted:
            self._make_room(changes, FIRST_ROOM, sum(len(one.payload) for one in changes.stored))
            self.ceiling = self._owner.size
        if changes.deleted:
            with suppress(StoreError):  # there may be room for these, if not for all
                await self._thread.run(self._apply, Changes(deleted=changes.deleted))
                changes.deleted = []
                return
        await self._wait(error)

    async def _when_unavailable(self, error: StoreError) -> None:
        self._failures += 1
        locked = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _LOCKED
        if self._failures % REOPEN == 0 and not locked:
            self._reopens = True
        await self._wait(error)

    async def _wait(self, error: StoreError) -> None:
        if not self.blocked:
            log.error(
                "Messages cannot be stored, and are not accepted until they can: %s.",
                error, extra={"message_id": "messages-blocked"},
            )  # fmt: skip
        self.blocked = str(error)
        await asyncio.sleep(RETRY)

    async def _begin_again(self, changes: Changes, arrived: list[StoredMessage]) -> None:
        """Begin a new file in place of one that is damaged, with all that is in memory.

        arrived: what is in memory here alone.
        """
        aside = await self._thread.run(self._replace)
        _log_replaced(f"{self._damage}; it was renamed to {aside.name}")
        self._damage = ""
        gone, changes.deleted = set(changes.deleted) | set(self._deleted), []
        kept = [one for one in self._owner.rescue() if one.number not in gone]
        changes.stored = kept + arrived
        changes.children = {number: name for name, number in self.children.items()}
        changes.doors = {number: name for name, number in self.doors.items()}
        changes.seen, changes.spent = self._known.all(), dict(self.spent)

    # On the thread.

    def _open(self, doors: Collection[str]) -> str:
        """Open the file, in place of one that is damaged if need be; return why that was."""
        why = ""
        with suppress(AttributeError):  # of an earlier try
            self._file.close()
        try:
            self._file = OutboxFile(self._directory)
            self._load(doors)
        except (StoreFull, StoreUnavailable):
            raise
        except StoreError as error:
            aside = self._replace()
            self._load(doors)
            why = f"{error}; it was renamed to {aside.name}"
        with suppress(StoreFull, StoreUnavailable):  # what is stored next says so
            self._look()
        return why

    def _load(self, doors: Collection[str]) -> None:
        """Restore what is in the file, and remove names that nothing has."""
        found, used = self._file.contents(), (set[int](), set[int](), set[int]())
        self._owner.clear()
        self._deleted.clear()
        self._last = 0
        self._names = {n: DeviceId(name) for name, n in found.children.items()}
        gone = self._restore_concluded()
        for entries in self._file.index():
            self._owner.restore([one for one in entries if one[0] not in gone])
            self._last = entries[-1][0]
            for _, child, door, boot, _ in entries:
                for ids, one in zip(used, (child, door, boot), strict=True):
                    ids.add(one)
        self.children = {DeviceId(name): n for name, n in found.children.items() if n in used[0]}
        configured = {name for name in found.doors if name in doors}
        self.doors = {n: i for n, i in found.doors.items() if i in used[1] or n in configured}
        self.spent, self._known = dict(found.spent), KnownPackets(found.seen)
        self._boots = {n: named for n, named in found.boots.items() if n in used[2]}
        this = self._arrival.boot_name or boot_name()
        known = {name: n for n, (name, _) in found.boots.items()}
        boot = known.get(this, max(found.boots, default=0) + 1)
        self._boots[boot] = found.boots.get(boot, (this, 0))
        self._arrival.begin(boot, {n: began for n, (_, began) in self._boots.items()})
        with suppress(StoreFull, StoreUnavailable):  # it is done at the next start
            self._keep_boots()
            self._file.remove(
                [n for n in found.children.values() if n not in self.children.values()],
                [n for n in found.doors.values() if n not in self.doors.values()],
                [n for n in found.boots if n not in self._boots],
            )

    def _restore_concluded(self) -> set[int]:
        """Return the numbers of what an earlier run has concluded, which is deleted soon."""
        notes = self._file.present(self._concluded.begin())
        self._concluded.keep(notes)
        gone = {number for number, _ in notes}
        self._deleted.extend(gone)
        return gone

    def _close(self) -> None:
        self._concluded.close()
        self._file.close()

    def _keep_boots(self) -> None:
        for boot, (name, began) in self._boots.items():
            self._file.keep_boot(boot, name, began)

    def _apply(self, changes: Changes) -> None:
        if self._reopens:
            self._file.close()
            self._file = OutboxFile(self._directory)
            self._reopens = False
        if self._file.read_only:
            self._file.reopen()
        with self.timed():
            self._file.apply(changes)

    def _replace(self) -> Path:
        with suppress(AttributeError):  # it could not be opened at all
            self._file.close()
        aside = set_aside(self._directory, int(self._timestamp()))
        self._file = OutboxFile(self._directory)
        with suppress(AttributeError):  # nothing of it was read
            self._keep_boots()
        return aside

    def _use_reserve(self) -> bool:
        with suppress(StoreError):
            return self._file.use_reserve()
        return False

    def _look(self) -> bool:
        """Look at the disk and the clock; return whether more pages may be given back."""
        self.free, self.used = self._file.free(), self._file.size()
        if not self._arrival.right and self._arrival.is_right():
            boot, began = self._arrival.set_right()
            self._boots[boot] = (self._boots[boot][0], began)
            self._keep_boots()
        has_reserve = self._file.keep_reserve()
        if self.full and has_reserve:
            self.full = False
            log.info("The disk has room again: messages are kept as before.")
        return not self._owner.waits and self._file.vacuum()

    async def _tend(self) -> None:
        """Look at the clock and the disk, and give pages back that are not needed."""
        while True:
            again = False
            with suppress(StoreError):  # what is stored next says so
                again = await self._thread.run(self._look)
            await asyncio.sleep(VACUUM_EVERY if again else TEND)

    # Inside.

    def _append(self, one: _Arrival) -> None:
        if not self._arrivals:  # else both are set
            self._work.set()
            self._arrived.set()
        self._arrivals.append(one)

    @staticmethod
    def _id(ids: dict[Name, int], name: Name, new: dict[int, Name]) -> int:
        found = ids.get(name)
        if found is None:
            found = ids[name] = max(ids.values(), default=0) + 1
            new[found] = name
        return found


def _digest(message: IncomingMessage) -> int:
    return digest_of(message.child, message.topic, message.payload)


def _log_replaced(why: str) -> None:
    log.error(
        "The outbox of messages was damaged, and was begun again: %s.",
        why, extra={"message_id": "messages-lost"},
    )  # fmt: skip
