"""Questions to the cloud that are under way, and who waits for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from gatewayd.cloud.faults import End
from gatewayd.cloud.subdevices.link import LinkDown, deadline

OUTSTANDING = 256
"""Questions under way at a time; who wants to ask one more waits."""

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Questions(Generic[Key, Answer]):
    """Those of one session of the gateway.

    closed: why the session has ended.  reply_timeout: seconds.
    places: to be held by whoever asks, from before the waits for the cloud's limits.
    """

    def __init__(self, closed: asyncio.Future[End], reply_timeout: float) -> None:
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
