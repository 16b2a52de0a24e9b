"""The end of asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def cancel_and_wait(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Cancel these tasks, and return when all have ended, however each of them did."""
    ending = tuple(tasks)  # a done callback may remove a task from what is iterated
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def is_cancelled() -> bool:
    """Whether the running task was cancelled.

    Other code may raise CancelledError, too, without any request to end the task.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
