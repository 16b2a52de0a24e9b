"""The one mailbox: what happened goes in, a state comes out, and its work is started.

    event → advance → remember → report → work

This is the only writer of a child's state.  It decides nothing: lifecycle.py does.

One child as the gateway holds it in memory: what is not durable, and who works on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent, State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.recovery import reason_of
from gatewayd.device.views import HistoryEntry
from gatewayd.errors import StoreError
from gatewayd.runtime.backoff import RateLimiter
from gatewayd.runtime.tasks import cancel_and_wait, is_cancelled

HISTORY = 24
"""How many of its newest steps a child remembers."""


@dataclass(slots=True)
class Child:
    """The state of one child, and the task that works for it.

    present: whether it is on the LAN.
    until: when something is tried again, seconds of the event loop's clock; 0 where nothing is.
    task: works for it; the newest.  hands: held by whoever works for it, so that nobody begins
    while another, who was told to end, still closes a session.
    changed, first_seen: when the state was entered, and when the child was first seen,
    microseconds since the epoch.
    """

    id: DeviceId
    state: State = State.FORGOTTEN
    reason: Reason = NONE
    present: bool = False
    until: float = 0.0
    changed: int = 0
    first_seen: int = 0
    label: str = ""
    task: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    history: tuple[HistoryEntry, ...] = ()

    def remember(self, step: HistoryEntry) -> None:
        """Add a step to the history."""
        self.history = (*self.history, step)[-HISTORY:]


log = logging.getLogger(__name__)
Worker: TypeAlias = Callable[[DeviceId, PostEvent], Awaitable[None]]

QUEUE_SIZE = 100_000
"""Events that may wait.  Each child has at most one worker and a few sightings under way, so a
full mailbox means a bug, and the daemon had better be restarted."""

RESTORED = "Restored"
"""What is said to have happened to a child that an earlier run knew."""

STRANGERS_LOGGED = 60
"""How many strangers that wait are logged in a minute."""

_STRANGERS = {lc.State.DISCOVERED, lc.State.PENDING, lc.State.FORGOTTEN}

RESTART_DELAY = 30.0
"""Seconds until work that broke off is begun anew."""

INTERNAL_ERROR = Reason("internal-error", "Something in gatewayd broke; the journal says what.")

INTERRUPTED = Reason("interrupted", "A command that was to change it has failed.")


class QueuedEvent(NamedTuple):
    """An event on its way.  `task` is the worker that sent it; None where nobody was asked."""

    device: DeviceId
    event: lc.Event
    task: asyncio.Task[None] | None


class DeviceManager:
    """Holds all children, and moves them through their lives.

    workers: who does each kind of work.
    show, remove: tell the world of a child; called after each event.
    wall: microseconds since the epoch.
    """

    def __init__(
        self,
        workers: Mapping[lc.Work, Worker],
        *,
        show: Callable[[Child], None],
        remove: Callable[[DeviceId], None],
        now: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self.children: dict[DeviceId, Child] = {}
        self._workers, self._show, self._remove = workers, show, remove
        self._now, self._wall = now, wall
        self._mailbox: asyncio.Queue[QueuedEvent | asyncio.Future[None]] = asyncio.Queue(QUEUE_SIZE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = RateLimiter(STRANGERS_LOGGED, 60.0)
        self._running = False

    def post(self, device: DeviceId, event: lc.Event) -> None:
        """Tell what happened to a child.  Never blocks."""
        self._mailbox.put_nowait(QueuedEvent(device, event, None))

    def restore(self, children: Iterable[tuple[Child, lc.State, Reason]]) -> None:
        """Take in the children of an earlier run, before `run`, which begins their work."""
        for child, state, reason in children:
            self.children[child.id] = child
            self._enter(child, state, reason, RESTORED)
        log.info("Restored %d children.", len(self.children))

    async def run(self) -> None:
        """Begin to work, and open envelopes until cancelled; then end all work."""
        self._running = True
        for child in self.children.values():
            self._start(child)
        try:
            while True:
                match await self._mailbox.get():
                    case QueuedEvent() as envelope:
                        self._deliver(envelope)
                    case ping if not ping.done():
                        ping.set_result(None)
        finally:
            self._running = False
            await self._end_all_work()

    async def ping(self) -> None:
        """Return when all that was posted before has been delivered."""
        ping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait(ping)
        await ping

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
            async with child.lock:
                yield
        except BaseException:
            if child.task is None and self.holds(child) and lc.knows(child.state, lc.Stalled):
                self._advance(child, lc.Stalled(INTERRUPTED))
            raise

    def holds(self, child: Child) -> bool:
        """Whether a child is still here: it may have been dropped, and another come for it."""
        return self.children.get(child.id) is child

    def refresh(self, child: Child) -> None:
        """Show a child again: something shown of it has changed that is no event."""
        if self.holds(child):
            self._show(child)

    def _deliver(self, envelope: QueuedEvent) -> None:
        child = self.children.get(envelope.device) or Child(envelope.device)
        if envelope.task is not None and envelope.task is not child.task:
            return  # a late word of work that was ended meanwhile: expected, and void
        self._advance(child, envelope.event)

    def _advance(self, child: Child, event: lc.Event) -> None:
        child.present = _is_present(child.present, event)
        entered = lc.advance(child.state, event, present=child.present)
        if entered is child.state and not lc.knows(child.state, type(event)):
            if entered is not lc.State.FORGOTTEN:
                self._show(child)
            return
        child.until = event.until
        self._enter(child, entered, event.reason, type(event).__name__)

    def _enter(self, child: Child, state: lc.State, reason: Reason, event: str) -> None:
        before, child.reason = child.state, reason
        child.first_seen = child.first_seen or self._wall()
        if state is not before:
            child.state, child.changed = state, self._wall()
        child.remember(HistoryEntry(self._wall(), event, state.shown, str(reason)))
        self._tell(child, event)
        if state is lc.State.FORGOTTEN:
            self._drop(child)
            return
        self.children[child.id] = child
        if child.task is None or lc.WORK.get(state) is not lc.WORK.get(before):
            self._stop(child)
            self._start(child)
        self._show(child)

    def _tell(self, child: Child, event: str) -> None:
        """Log a step; of strangers only so many, as anybody on the LAN can make them."""
        level = logging.DEBUG if child.state in _STRANGERS or event == RESTORED else logging.INFO
        if child.state is lc.State.PENDING and self._strangers.take(self._now()):
            level = logging.INFO
        fields = {"device": child.id, "state": child.state.shown, "reason": child.reason.code}
        fields["event"] = event
        why = f": {child.reason}" if child.reason.code else "."
        log.log(level, "%s (%s)%s", child.state.shown.capitalize(), event, why, extra=fields)

    def _drop(self, child: Child) -> None:
        self._stop(child)
        if self.children.pop(child.id, None) is not None:
            self._remove(child.id)

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
        """Let the worker work; where it breaks off, it begins anew."""
        task = asyncio.current_task()

        def post(event: lc.Event) -> None:
            self._mailbox.put_nowait(QueuedEvent(child.id, event, task))

        async with child.lock:
            while (reason := await self._attempt(child.id, work, post)) is not None:
                if is_cancelled():
                    return  # a fault of its ending: it is not to go on
                post(lc.Stalled(reason, self._now() + RESTART_DELAY))
                await asyncio.sleep(RESTART_DELAY)

    async def _attempt(self, device: DeviceId, work: lc.Work, post: PostEvent) -> Reason | None:
        """Return why the work broke off, which is logged; None where it is done."""
        try:
            await self._workers[work](device, post)
        except StoreError as error:
            return reason_of(error)
        except (Exception, asyncio.CancelledError) as error:  # border: a fault of one child's
            # work must not stop the others, nor pass for the end that was asked for
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            log.exception("Work broke off: %s.", work.value, extra={"device": device})
            return INTERNAL_ERROR
        return None

    async def _end_all_work(self) -> None:
        await cancel_and_wait(self._tasks)


def _is_present(before: bool, event: lc.Event) -> bool:
    return isinstance(event, lc.Seen) or (before and not isinstance(event, lc.Lost))
