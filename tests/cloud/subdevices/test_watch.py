"""The link comes and goes, and children are called back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gatewayd.cloud.faults import End
from gatewayd.cloud.subdevices import watch
from gatewayd.cloud.subdevices.link import Link
from gatewayd.cloud.subdevices.watch import Watch
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud_stage import until

NAMES = [CloudName("cloud", "product", f"child-{number}") for number in range(120)]


@dataclass
class Uplink:
    closed: asyncio.Future[End] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass
class Home:
    """Implements Listener.  online: who would lose a session with the link."""

    link: Link[Uplink] = field(default_factory=Link)
    online: list[CloudName] = field(default_factory=list)
    ups: list[Uplink] = field(default_factory=list)
    called: list[CloudName] = field(default_factory=list)

    def link_up(self, uplink: Uplink) -> None:
        self.ups.append(uplink)

    def link_lost(self) -> Iterable[CloudName]:
        return self.online

    def call_back(self, name: CloudName) -> None:
        self.called.append(name)


@asynccontextmanager
async def watching(home: Home, most: int = 1000) -> AsyncIterator[Watch[Uplink]]:
    one = Watch[Uplink]("cloud", home.link, home, most)
    try:
        yield one
    finally:
        await one.close()


async def test_a_link_is_noticed_once() -> None:
    home = Home()
    async with watching(home) as one:
        one.look()
        home.link.put(Uplink())
        one.look()
        one.look()
        assert await one.offline(NAMES[0]) is None
        assert home.ups == [home.link.current]


async def test_who_waited_in_vain_is_told_why_and_called_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.01)
    home = Home()
    async with watching(home) as one:
        one.ails = Reason("some-code", "It is asleep.")
        reason = await one.offline(NAMES[0])
        assert reason is not None
        assert reason.remedy == "Look at gateway-cloud: It is asleep."
        home.link.put(Uplink())
        one.look()
        await until(lambda: home.called == [NAMES[0]])
        assert one.ails is None


async def test_who_lost_the_link_is_called_back_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "PAUSE", 0.05)
    home = Home(online=NAMES)
    async with watching(home, most=110) as one:
        home.link.put(Uplink())
        one.look()
        home.ups[0].closed.set_result(End.LOST)
        await until(lambda: home.link.current is None)
        home.link.put(Uplink())
        one.look()
        await until(lambda: bool(home.called))
        assert len(home.called) == watch.TOGETHER
        await until(lambda: len(home.called) == 110)


async def test_a_link_that_is_replaced_is_lost() -> None:
    home = Home(online=NAMES[:1])
    async with watching(home) as one:
        older = Uplink()
        home.link.put(older)
        one.look()
        home.link.put(Uplink())
        one.look()
        await until(lambda: home.called == NAMES[:1])
        older.closed.set_result(End.CLOUD)
        await asyncio.sleep(0)
        assert len(home.ups) == 2
