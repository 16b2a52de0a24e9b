"""Children that are being logged out, so that none is logged in again before that is done."""

from __future__ import annotations

import asyncio
import contextlib

from gatewayd.cloud.alibaba.calls import Denied
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.alibaba.uplink import LinkError
from gatewayd.cloud.batch import Batcher, BatchRefused, Stopped

CLOSE_TIME = 2.0
"""Seconds that a session has to close; what is under way then goes on without it."""


class Logouts:
    """call: logs one child out."""

    def __init__(self, call: Batcher[SubName, None]) -> None:
        self._call = call
        self._under_way: dict[SubName, asyncio.Task[None]] = {}

    async def begin(self, name: SubName) -> None:
        """Log a child out; return when that is done, or after 2 s."""
        await asyncio.wait({self._start(name, None)}, timeout=CLOSE_TIME)

    def follow(self, name: SubName, login: asyncio.Task[None]) -> None:
        """Log a child out again for whom nobody waits any more, if its login succeeds."""
        self._start(name, login)

    async def done(self, name: SubName) -> None:
        """Return when the child is not being logged out."""
        if (task := self._under_way.get(name)) is not None:
            await asyncio.wait({task})

    async def close(self) -> None:
        """End what is under way."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, name: SubName, login: asyncio.Task[None] | None) -> asyncio.Task[None]:
        before = self._under_way.get(name)
        task = asyncio.create_task(self._log_out(name, login, before))
        self._under_way[name] = task
        task.add_done_callback(lambda done: self._finish(name, done))
        return task

    def _finish(self, name: SubName, task: asyncio.Task[None]) -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]

    async def _log_out(
        self, name: SubName, login: asyncio.Task[None] | None, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        # Whatever goes wrong, the cloud ends the session with that of the gateway at the latest.
        with contextlib.suppress(Denied, LinkError, Stopped, BatchRefused):
            if login is not None:
                await login
            await self._call.submit(name)
