"""The contract of discoverers, as tests to inherit:

class TestMyDiscoverer(DiscovererContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        ...  # yield a discoverer, and devices that it can see

The tests are coroutines: pytest-asyncio runs them, in its mode "auto".
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
from gatewayd.testing.waiting import until

CANCEL = 2.0
"""Seconds in which a discoverer must end when it is cancelled."""
VERIFY = 3.0
"""Seconds in which a discoverer must have verified one device."""

_MAX_LABEL = 64
_SHORTEST, _LONGEST = 60, 86400


class RecordingSink:
    """A sink that records and checks reports: nothing may be lost that was not seen.

    seen: the last sighting of each key.  sightings: how many there were.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Sighting] = {}
        self.lost: list[Loss] = []
        self.sightings = 0

    async def room(self, name: str = "") -> None:
        """Return at once: there is always room."""

    def sight(self, sighting: Sighting) -> None:
        """Check and record a report."""
        check_sighting(sighting)
        self.seen[sighting.key] = sighting
        self.sightings += 1

    def lose(self, loss: Loss) -> None:
        """Check and record a report."""
        assert loss.key in self.seen, "a key was lost that was never seen"
        assert loss.source == self.seen[loss.key].source
        self.lost.append(loss)


def check_sighting(sighting: Sighting) -> None:
    """Check that a sighting is within the bounds of its type."""
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


def want_all(_: Mapping[str, str]) -> Interest:
    """Rules that want every name."""
    return Interest.WANTED


@asynccontextmanager
async def running(
    discoverer: Discoverer, interest: Callable[[Mapping[str, str]], Interest] = want_all
) -> AsyncIterator[RecordingSink]:
    """Run a discoverer until the block ends; then it must end within 2 s."""
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


class DiscovererTestbed(Protocol):
    """A discoverer, and devices that it can see.

    discoverer: not yet running.  count: how many devices there are.
    limit: how many entries the discoverer may keep at most.
    """

    discoverer: Discoverer
    count: int
    limit: int

    async def remove(self, key: str) -> bool:
        """Remove a device without a goodbye; False if the source cannot lose this one."""

    async def abuse(self) -> None:
        """Send the worst that a stranger on the LAN can send."""


class DiscovererContract(ABC):
    """What holds of every discoverer.  Implement `make_testbed`."""

    @abstractmethod
    def make_testbed(self) -> AbstractAsyncContextManager[DiscovererTestbed]:
        """Make a testbed; its discoverer is to be used by one test."""

    async def test_reports_what_is_there(self) -> None:
        async with self.make_testbed() as testbed, running(testbed.discoverer) as sink:
            await until(lambda: len(sink.seen) == testbed.count)
            assert testbed.discoverer.health.sighted >= testbed.count
            assert testbed.discoverer.health.entries == testbed.count

    async def test_ends_in_time_when_cancelled_at_once(self) -> None:
        async with self.make_testbed() as testbed, running(testbed.discoverer):
            await asyncio.sleep(0)

    async def test_runs_again_after_it_was_cancelled(self) -> None:
        async with self.make_testbed() as testbed:
            for _ in range(2):
                async with running(testbed.discoverer) as sink:
                    await until(lambda sink=sink: len(sink.seen) == testbed.count)  # type: ignore[misc]  # bound early

    async def test_reports_all_again_after_a_rescan(self) -> None:
        async with self.make_testbed() as testbed, running(testbed.discoverer) as sink:
            await until(lambda: len(sink.seen) == testbed.count)
            before, keys = sink.sightings, set(sink.seen)
            await testbed.discoverer.rescan()
            await until(lambda: sink.sightings >= before + testbed.count)
            assert set(sink.seen) == keys

    async def test_finds_again_what_is_there(self) -> None:
        async with self.make_testbed() as testbed, running(testbed.discoverer) as sink:
            await until(lambda: len(sink.seen) == testbed.count)
            for known in list(sink.seen.values()):
                found = await testbed.discoverer.verify(known)
                assert found is not None
                check_sighting(found)
                assert (found.source, found.key) == (known.source, known.key)
                assert found.at >= known.at

    async def test_does_not_find_what_is_gone(self) -> None:
        async with self.make_testbed() as testbed, running(testbed.discoverer) as sink:
            await until(lambda: len(sink.seen) == testbed.count)
            known = next(iter(sink.seen.values()))
            if await testbed.remove(known.key):
                async with asyncio.timeout(VERIFY + 1):
                    assert await testbed.discoverer.verify(known) is None

    async def test_bears_abuse(self) -> None:
        async with self.make_testbed() as testbed, running(testbed.discoverer) as sink:
            await until(lambda: len(sink.seen) == testbed.count)
            await testbed.abuse()
            assert testbed.discoverer.health.entries <= testbed.limit
            before = sink.sightings
            await testbed.discoverer.rescan()
            await until(lambda: sink.sightings > before)
