"""Requests to the cloud: those under way, children that rest from them, and background work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Generic, TypeVar

from gatewayd.cloud.connect_errors import ConnectionEnd
from gatewayd.cloud.sub_devices.link import LinkDown, deadline
from gatewayd.cloud.sub_devices.result_codes import ResultMeaning
from gatewayd.device.reason import Reason

OUTSTANDING = 256
"""Requests under way at a time; one more waits."""

Key = TypeVar("Key", bound=Hashable)
Reply = TypeVar("Reply")


class PendingRequests(Generic[Key, Reply]):
    """The requests of one session of the gateway that wait for their replies.

    closed: why the session has ended.  reply_timeout: seconds.
    slots: hold one for each request, from before the waits for the cloud's limits.
    """

    def __init__(self, closed: asyncio.Future[ConnectionEnd], reply_timeout: float) -> None:
        self._closed, self._reply_timeout = closed, reply_timeout
        self._waiting: dict[Key, asyncio.Future[Reply | None]] = {}
        self.slots = asyncio.Semaphore(OUTSTANDING)
        closed.add_done_callback(self._end)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds, or for the end of the session."""
        if seconds > 0:
            await asyncio.wait({self._closed}, timeout=seconds)

    async def ask(self, key: Key, send: Callable[[], Awaitable[None]]) -> Reply:
        """Send a request, and return its reply.  Raises NoAnswer, LinkDown.

        key: what its reply will have, unlike that of any request under way.
        """
        waiting: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        try:
            async with deadline(self._reply_timeout):
                await send()
                reply = await waiting
        finally:
            del self._waiting[key]
        if reply is None:
            raise LinkDown
        return reply

    def resolve(self, key: Key, reply: Reply) -> bool:
        """Deliver a reply; return whether a request waited for it."""
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(reply)
        return True

    def _end(self, _: object) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)


class Cooldown(Generic[Key]):
    """The children that the cloud is not to be asked about for a while.

    now: seconds of a steady clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[Key, tuple[float, Reason]] = {}

    def start(self, name: Key, meaning: ResultMeaning) -> None:
        """Begin the cooldown that follows from this result, if any does."""
        if meaning.pause:
            self._forget_old()
            self._until[name] = self._now() + meaning.pause, meaning.reason

    def reason(self, name: Key) -> Reason | None:
        """Return why the cloud is not to be asked yet; None if it may be."""
        until, reason = self._until.get(name, (0.0, None))
        return reason if until > self._now() else None

    def end(self, name: Key) -> None:
        """End the cooldown of a child."""
        self._until.pop(name, None)

    def _forget_old(self) -> None:
        """Keep the table as small as what cools down now, which the gateway's limit bounds."""
        now = self._now()
        self._until = {name: one for name, one in self._until.items() if one[0] > now}


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
