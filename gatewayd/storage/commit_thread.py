"""The one thread that touches the durable stores, and commits in groups.

What is asked for in one turn of the event loop goes to the thread together, as the children do whom
one answer of a cloud concerns.  Whatever is queued when the thread wakes becomes one group: one
transaction, one fsync for each file that changed, then all waiters get their results.  Works run in
the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from gatewayd.errors import StoreError, StoreFull, StoreUnavailable
from gatewayd.runtime.sqlite import UndoesOthers

log = logging.getLogger(__name__)

T = TypeVar("T")

QUEUE_LIMIT = 10_000
"""Works that may wait or run."""


class Transactional(Protocol):
    """A store that takes part in groups; secretstore/store.py has the contract."""

    def begin(self) -> None: ...
    def mark(self) -> None: ...
    def undo(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def make_room(self) -> bool: ...
    def close(self) -> None: ...


P = TypeVar("P", bound=Transactional)


@dataclass(slots=True, eq=False)
class _Job:
    """A queued work, the future that waits for it, and its result."""

    work: Callable[[], Any]
    check: Callable[[Any], None] | None
    waiter: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None

    def finish(self) -> None:
        """Pass the result to the waiter."""
        if self.waiter.done():
            return  # the waiter was cancelled; what was done stays done
        if self.error is not None:
            self.waiter.set_exception(self.error)
        else:
            self.waiter.set_result(self.value)


class CommitThread:
    """A thread that runs works in order, in groups.  Made, started and closed on the event loop.

    limit: works that may wait or run; one more is refused.
    """

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self._queue: SimpleQueue[Sequence[_Job] | None] = SimpleQueue()
        self._gathered: list[_Job] = []
        self._shared: dict[Callable[[], Any], asyncio.Future[Any]] = {}
        self._waiting = 0
        self._participants: list[Transactional] = []
        self._thread: threading.Thread | None = None
        self._closing = False

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, name="store")
        self._thread.start()

    async def open(self, make: Callable[[], P]) -> P:
        """Open a store on the thread and let it take part from the next group on.

        Stores commit in the order in which they were opened, and are closed in reverse.
        What `make` raises is raised here.
        """

        def join() -> P:
            store = make()
            self._participants.append(store)
            return store

        return await self.run(join)

    async def run(self, work: Callable[[], T], check: Callable[[T], None] | None = None) -> T:
        """Run a work; return what it returned when that is durable.

        work: called on the thread, within a group.  What it raises is raised here, and what it
        did is undone, without harm to the others.  After a full disk, or where another one failed,
        it may be called again, so that it must do nothing but read and write the stores.
        check: called with the result after the commit; what it raises is raised here.
        If the caller is cancelled while it waits, the work is done all the same.
        Raises StoreFull, StoreUnavailable if the group could not be made durable.
        """
        result: T = await self._ask(work, check)
        return result

    async def share(self, work: Callable[[], T]) -> T:
        """Run a work, as `run` does, once for all who ask for it while it waits or runs."""
        if (under_way := self._shared.get(work)) is None:
            under_way = self._shared[work] = self._ask(work)
            under_way.add_done_callback(lambda _: self._shared.pop(work))
        result: T = await asyncio.shield(under_way)
        return result

    def _ask(
        self, work: Callable[[], Any], check: Callable[[Any], None] | None = None
    ) -> asyncio.Future[Any]:
        if self._closing or self._thread is None or self._waiting >= self._limit:
            raise StoreUnavailable("the commit thread takes no more work now")
        job = _Job(work, check, self._loop.create_future())
        self._waiting += 1
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(job)
        return job.waiter

    async def ping(self) -> None:
        """Return when the thread has done all that was queued before.  For the watchdog."""
        await self.run(lambda: None)

    async def aclose(self) -> None:
        """Finish what is queued, close the stores, end the thread.  Closing twice is fine."""
        if self._thread is None:
            return
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _hand_over(self) -> None:
        """Queue what has been asked for in this turn of the loop."""
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _main(self) -> None:
        while self._serve_next():
            pass
        for store in reversed(self._participants):
            _try(store.close)
        self._post(lambda: self._ended.set_result(None))

    def _serve_next(self) -> bool:
        """Wait for works and run all in the queue; False after the last."""
        queued = [self._queue.get()]
        while not self._queue.empty():
            queued.append(self._queue.get())
        group = [job for jobs in queued for job in jobs or ()]
        self._serve(group)
        self._post(lambda: self._finish(group))
        return queued[-1] is not None

    def _finish(self, group: Sequence[_Job]) -> None:
        self._waiting -= len(group)
        for job in group:
            job.finish()

    def _serve(self, group: Sequence[_Job]) -> None:
        """Make a group durable, or fail it as a whole; try again for each reserve that is freed."""
        stores = tuple(self._participants)
        try:
            _transact(group, stores)
        except UndoesOthers as error:
            _abandon(group, stores, error)
            for job in group if len(group) > 1 else ():
                self._serve((job,))
        except StoreFull as error:
            _abandon(group, stores, error)
            if any(store.make_room() for store in stores):
                log.warning("The disk is full; the space that was reserved for this is used now.")
                self._serve(group)
        except Exception as error:  # border: no fault of a store may end its thread
            log.exception("Failed to make a group of %d works durable.", len(group))
            _abandon(group, stores, error)
        else:
            _check(group)

    def _post(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so are the waiters
            self._loop.call_soon_threadsafe(callback)


def _transact(group: Sequence[_Job], stores: Sequence[Transactional]) -> None:
    for store in stores:
        store.begin()
    for job in group:
        _attempt(job, stores)
    for store in stores:
        store.commit()


def _attempt(job: _Job, stores: Sequence[Transactional]) -> None:
    for store in stores:
        store.mark()
    job.error = None
    try:
        job.value = job.work()
    except Exception as error:  # noqa: BLE001  # border: what a work raises is its waiter's
        job.error = error
        _undo(stores, error)


def _undo(stores: Sequence[Transactional], cause: Exception) -> None:
    try:
        for store in stores:
            store.undo()
    except StoreError:
        raise cause from None  # what made the work fail has ended the group with it


def _check(group: Sequence[_Job]) -> None:
    for job in group:
        if job.error is None and job.check is not None:
            try:
                job.check(job.value)
            except Exception as error:  # noqa: BLE001  # border: likewise
                job.error = error


def _abandon(group: Sequence[_Job], stores: Sequence[Transactional], error: Exception) -> None:
    """Roll the group back, and give each waiter an error of its own."""
    for store in stores:
        _try(store.rollback)
    for job in group:
        job.value, job.error = None, _copy(error)


def _copy(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return type(error)(*error.args)
    return StoreUnavailable(f"the durable store failed: {type(error).__name__}")


def _try(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception:  # border: one store that fails must not keep the others from ending well
        log.exception("Failed to roll back or close a store.")
