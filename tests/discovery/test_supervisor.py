"""Discoverers are kept running, and their faults are their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gatewayd.device.identity import Trust
from gatewayd.discovery.discoverer import Context, Health, Interest, Sighting, Sink
from gatewayd.discovery.supervisor import RESTART_DELAY, Supervisor
from gatewayd.errors import DiscoveryFatal, DiscoveryRetry
from gatewayd.testing import clock


class Scripted:
    """A discoverer that ends each run by script, then runs on."""

    def __init__(self, name: str, *script: BaseException) -> None:
        self.name, self.health = name, Health()
        self.script, self.started = list(script), 0

    async def run(self, context: Context, sink: Sink) -> None:
        self.started += 1
        if self.script:
            raise self.script.pop(0)
        await asyncio.Event().wait()

    async def verify(self, sighting: Sighting) -> Sighting | None:
        return sighting

    async def rescan(self) -> None:
        """Nothing to look for."""


class Nobody:
    """A sink."""

    def sight(self, sighting: Sighting) -> None: ...
    def lose(self, loss: object) -> None: ...


def a_sighting(source: str) -> Sighting:
    return Sighting(source, "k", 0, 60, "", (), None, frozenset(), {}, "", Trust.CLAIMED)


@contextlib.asynccontextmanager
async def supervised(*discoverers: Scripted) -> AsyncIterator[Supervisor]:
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, lambda _: Interest.WANTED)
    supervisor = Supervisor(discoverers, context)
    task = asyncio.create_task(supervisor.run(Nobody()))
    try:
        yield supervisor
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        (DiscoveryRetry("no address", 15), 15.0),
        (ValueError("a bug"), RESTART_DELAY),
        (ExceptionGroup("links", [ValueError("a bug")]), RESTART_DELAY),
        (asyncio.CancelledError("a part of its own"), RESTART_DELAY),
    ],
)
def test_a_fault_is_shown_and_tried_again(fault: BaseException, after: float) -> None:
    async def main() -> None:
        mdns, other = Scripted("mdns", fault), Scripted("static")
        async with supervised(mdns, other) as supervisor:
            await asyncio.sleep(after - 1)
            assert (mdns.started, other.started) == (1, 1)
            assert set(supervisor.faults) == {"mdns"}
            with pytest.raises(DiscoveryRetry):
                await supervisor.verify(a_sighting("mdns/lan0"))
            await asyncio.sleep(2)
            assert mdns.started == 2
            assert not supervisor.faults
            assert await supervisor.verify(a_sighting("mdns/lan0"))

    clock.run(main())


def test_what_is_fatal_is_not_tried_again() -> None:
    async def main() -> None:
        mdns = Scripted("mdns", DiscoveryFatal("no such thing here"))
        async with supervised(mdns) as supervisor:
            await asyncio.sleep(86_400)
            assert mdns.started == 1
            assert supervisor.faults == {"mdns": "no such thing here"}

    clock.run(main())


def test_nobody_can_look_for_what_a_stranger_saw() -> None:
    async def main() -> None:
        async with supervised() as supervisor:
            with pytest.raises(DiscoveryRetry):
                await supervisor.verify(a_sighting("ssdp/lan0"))

    clock.run(main())


def test_counters_name_their_discoverer() -> None:
    async def main() -> None:
        mdns = Scripted("mdns")
        mdns.health.drop("oversized")
        async with supervised(mdns) as supervisor:
            assert supervisor.counters()["mdns:dropped:oversized"] == 1

    clock.run(main())


class Searching(Scripted):
    """A discoverer that counts how often it looks again, and can break."""

    def __init__(self, name: str, *script: BaseException, broken: bool = False) -> None:
        super().__init__(name, *script)
        self.looked, self.broken = 0, broken

    async def rescan(self) -> None:
        self.looked += 1
        if self.broken:
            raise ValueError("a bug")


def test_looking_again_is_passed_on_to_those_that_can(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mdns, gone = Searching("mdns"), Searching("gone", DiscoveryFatal("no interface"))
        broken = Searching("broken", broken=True)
        async with supervised(mdns, gone, broken) as supervisor:
            assert supervisor.names == ("mdns", "gone", "broken")
            await asyncio.sleep(1)
            for name in supervisor.names:
                await supervisor.rescan(name)
        assert [one.looked for one in (mdns, gone, broken)] == [1, 0, 1]

    clock.run(main())
    assert "Discovery by broken could not look again." in caplog.text
