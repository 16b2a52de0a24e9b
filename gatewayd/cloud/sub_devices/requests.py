"""Questions to the cloud that are under way, and who waits for their answers.

Children that the cloud is not to be asked about for a while.

Work that goes on beside everything else, once at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Generic, TypeVar

from gatewayd.cloud.connect_errors import ConnectionEnd
from gatewayd.cloud.sub_devices.link import LinkDown, deadline
from gatewayd.cloud.sub_devices.result_codes import ResultMeaning
from gatewayd.device.reason import Reason

OUTSTANDING = 256
"""Questions under way at a time; who wants to ask one more waits."""

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class PendingRequests(Generic[Key, Answer]):
    """Those of one session of the gateway.

    closed: why the session has ended.  reply_timeout: seconds.
    places: to be held by whoever asks, from before the waits for the cloud's limits.
    """

    def __init__(self, closed: asyncio.Future[ConnectionEnd], reply_timeout: float) -> None:
        self._closed, self._reply_timeout = closed, reply_timeout
        self._waiting: dict[Key, asyncio.Future[Answer | None]] = {}
        self.places = asyncio.Semaphore(OUTSTANDING)
        closed.add_done_callback(self._end)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    async def rest(self, seconds: float) -> None:
        """Let time pass, unless the session ends."""
        if seconds > 0:
            await asyncio.wait({self._closed}, timeout=seconds)

    async def ask(self, key: Key, send: Callable[[], Awaitable[None]]) -> Answer:
        """Send a question, and return its answer.  Raises NoAnswer, LinkDown.

        key: what its answer will have, unlike that of any question under way.
        """
        waiting: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        try:
            async with deadline(self._reply_timeout):
                await send()
                answered = await waiting
        finally:
            del self._waiting[key]
        if answered is None:
            raise LinkDown
        return answered

    def answer(self, key: Key, answer: Answer) -> bool:
        """Hand out an answer; return whether anybody has waited for it."""
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True

    def _end(self, _: object) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)


class Cooldown(Generic[Key]):
    """now: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[Key, tuple[float, Reason]] = {}

    def note(self, name: Key, meaning: ResultMeaning) -> None:
        """Begin a pause, if one follows from this answer."""
        if meaning.pause:
            self._forget_old()
            self._until[name] = self._now() + meaning.pause, meaning.reason

    def reason(self, name: Key) -> Reason | None:
        """Return why the cloud is not to be asked yet; None if it may be."""
        until, reason = self._until.get(name, (0.0, None))
        return reason if until > self._now() else None

    def end(self, name: Key) -> None:
        """Ask again at once."""
        self._until.pop(name, None)

    def _forget_old(self) -> None:
        """Keep the table as small as what is paused now, which the gateway's limit bounds."""
        now = self._now()
        self._until = {name: one for name, one in self._until.items() if one[0] > now}


class BackgroundTask:
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
