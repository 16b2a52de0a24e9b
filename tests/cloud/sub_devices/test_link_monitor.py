"""The link comes and goes, and children are called back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gatewayd.cloud.sub_devices import link_monitor
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.link_monitor import LinkMonitor
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.testing.waiting import until

NAMES = [CloudName("cloud", "product", f"child-{number}") for number in range(120)]


@dataclass
class Uplink:
    closed: asyncio.Future[ConnectionEnd] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass
class Home:
    """Implements Listener.  online: who would lose a session with the link."""

    link: GatewayLink[Uplink] = field(default_factory=GatewayLink)
    online: list[CloudName] = field(default_factory=list)
    ups: list[Uplink] = field(default_factory=list)
    called: list[CloudName] = field(default_factory=list)
    lost: int = 0

    def link_up(self, uplink: Uplink) -> None:
        self.ups.append(uplink)

    def link_lost(self) -> Iterable[CloudName]:
        self.lost += 1
        return self.online

    def retry(self, name: CloudName) -> None:
        self.called.append(name)


@asynccontextmanager
async def watching(home: Home, most: int = 1000) -> AsyncIterator[LinkMonitor[Uplink]]:
    one = LinkMonitor[Uplink]("cloud", home.link, home, most)
    try:
        yield one
    finally:
        await one.close()


async def test_a_link_is_noticed_once() -> None:
    home = Home()
    async with watching(home) as one:
        one.update()
        home.link.put(Uplink())
        one.update()
        one.update()
        assert await one.offline(NAMES[0]) is None
        assert home.ups == [home.link.current]


async def test_a_child_that_waited_gets_the_reason_and_retries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_monitor, "PATIENCE", 0.01)
    home = Home()
    async with watching(home) as one:
        one.offline_reason = Reason("some-code", "It is asleep.")
        reason = await one.offline(NAMES[0])
        assert reason is not None
        assert "gateway-cloud: It is asleep." in reason.remedy
        home.link.put(Uplink())
        one.update()
        await until(lambda: home.called == [NAMES[0]])
        assert one.offline_reason is None


async def test_children_that_lost_the_link_retry_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_monitor, "PAUSE", 0.05)
    home = Home(online=NAMES)
    async with watching(home, most=110) as one:
        home.link.put(Uplink())
        one.update()
        home.ups[0].closed.set_result(ConnectionEnd.LOST)
        await until(lambda: home.link.current is None)
        home.link.put(Uplink())
        one.update()
        await until(lambda: bool(home.called))
        assert len(home.called) == link_monitor.BATCH
        await until(lambda: len(home.called) == 110)


async def test_a_link_that_is_replaced_is_lost() -> None:
    home = Home(online=NAMES[:1])
    async with watching(home) as one:
        older = Uplink()
        home.link.put(older)
        one.update()
        home.link.put(Uplink())
        one.update()
        await until(lambda: home.called == NAMES[:1])
        older.closed.set_result(ConnectionEnd.CLOUD)
        await asyncio.sleep(0)
        assert len(home.ups) == 2


async def put(home: Home, watch: LinkMonitor[Uplink]) -> Uplink:
    """Let the gateway log in."""
    uplink = Uplink()
    home.link.put(uplink)
    watch.update()
    return uplink


@pytest.mark.parametrize("when", ["before", "after", "later"])
async def test_a_link_that_is_handed_over_is_not_lost(when: str) -> None:
    home = Home(online=NAMES[:1])
    async with watching(home) as one:
        older = await put(home, one)
        with one.handover():
            if when == "before":
                older.closed.set_result(ConnectionEnd.CLOUD)
                await until(lambda: home.link.current is None)
            newer = await put(home, one)
            if when == "after":
                older.closed.set_result(ConnectionEnd.CLOUD)
                await asyncio.sleep(0)
        if when == "later":
            older.closed.set_result(ConnectionEnd.CLOUD)
            await asyncio.sleep(0)
        assert home.ups == [older, newer]
        assert not home.lost
        newer.closed.set_result(ConnectionEnd.LOST)
        await until(lambda: bool(home.lost))


async def test_a_handover_of_which_nothing_comes_loses_the_link() -> None:
    home = Home(online=NAMES[:1])
    async with watching(home) as one:
        older = await put(home, one)
        with one.handover():
            older.closed.set_result(ConnectionEnd.CLOUD)
            await until(lambda: home.link.current is None)
            assert home.lost == 0
        await until(lambda: bool(home.lost))
        await put(home, one)
        await until(lambda: home.called == NAMES[:1])


async def test_a_handover_that_fails_leaves_the_link_as_it_is() -> None:
    home = Home()
    async with watching(home) as one:
        older = await put(home, one)
        with one.handover():
            pass
        assert not home.lost
        older.closed.set_result(ConnectionEnd.LOST)
        await until(lambda: bool(home.lost))
