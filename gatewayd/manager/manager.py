"""The event queue of the children: an event goes in, a state comes out, and its work is started.

    event → advance → remember → publish → work

This is the only writer of a child's state.  It decides nothing: device/lifecycle.py does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from gatewayd.admission.policy.engine import ADMITTED_BY_RULE
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent, State
from gatewayd.device.reason import NONE, Reason, addressed
from gatewayd.device.record import Record, RecordStore
from gatewayd.device.recovery import HANDED_OVER, SECRET_LOST, reason_of, restore
from gatewayd.device.secret import SecretRef
from gatewayd.device.views import HistoryEntry
from gatewayd.errors import StoreError
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.rate_limiter import SlidingWindow
from gatewayd.runtime.tasks import cancel_and_wait, is_cancelled

log = logging.getLogger(__name__)

Worker: TypeAlias = Callable[[DeviceId, PostEvent], Awaitable[None]]

StepListener: TypeAlias = Callable[[DeviceId, State, HistoryEntry], None]
"""Receives the newest history entry of a child, and its state before.  Never blocks."""

HaltOthers: TypeAlias = Callable[[DeviceId], contextlib.AbstractAsyncContextManager[None]]
"""Ends what else works for a child, until the context ends."""

HISTORY = 24
"""How many of its newest history entries a child remembers."""

QUEUE_SIZE = 100_000
"""Events that may wait.  Each child has at most one worker and a few sightings under way, so a
full queue means a bug, and the daemon had better be restarted."""

RESTORED = "Restored"
"""The event in the history of a child that an earlier run knew."""

REGAINED = "Regained"
"""The event in the history of a child that another gateway of the site had."""

STRANGERS_LOGGED = 60
"""How many pending strangers are logged in a minute."""

_STRANGERS = {State.DISCOVERED, State.PENDING, State.FORGOTTEN}

_ROUTINE = {
    RESTORED, REGAINED, "Seen", "Changed", "RegistrationStarted", "SecretIssued", "SecretStored",
    "ActivationStarted",
}  # fmt: skip
"""Steps on the way to online, which are logged only in detail: the line for online says it all."""

WAITING = frozenset({State.ADMITTED, State.ACTIVATING, State.OFFLINE})
"""The states in which a child may wait to be tried again."""

RESTART_DELAY = 30.0
"""Seconds until work that failed unexpectedly is started again."""

INTERNAL_ERROR = Reason("internal-error", "gatewayd has a fault; the journal has the details.")

INTERRUPTED = Reason("interrupted", "A command that was to change it has failed.")


@dataclass(slots=True)
class Child:
    """One child in memory: its state, what of it is not durable, and the task that works for it.

    present: whether it is on the LAN.
    registered: whether it got a secret and has not been online with it yet.
    until: when something is tried again, seconds of the event loop's clock; 0 where nothing is.
    task: the newest that works for it.  lock: held by each task that works for it, so that none
    begins while another, which was cancelled, still closes a session.
    changed, first_seen: when the state was entered, and when the child was first seen,
    microseconds since the epoch.
    """

    id: DeviceId
    state: State = State.FORGOTTEN
    reason: Reason = NONE
    present: bool = False
    registered: bool = False
    until: float = 0.0
    changed: int = 0
    first_seen: int = 0
    label: str = ""
    task: asyncio.Task[None] | None = None
    history: tuple[HistoryEntry, ...] = ()
    _lock: asyncio.Lock | None = None

    @property
    def lock(self) -> asyncio.Lock:
        """The lock, which is made for the first task."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    @property
    def repeats(self) -> bool:
        """Whether it has come to the same state for the same reason, by way of another, before."""
        newest = self.history[-1:] + self.history[-3:-2]
        return len({(one.event, one.state, one.reason) for one in newest}) < len(newest)

    @property
    def says_the_same(self) -> bool:
        """Whether its newest step says what the step before it said."""
        newest = self.history[-2:]
        return len({(one.event, one.state, one.reason) for one in newest}) < len(newest)

    def remember(self, entry: HistoryEntry) -> None:
        """Add an entry to the history."""
        self.history = (*self.history, entry)[-HISTORY:]


class ChildPublisher(Protocol):
    """Where the children are shown.  Called after each event; never blocks."""

    def show(self, child: Child) -> None:
        """Show a child, new or changed."""

    def remove(self, device: DeviceId) -> None:
        """Show a child no more."""


class QueuedEvent(NamedTuple):
    """An event in the queue.  task: the worker that sent it; None where no worker did."""

    device: DeviceId
    event: lc.Event
    task: asyncio.Task[None] | None


class DeviceManager:
    """The owner of all children, which moves them through their life cycle.

    It is made before all other stages: discovery's `Listener` and the workers post to it.
    on_step: called for each step of a child; None where nothing counts them.
    halts_too: what else works for a child, and is halted with its work.
    """

    def __init__(self, records: RecordStore, clock: Clock) -> None:
        self.children: dict[DeviceId, Child] = {}
        self._records, self._now, self._wall = records, clock.now, clock.wall
        self._workers: Mapping[lc.Work, Worker] = {}
        self._publisher: ChildPublisher
        self._is_for_holder: Callable[[Record], bool]
        self._queue: asyncio.Queue[QueuedEvent | asyncio.Future[None]] = asyncio.Queue(QUEUE_SIZE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = SlidingWindow(STRANGERS_LOGGED, 60.0)
        self._running = False
        self.on_step: StepListener | None = None
        self.halts_too: HaltOthers = lambda _: contextlib.nullcontext()

    def connect(
        self,
        workers: Mapping[lc.Work, Worker],
        publisher: ChildPublisher,
        is_for_holder: Callable[[Record], bool] = lambda _: False,
    ) -> None:
        """Set what does each kind of work, and what shows the children.

        is_for_holder: whether, by the rules now, the holder of a child is to have its session.
        To be called once, before anything else.
        """
        self._workers, self._publisher = workers, publisher
        self._is_for_holder = is_for_holder

    # What happens: from discovery, from operators, from clouds.

    def post(self, device: DeviceId, event: lc.Event) -> None:
        """Queue an event of a child.  Never blocks."""
        self._queue.put_nowait(QueuedEvent(device, event, None))

    def seen(self, device: DeviceId) -> None:
        """It is on the LAN: for the first time, or again."""
        self.post(device, lc.Seen())

    def lost(self, device: DeviceId, reason: Reason) -> None:
        """It has left the LAN."""
        self.post(device, lc.Lost(reason))

    def changed(self, device: DeviceId) -> None:
        """What is known of it has changed."""
        self.post(device, lc.Changed())

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        """Two devices turned out to be one."""
        self.post(gone, lc.Forgotten(Reason("merged", f"It is the same as {kept}.")))

    def evicted(self, device: DeviceId) -> None:
        """Discovery had no room for it."""
        self.post(device, lc.Forgotten(Reason("evicted", "Too many devices are waiting.")))

    def secret_lost(self, device: DeviceId) -> None:
        """The secret by which the cloud knows it does not open."""
        self.post(device, lc.SecretLost(SECRET_LOST))

    def reconsider(self) -> None:
        """Evaluate again, by new rules or settings, every child that they kept from going on."""
        for child in tuple(self.children.values()):
            match child.state:
                case State.PENDING:
                    self.post(child.id, lc.Changed())
                case State.REJECTED | State.ELSEWHERE if self._records.get(child.id) is None:
                    self.post(child.id, lc.Forgotten())
                    if child.present:
                        self.post(child.id, lc.Seen())
                case State.FAILED if child.reason.substate != "needs-reset":
                    self.post(child.id, lc.Retried(Reason("configuration-reloaded")))

    def settle_holders(self) -> None:
        """Hand over, or take back, each child whose rule says so now.

        One whose first login has not happened is handed over by it.
        """
        for child in tuple(self.children.values()):
            held, to_be_held = child.state is State.HANDED_OVER, self._is_to_be_held(child)
            if to_be_held and not held:
                self.post(child.id, lc.HandedOver(HANDED_OVER))
            elif held and not to_be_held:
                self.restart_work(child)  # it finds out, and says so

    def _is_to_be_held(self, child: Child) -> bool:
        record = self._records.get(child.id)
        return bool(record and record.activated_at and self._is_for_holder(record))

    def retry_waiting(self, concerned: Callable[[DeviceId], bool]) -> None:
        """Try again at once what children wait for.  concerned: whether a child is."""
        for child in tuple(self.children.values()):
            waits = child.state in WAITING and child.until > self._now()
            if waits and concerned(child.id):
                self.restart_work(child)

    def reconsider_pending(self, admits: Callable[[DeviceId], bool]) -> None:
        """Evaluate again the pending children that would be admitted now."""
        for child in self.children.values():
            if child.state is State.PENDING and admits(child.id):
                self.post(child.id, lc.Changed())

    # Children that are on record.

    def restore(self, readable: Callable[[SecretRef], bool]) -> None:
        """Add the children on record, before `run`, which starts their work.

        readable: whether a slot can be read.
        """
        for record in self._records.all():
            slot = record.slot(record.stored) if record.cloud and record.stored else None
            has_secret, held = slot is not None and readable(slot), self._is_for_holder(record)
            state, reason = restore(record, has_secret=has_secret, held=held)
            child = Child(record.device, label=record.label, first_seen=record.first_seen)
            self.add(child, state, reason)
        log.info("Restored %d children.", len(self.children))

    def add(self, child: Child, state: State, reason: Reason = NONE) -> None:
        """Add a child that is in some state already."""
        self.children[child.id] = child
        self._enter(child, state, reason, RESTORED)

    def admit_gateway(self, device: DeviceId) -> None:
        """Let a name of the gateway's own, which is on record, come online."""
        if device not in self.children:
            self.add(Child(device), State.ADMITTED)
        self.seen(device)

    # Children that change their gateway.

    async def release(self, device: DeviceId, why: Reason) -> None:
        """Return when nothing works any more for a child that belongs to another gateway now."""
        child = self.children.get(device)
        if child is None:
            return
        async with self.halted(child):
            if self.holds(child):
                self._advance(child, lc.OwnedElsewhere(why))

    def show_elsewhere(self, child: Child, why: Reason) -> None:
        """Show why a child belongs to another gateway, as that is now.

        At once: an event that waits in the queue would come after what was decided meanwhile.
        """
        if self.holds(child) and child.state is State.ELSEWHERE:
            self._advance(child, lc.OwnedElsewhere(why))

    def regain(self, record: Record, *, has_secret: bool) -> None:
        """Have a child go on from its record, as this gateway has it from now on.

        has_secret: whether the slot that `record.stored` points to can be read.
        """
        known = self.children.get(record.device)
        child = known or Child(record.device, first_seen=record.first_seen)
        child.label = record.label
        held = self._is_for_holder(record)
        state, reason = restore(record, has_secret=has_secret, held=held)
        if child.present and lc.accepts(state, lc.Seen):
            state, reason = lc.advance(state, lc.Seen(), present=True), NONE
        self._enter(child, state, reason, REGAINED)

    # The life of the manager.

    async def run(self) -> None:
        """Start all work, and handle events until cancelled; then end all work."""
        self._running = True
        for child in self.children.values():
            self._start(child)
        try:
            while True:
                match await self._queue.get():
                    case QueuedEvent() as queued:
                        self._handle(queued)
                    case ping if not ping.done():
                        ping.set_result(None)
        finally:
            self._running = False
            await cancel_and_wait(self._tasks)

    async def ping(self) -> None:
        """Return when all that was posted before has been handled."""
        ping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(ping)
        await ping

    # What commands do to a child.

    def holds(self, child: Child) -> bool:
        """Whether a child is still here: it may have been dropped, and another come for it."""
        return self.children.get(child.id) is child

    def refresh(self, child: Child) -> None:
        """Show a child again: something shown of it has changed that is no event."""
        if self.holds(child):
            self._publisher.show(child)

    def note(self, device: DeviceId, event: str, reason: Reason) -> None:
        """Put into a child's history what is no event of its life cycle, and show it again."""
        if (child := self.children.get(device)) is not None:
            entry = HistoryEntry(self._wall(), event, child.state.shown, reason)
            child.remember(entry)
            self._publisher.show(child)

    def restart_work(self, child: Child) -> None:
        """Start the work of a child's state again, without the wait it may be in."""
        child.until = 0.0
        self._stop(child)
        self._start(child)

    @contextlib.asynccontextmanager
    async def halted(self, child: Child) -> AsyncIterator[None]:
        """End a child's work, and let none begin before the block ends.

        The block posts an event for what it did; where it raises, the work goes on.
        """
        self._stop(child)
        try:
            async with child.lock, self.halts_too(child.id):
                yield
        except BaseException:
            if child.task is None and self.holds(child) and lc.accepts(child.state, lc.Stalled):
                self._advance(child, lc.Stalled(INTERRUPTED))
            raise

    # From an event to a state.

    def _handle(self, queued: QueuedEvent) -> None:
        child = self.children.get(queued.device) or Child(queued.device)
        if queued.task is not None and queued.task is not child.task:
            return  # a stale event from a cancelled task: ignore
        self._advance(child, queued.event)

    def _advance(self, child: Child, event: lc.Event) -> None:
        child.present = _is_present(child.present, event)
        on_record = not child.present and self._records.get(child.id) is not None
        entered = lc.advance(child.state, event, present=child.present, on_record=on_record)
        if entered is child.state and not lc.accepts(child.state, type(event)):
            if entered is not State.FORGOTTEN:
                self._publisher.show(child)
            return
        child.until = event.until
        self._enter(child, entered, event.reason, type(event).__name__)

    def _enter(self, child: Child, state: State, reason: Reason, event: str) -> None:
        if reason.remedy:
            reason = addressed(reason, child.id, self._cloud_of(child.id))
        before, child.reason, now = child.state, reason, self._wall()
        child.first_seen = child.first_seen or now
        if state is not before:
            child.state, child.changed = state, now
        entry = HistoryEntry(now, event, state.shown, reason)
        child.remember(entry)
        if self.on_step is not None:
            self.on_step(child.id, before, entry)
        self._log(child, event, again=state is before)
        child.registered = event == "SecretStored" or (
            child.registered and state is not State.ONLINE
        )
        if state is State.FORGOTTEN:
            self._drop(child)
            return
        self.children[child.id] = child
        if child.task is None or lc.WORK.get(state) is not lc.WORK.get(before):
            self._stop(child)
            self._start(child)
        self._publisher.show(child)
        if state is State.ABSENT and self._is_to_be_held(child):
            self.post(child.id, lc.HandedOver(HANDED_OVER))

    def _cloud_of(self, device: DeviceId) -> str:
        record = self._records.get(device)
        return record.cloud.provider if record and record.cloud else ""

    def _log(self, child: Child, event: str, *, again: bool) -> None:
        """Log an event; of strangers only so many, as anybody on the LAN can make them.

        again: whether it was in the same state before.
        """
        quiet = (
            child.state in _STRANGERS or event in _ROUTINE or child.reason.code == ADMITTED_BY_RULE
            or (again and child.state is State.ELSEWHERE) or child.says_the_same
        )  # fmt: skip
        level = logging.DEBUG if quiet else logging.INFO
        if child.state is State.PENDING and not child.repeats and self._strangers.take(self._now()):
            level = logging.INFO
        if not log.isEnabledFor(level):
            return  # so are most steps, and nothing is put together for them
        fields = {"device": child.id, "state": child.state.shown, "reason": child.reason.code}
        fields["event"] = event
        if child.registered and child.state is State.ONLINE:
            fields |= {"message_id": "device-registered"}
        why = f": {child.reason}" if child.reason.code else "."
        log.log(
            level, "Device %s is %s (%s)%s", child.id, child.state.shown, event, why, extra=fields
        )

    def _drop(self, child: Child) -> None:
        self._stop(child)
        if self.children.pop(child.id, None) is not None:
            self._publisher.remove(child.id)

    # From a state to its work.

    def _start(self, child: Child) -> None:
        work = lc.WORK.get(child.state)
        if work is not None and self._running:
            child.task = asyncio.get_running_loop().create_task(
                self._perform(child, work), name=f"{work.value} {child.id}"
            )
            self._tasks.add(child.task)
            child.task.add_done_callback(self._tasks.discard)

    def _stop(self, child: Child) -> None:
        if child.task is not None:
            child.task.cancel()
        child.task = None

    async def _perform(self, child: Child, work: lc.Work) -> None:
        """Run the worker; where it fails unexpectedly, start it again."""
        task = asyncio.current_task()

        def post(event: lc.Event) -> None:
            self._queue.put_nowait(QueuedEvent(child.id, event, task))

        async with child.lock:
            while (reason := await self._attempt(child.id, work, post)) is not None:
                if is_cancelled():
                    return  # a fault of its ending: it is not to go on
                post(lc.Stalled(reason, self._now() + RESTART_DELAY))
                await asyncio.sleep(RESTART_DELAY)

    async def _attempt(self, device: DeviceId, work: lc.Work, post: PostEvent) -> Reason | None:
        """Return why the work failed unexpectedly, which is logged; None when it is done."""
        try:
            await self._workers[work](device, post)
        except StoreError as error:
            return reason_of(error)
        except (Exception, asyncio.CancelledError) as error:  # border: a fault of one child's
            # work must not stop the others, nor pass for the end that was asked for
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            log.exception("Device %s: %s failed.", device, work.value, extra={"device": device})
            return INTERNAL_ERROR
        return None


def _is_present(before: bool, event: lc.Event) -> bool:
    return isinstance(event, lc.Seen) or (before and not isinstance(event, lc.Lost))
