"""The start and the end of asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel_and_wait(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel these tasks, and return when all have ended, however each of them did."""
    ending = tuple(tasks)  # a done callback may remove a task from what is iterated
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def first_of(*works: Coroutine[object, object, T | None]) -> T | None:
    """Return the first result that is not None; None if there is none.  The others are cancelled.

    Raises what the first of them raises that fails before.
    """
    tasks = {asyncio.create_task(one) for one in works}
    pending = tasks
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                if (found := one.result()) is not None:
                    return found
        return None
    finally:
        await cancel_and_wait(tasks)


async def until_one_ends(*work: Coroutine[object, object, object]) -> None:
    """Run all at once until one ends; then cancel the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in ended:
            one.result()
    finally:
        await cancel_and_wait(tasks)


def is_cancelled() -> bool:
    """Whether the running task was cancelled.

    Other code may raise CancelledError, too, without any request to end the task.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Return the result of a coroutine that ends before its caller does, cancelled or not.

    For what a thread does, which cannot be cancelled.  Cancelled: its error is dropped.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        drop_error(task)
        raise


async def going_on(work: Coroutine[object, object, T]) -> T:
    """Return the result of a coroutine that goes on to its end, whether its caller waits or not.

    Cancelled: its error is dropped.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(drop_error)
        raise


def drop_error(task: asyncio.Task[T]) -> None:
    """Drop the error of a task that has ended: asyncio logs nothing of one that was looked at."""
    if not task.cancelled():
        task.exception()


class BackgroundTask:
    """Work in the background, once at a time.  work: starts it."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the work, unless it is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    def stop(self) -> asyncio.Task[None] | None:
        """Cancel the work; return the task that is about to end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    async def close(self) -> None:
        """Cancel the work, and wait for its end."""
        if (task := self.stop()) is not None:
            await asyncio.wait({task})
