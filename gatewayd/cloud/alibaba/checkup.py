"""Looks whether the children still are logged in, when the cloud says that one of them is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud.alibaba.family import Family

TOGETHER, PAUSE = 50, 1.0
"""So many children are looked at together, and so many seconds apart."""
PERIOD = 60.0
"""Seconds from one look at all to the next: a child may log in five times a minute."""


class Checkup:
    """now: seconds."""

    def __init__(self, family: Family, now: Callable[[], float]) -> None:
        self._family, self._now = family, now
        self._last = -PERIOD
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look at all, unless that is about to be done."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    def stop(self) -> asyncio.Task[None] | None:
        """Look no more; return what is about to end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    async def close(self) -> None:
        """Return when nothing is under way."""
        if (task := self.stop()) is not None:
            await asyncio.wait({task})

    async def _look(self) -> None:
        await asyncio.sleep(max(0.0, self._last + PERIOD - self._now()))
        self._last = self._now()
        sessions = self._family.sessions()
        for first in range(0, len(sessions), TOGETHER):
            some = sessions[first : first + TOGETHER]
            await asyncio.gather(*(self._family.check(session) for session in some))
            await asyncio.sleep(PAUSE)
