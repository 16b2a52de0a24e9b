"""What every discoverer must keep, as tests to inherit.

A test class derives from DiscovererContract and says how to make its World.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol

from gatewayd.discovery.discoverer import (
    MAX_ATTRIBUTE,
    MAX_ATTRIBUTES,
    Context,
    Discoverer,
    Interest,
    Loss,
    Sighting,
)

CANCEL = 2.0
"""Seconds in which a discoverer must end when it is cancelled."""
VERIFY = 3.0
"""Seconds in which it must have looked again for one device."""
PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""

_MAX_LABEL = 64
_SHORTEST, _LONGEST = 60, 86400


class RecordingSink:
    """A sink that remembers.  It holds discoverers to: lose nothing that was not seen."""

    def __init__(self) -> None:
        self.seen: dict[str, Sighting] = {}
        self.lost: list[Loss] = []
        self.sightings = 0

    def sight(self, sighting: Sighting) -> None:
        """Check and remember."""
        check(sighting)
        self.seen[sighting.key] = sighting
        self.sightings += 1

    def lose(self, loss: Loss) -> None:
        """Check and remember."""
        assert loss.key in self.seen, "a key was lost that was never seen"
        assert loss.source == self.seen[loss.key].source
        self.lost.append(loss)


def check(sighting: Sighting) -> None:
    """Hold a sighting to the bounds of its type."""
    assert sighting.source
    assert sighting.key
    assert _SHORTEST <= sighting.valid_for <= _LONGEST
    assert 0 < len(sighting.label) <= _MAX_LABEL
    assert sighting.label.isprintable()
    assert len(sighting.attributes) <= MAX_ATTRIBUTES
    assert sighting.attributes["source"]
    for value in sighting.attributes.values():
        assert len(value) <= MAX_ATTRIBUTE
        assert value.isprintable()


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return when a condition holds.  Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.01)


def wanted(_: Mapping[str, str]) -> Interest:
    """A policy that wants everything."""
    return Interest.WANTED


@asynccontextmanager
async def running(
    discoverer: Discoverer, interest: Callable[[Mapping[str, str]], Interest] = wanted
) -> AsyncIterator[RecordingSink]:
    """Run a discoverer, and end it in time."""
    sink = RecordingSink()
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, interest)
    task = asyncio.create_task(discoverer.run(context, sink))
    try:
        yield sink
    finally:
        task.cancel()
        async with asyncio.timeout(CANCEL):
            with suppress(asyncio.CancelledError):
                await task


class World(Protocol):
    """What a discoverer looks at in a test.

    discoverer: not yet running.  count: how many devices are there.
    limit: how many entries it may keep at most.
    """

    discoverer: Discoverer
    count: int
    limit: int

    async def remove(self, key: str) -> bool:
        """Let the device with this key go without a word; False where a source never loses one."""

    async def abuse(self) -> None:
        """Do the worst that a stranger can do to it."""


class DiscovererContract(ABC):
    """The tests."""

    @abstractmethod
    def world(self) -> AbstractAsyncContextManager[World]:
        """Make something to look at, and what looks at it."""

    async def test_tells_what_is_there(self) -> None:
        async with self.world() as world, running(world.discoverer) as sink:
            await until(lambda: len(sink.seen) == world.count)
            assert world.discoverer.health.sighted >= world.count
            assert world.discoverer.health.entries == world.count

    async def test_ends_in_time_when_cancelled_at_once(self) -> None:
        async with self.world() as world, running(world.discoverer):
            await asyncio.sleep(0)

    async def test_runs_again_after_it_was_cancelled(self) -> None:
        async with self.world() as world:
            for _ in range(2):
                async with running(world.discoverer) as sink:
                    await until(lambda sink=sink: len(sink.seen) == world.count)  # type: ignore[misc]  # bound early

    async def test_tells_all_again_after_a_rescan(self) -> None:
        async with self.world() as world, running(world.discoverer) as sink:
            await until(lambda: len(sink.seen) == world.count)
            before, keys = sink.sightings, set(sink.seen)
            await world.discoverer.rescan()
            await until(lambda: sink.sightings >= before + world.count)
            assert set(sink.seen) == keys

    async def test_finds_again_what_is_there(self) -> None:
        async with self.world() as world, running(world.discoverer) as sink:
            await until(lambda: len(sink.seen) == world.count)
            for known in list(sink.seen.values()):
                found = await world.discoverer.verify(known)
                assert found is not None
                check(found)
                assert (found.source, found.key) == (known.source, known.key)
                assert found.at >= known.at

    async def test_does_not_find_what_is_gone(self) -> None:
        async with self.world() as world, running(world.discoverer) as sink:
            await until(lambda: len(sink.seen) == world.count)
            known = next(iter(sink.seen.values()))
            if await world.remove(known.key):
                async with asyncio.timeout(VERIFY + 1):
                    assert await world.discoverer.verify(known) is None

    async def test_bears_abuse(self) -> None:
        async with self.world() as world, running(world.discoverer) as sink:
            await until(lambda: len(sink.seen) == world.count)
            await world.abuse()
            assert world.discoverer.health.entries <= world.limit
            before = sink.sightings
            await world.discoverer.rescan()
            await until(lambda: sink.sightings > before)
