"""Children that are being logged out, so that none is logged in again before that is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gatewayd.cloud.batch import Batcher, BatchRefused, Stopped
from gatewayd.cloud.subdevices.coded import Denied
from gatewayd.cloud.subdevices.link import LinkError

CLOSE_TIME = 2.0
"""Seconds that a session has to close; what is under way then goes on without it."""

Key = TypeVar("Key", bound=Hashable)


class Logouts(Generic[Key]):
    """call: logs one child out.  now: seconds of a steady clock."""

    def __init__(self, call: Batcher[Key, None], now: Callable[[], float]) -> None:
        self._call, self._now = call, now
        self._under_way: dict[Key, asyncio.Task[None]] = {}

    def __contains__(self, name: Key) -> bool:
        return name in self._under_way

    def begin(self, name: Key) -> asyncio.Task[None]:
        """Log a child out, unless that is under way; return what ends when it is done."""
        return self._under_way.get(name) or self._start(name, None)

    def again(self, name: Key) -> asyncio.Task[None]:
        """Log a child out, after what is under way; return what ends when it is done."""
        return self._start(name, None)

    def follow(self, name: Key, login: asyncio.Task[None]) -> None:
        """Log a child out again for whom nobody waits any more, if its login succeeds."""
        self._start(name, login)

    async def done(self, name: Key) -> None:
        """Return when the child is not being logged out."""
        if (task := self._under_way.get(name)) is not None:
            await asyncio.wait({task})

    async def all_done(self, patience: float, most: float) -> None:
        """Return when no child is being logged out.

        patience: seconds after which it is given up if no child is done.  most: if not all are.
        """
        end, before = self._now() + most, len(self._under_way) + 1
        while 0 < len(self._under_way) < before and (left := end - self._now()) > 0:
            before = len(self._under_way)
            await asyncio.wait(set(self._under_way.values()), timeout=min(patience, left))

    async def close(self) -> None:
        """End what is under way."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, name: Key, login: asyncio.Task[None] | None) -> asyncio.Task[None]:
        before = self._under_way.get(name)
        task = asyncio.create_task(self._log_out(name, login, before))
        self._under_way[name] = task
        task.add_done_callback(lambda done: self._finish(name, done))
        return task

    def _finish(self, name: Key, task: asyncio.Task[None]) -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]

    async def _log_out(
        self, name: Key, login: asyncio.Task[None] | None, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        # Whatever goes wrong, nothing is left to do: the cloud learns it from the gateway's next
        # session at the latest.
        with contextlib.suppress(Denied, LinkError, Stopped, BatchRefused):
            if login is not None:
                await login
            await self._call.submit(name)
