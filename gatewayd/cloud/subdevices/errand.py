"""Work that goes on beside everything else, once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Errand:
    """work: what is done."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Do it, unless that is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    def stop(self) -> asyncio.Task[None] | None:
        """Do it no more; return what is about to end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    async def close(self) -> None:
        """Return when nothing is under way."""
        if (task := self.stop()) is not None:
            await asyncio.wait({task})
