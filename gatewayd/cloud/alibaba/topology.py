"""Which children the cloud has for this gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gatewayd.cloud.alibaba.topics import SubName

log = logging.getLogger(__name__)

NEARLY_FULL = 0.95
MOST = 10_000
"""Children that are remembered, whatever the cloud tells; the limit cannot be set higher."""


class Topology:
    """What the cloud said last, and what has been done since.

    limit: children that the cloud lets a gateway have.
    fetch: asks the cloud; raises what the question raises.
    names: the children that the cloud has.
    """

    def __init__(self, limit: int, fetch: Callable[[], Awaitable[frozenset[SubName]]]) -> None:
        self._limit, self._fetch = limit, fetch
        self._fetching: asyncio.Task[None] | None = None
        self._wanted: set[SubName] = set()
        self._warned = False
        self.names: set[SubName] = set()

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

    def want(self, name: SubName) -> None:
        """Count a child that is about to be added."""
        if name not in self.names:
            self._wanted.add(name)
        if self._count() >= NEARLY_FULL * self._limit and not self._warned:
            self._warned = True
            log.warning(
                "The gateway has %d of the %d children that the cloud lets it have.",
                self._count(),
                self._limit,
            )

    def spare(self, name: SubName) -> None:
        """Count a child no more that is not to be added after all."""
        self._wanted.discard(name)

    def drop(self, name: SubName) -> None:
        """Learn that a child is not in the topology, and count it no more."""
        self._wanted.discard(name)
        self.names.discard(name)

    def add(self, name: SubName) -> None:
        """Learn that a child is in the topology."""
        self._wanted.discard(name)
        if len(self.names) < MOST:
            self.names.add(name)

    def remove(self, name: SubName) -> bool:
        """Learn that a child is in it no more; return whether it was."""
        known = name in self.names
        self.names.discard(name)
        return known

    def has_room(self, name: SubName) -> bool:
        """Whether this child may be added, or is counted already."""
        return name in self.names or name in self._wanted or self._count() < self._limit

    async def close(self) -> None:
        """End a question that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    def _count(self) -> int:
        return len(self.names) + len(self._wanted)

    async def _learn(self) -> None:
        self.names = set(await self._fetch())
        self._wanted -= self.names


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
