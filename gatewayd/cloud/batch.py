"""Batching: items that are submitted at about the same time go in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from gatewayd.runtime.tasks import cancel_and_wait

Item = TypeVar("Item")
Result = TypeVar("Result")

Send: TypeAlias = Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]]
"""Takes 1 or more items; returns a result or an error for each, in their order.  Raises
BatchRefused, or an error that holds for every item."""

BATCHES = 8
"""Batches whose items are open or under way at a time; further items wait."""


class BatchRefused(Exception):
    """A batch was refused as a whole, and nothing of it was done: each item has to go alone.

    For a batch of one it is the error of its item.
    """


class BatcherClosed(Exception):
    """The batcher was closed: the item may have been sent."""


@dataclass(slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    result: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """A collector of items that sends them in batches.

    size: items of one batch, at most.  wait: seconds for which a batch that is not full stays
    open for more.
    """

    def __init__(self, size: int, wait: float, send: Send[Item, Result]) -> None:
        self._size, self._wait, self._send = size, wait, send
        self._free = size * BATCHES
        self._queue: deque[_Entry[Item, Result]] = deque()
        self._open: list[_Entry[Item, Result]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """Return the result of this item, or raise its error.

        Cancelled: the item is not sent, unless it is under way.  Raises BatcherClosed.
        """
        return await self.post(item)

    def post(self, item: Item) -> asyncio.Future[Result]:
        """Add an item at once; the future ends as `submit` does.

        Cancelled: likewise.
        """
        entry = _Entry[Item, Result](item, asyncio.get_running_loop().create_future())
        if self._closed:
            _settle(entry, BatcherClosed())
        elif self._free:
            self._add(entry)
        else:
            self._queue.append(entry)
        return entry.result

    async def close(self) -> None:
        """End what is under way; waiting callers get BatcherClosed.  Closing twice is fine."""
        self._closed = True
        self._start()
        await cancel_and_wait(self._sending)
        for entry in self._queue:
            _settle(entry, BatcherClosed())

    def _add(self, entry: _Entry[Item, Result]) -> None:
        self._free -= 1
        self._open.append(entry)
        if len(self._open) >= self._size:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._wait, self._start)

    def _start(self) -> None:
        """Close the open batch, and send it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        opened, self._open = self._open, []
        if batch := [entry for entry in opened if not entry.result.done()]:
            task = asyncio.create_task(self._run(batch))
            self._sending.add(task)
            task.add_done_callback(lambda done: self._finish(done, batch))
        self._release(len(opened) - len(batch))

    def _finish(self, task: asyncio.Task[None], batch: list[_Entry[Item, Result]]) -> None:
        self._sending.discard(task)
        for entry in batch:
            _settle(entry, BatcherClosed())  # unless it has a result
        self._release(len(batch))

    def _release(self, count: int) -> None:
        """Let as many of those that wait have their turn."""
        self._free += count
        while self._queue and self._free and not self._closed:
            entry = self._queue.popleft()
            if not entry.result.done():
                self._add(entry)

    async def _run(self, batch: list[_Entry[Item, Result]]) -> None:
        try:
            results = await self._send([entry.item for entry in batch])
            settled = list(zip(batch, results, strict=True))
        except BatchRefused as refusal:
            if len(batch) == 1:
                _settle(batch[0], refusal)
            else:
                await asyncio.gather(*(self._run([entry]) for entry in batch))
        except Exception as error:  # noqa: BLE001  # border: any error belongs to the callers
            for entry in batch:
                _settle(entry, error)
        else:
            for entry, result in settled:
                _settle(entry, result)


def _settle(entry: _Entry[Item, Result], result: Result | Exception) -> None:
    if entry.result.done():
        return
    if isinstance(result, Exception):
        entry.result.set_exception(result)
    else:
        entry.result.set_result(result)
