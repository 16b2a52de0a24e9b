"""Which children the cloud has for this gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.subdevices.room import Room

MOST = 10_000
"""Children that are remembered, whatever the cloud tells; the limit cannot be set higher."""


class Topology(Room[SubName]):
    """limit: children that the cloud lets a gateway have.
    fetch: asks the cloud; raises what the question raises."""

    def __init__(self, limit: int, fetch: Callable[[], Awaitable[frozenset[SubName]]]) -> None:
        super().__init__(limit, MOST)
        self._fetch = fetch
        self._fetching: asyncio.Task[None] | None = None

    async def know(self) -> None:
        """Return when the cloud was asked since the link came up; many may wait at once.

        Raises what the question raises; whoever asks next asks the cloud again.
        """
        if self._fetching is None or _failed(self._fetching):
            self.begin()
        assert self._fetching is not None, "it was begun"
        await asyncio.shield(self._fetching)

    def begin(self) -> None:
        """Ask the cloud anew, though nobody waits for it yet: the link is another, or the cloud
        hints at changes."""
        if self._fetching is not None:
            self._fetching.cancel()
        self._fetching = asyncio.create_task(self._learn())
        self._fetching.add_done_callback(_failed)  # whoever waits asks again

    async def close(self) -> None:
        """End a question that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _learn(self) -> None:
        self.replace(await self._fetch())


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
