"""Requests to the cloud that are under way: each gets its own reply, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from gatewayd.cloud.sub_devices.link import LinkDown, NotSent, deadline
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.rate_limiter import RateLimiter, TooManyWaiting

OUTSTANDING = 256
"""Requests under way at a time; one more waits."""
WAITERS = 1024
"""Messages that wait for one of the cloud's limits, of a session and of those that have ended."""

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

    async def wait_turn(self, limiter: RateLimiter, count: int = 1) -> None:
        """Wait until `count` may be sent, or for the end of the session; send without a wait.

        Raises NotSent.
        """
        try:
            await limiter.acquire(count, self._closed)
        except TooManyWaiting:
            raise NotSent from None

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
