"""Discoverers are kept running, their faults are their own, and a scan has them look again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gatewayd.device.identity import Trust
from gatewayd.discovery.discoverer import Context, Health, Interest, Loss, Sighting, Sink
from gatewayd.discovery.supervisor import RESCAN_EVERY, RESTART_DELAY, Scan, Supervisor
from gatewayd.errors import DiscoveryFatal, DiscoveryRetry, InvalidArgs
from tests.support.tasks import in_background

pytestmark = pytest.mark.jumping_clock


class Scripted:
    """A discoverer that ends each run by script, then runs on; a rescan may fail."""

    def __init__(self, name: str, *script: BaseException, broken: bool = False) -> None:
        self.name, self.health = name, Health()
        self.script, self.started = list(script), 0
        self.rescans, self.broken = 0, broken

    async def run(self, context: Context, sink: Sink) -> None:
        self.started += 1
        if self.script:
            raise self.script.pop(0)
        await asyncio.Event().wait()

    async def verify(self, sighting: Sighting) -> Sighting | None:
        return sighting

    async def rescan(self) -> None:
        self.rescans += 1
        if self.broken:
            raise ValueError("a bug")


class NullSink:
    async def room(self, name: str = "") -> None: ...

    def sight(self, sighting: Sighting) -> None: ...
    def lose(self, loss: Loss) -> None: ...


def a_sighting(source: str) -> Sighting:
    return Sighting(source, "k", 0, 60, "", (), None, frozenset(), {}, "", Trust.CLAIMED)


@contextlib.asynccontextmanager
async def supervised(*discoverers: Scripted) -> AsyncIterator[Supervisor]:
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, lambda _: Interest.WANTED)
    supervisor = Supervisor(discoverers, context)
    async with in_background(supervisor.run(NullSink())):
        yield supervisor


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        (DiscoveryRetry("no address", 15), 15.0),
        (ValueError("a bug"), RESTART_DELAY),
        (ExceptionGroup("links", [ValueError("a bug")]), RESTART_DELAY),
        (asyncio.CancelledError("a part of its own"), RESTART_DELAY),
    ],
)
async def test_a_fault_is_shown_and_tried_again(fault: BaseException, after: float) -> None:
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


async def test_what_is_fatal_is_not_tried_again() -> None:
    mdns = Scripted("mdns", DiscoveryFatal("no such thing here"))
    async with supervised(mdns) as supervisor:
        await asyncio.sleep(86_400)
        assert mdns.started == 1
        assert supervisor.faults == {"mdns": "no such thing here"}


async def test_a_sighting_of_an_unknown_discoverer_cannot_be_verified() -> None:
    async with supervised() as supervisor:
        with pytest.raises(DiscoveryRetry):
            await supervisor.verify(a_sighting("ssdp/lan0"))


async def test_counters_name_their_discoverer() -> None:
    mdns = Scripted("mdns")
    mdns.health.drop("oversized")
    async with supervised(mdns) as supervisor:
        assert supervisor.counters()["mdns:dropped:oversized"] == 1


async def test_a_rescan_is_passed_on_to_those_that_run(caplog: pytest.LogCaptureFixture) -> None:
    mdns, gone = Scripted("mdns"), Scripted("gone", DiscoveryFatal("no interface"))
    broken = Scripted("broken", broken=True)
    async with supervised(mdns, gone, broken) as supervisor:
        assert supervisor.names == ("mdns", "gone", "broken")
        await asyncio.sleep(1)
        for name in supervisor.names:
            await supervisor.rescan(name)
    assert [one.rescans for one in (mdns, gone, broken)] == [1, 0, 1]
    (failed,) = [one for one in caplog.records if one.exc_info]
    assert "broken" in failed.getMessage()


class Scanned:
    """A scan that runs, and the rescans so far."""

    def __init__(self) -> None:
        self.rescans: list[tuple[str, float]] = []
        self._now = asyncio.get_running_loop().time
        self.scan = Scan(("mdns", "static"), self._rescan, self._now)

    async def _rescan(self, name: str) -> None:
        self.rescans.append((name, self._now()))


@pytest_asyncio.fixture
async def scanned() -> AsyncIterator[Scanned]:
    one = Scanned()
    async with in_background(one.scan.run()):
        yield one


async def test_a_scan_begins_at_once_and_repeats_until_its_time_is_over(scanned: Scanned) -> None:
    scanned.scan.begin(40, ["mdns"])
    await asyncio.sleep(500)
    assert scanned.rescans == [("mdns", 0.0), ("mdns", RESCAN_EVERY), ("mdns", 2 * RESCAN_EVERY)]


async def test_none_is_all(scanned: Scanned) -> None:
    scanned.scan.begin(5, [])
    await asyncio.sleep(100)
    assert scanned.rescans == [("mdns", 0.0), ("static", 0.0)]


async def test_another_scan_replaces_the_first_and_0_ends_it(scanned: Scanned) -> None:
    scanned.scan.begin(900, ["mdns"])
    await asyncio.sleep(1)
    scanned.scan.begin(900, ["static", "static"])
    await asyncio.sleep(1)
    scanned.scan.begin(0, [])
    await asyncio.sleep(2000)
    scanned.scan.begin(1, ["mdns"])
    await asyncio.sleep(1)
    assert scanned.rescans == [("mdns", 0.0), ("static", 1.0), ("mdns", 2002.0)]


@pytest.mark.parametrize(("seconds", "names"), [(901, ["mdns"]), (60, ["mdns", "upnp"])])
async def test_what_cannot_be_is_refused(scanned: Scanned, seconds: int, names: list[str]) -> None:
    with pytest.raises(InvalidArgs):
        scanned.scan.begin(seconds, names)
    await asyncio.sleep(100)
    assert scanned.rescans == []
