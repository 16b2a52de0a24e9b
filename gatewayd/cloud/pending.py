"""Packets that wait for their acknowledgement, so many at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Gone(Exception):
    """The connection has ended: whether the cloud has the packet is not known."""


class Pending:
    """limit: packets under way at a time; who wants to send one more waits."""

    def __init__(self, limit: int) -> None:
        self._places = asyncio.Semaphore(limit)
        self._answers: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._over = False

    async def send(self, step: Callable[[], int]) -> tuple[int, ...]:
        """Send a packet, and return the codes of its acknowledgement.  Raises Gone.

        step: sends it, and returns its packet identifier.  Cancelled: the packet keeps its place
        until it is acknowledged, as it is still under way.
        """
        await self._places.acquire()
        number = 0 if self._over else step()
        if self._over:
            self._places.release()
            raise Gone
        answer: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        return await answer

    def acknowledge(self, number: int, codes: tuple[int, ...] = ()) -> None:
        """Take an acknowledgement; one that nobody waits for is fine."""
        answer = self._answers.pop(number, None)
        if answer is None:
            return
        self._places.release()
        if not answer.done():
            answer.set_result(codes)

    def end(self) -> None:
        """Tell everybody that the connection has ended."""
        self._over = True
        for answer in self._answers.values():
            self._places.release()
            if not answer.done():
                answer.set_exception(Gone())
        self._answers.clear()
