"""When sockets of an interface are opened again, whatever it does meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from gatewayd.discovery.discoverer import Context, Health, Interest
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.link_life import CHECK_EVERY, REOPEN_EVERY, LinkLife
from gatewayd.errors import DiscoveryRetry
from tests.support.tasks import in_background

pytestmark = pytest.mark.jumping_clock

USABLE = LanInterface("lan0", 2, True, (ip_interface("192.0.2.1/24"),))
GONE = LanInterface("lan0")


class Listening:
    """What listens: it fails so many times, then goes on until the interface is another one."""

    def __init__(self, link: LanInterface = USABLE, fails: int = 0) -> None:
        self.link, self.fails, self.health = link, fails, Health()
        self.opened: list[float] = []
        self.now = asyncio.get_running_loop().time
        self.life = LinkLife(
            "lan0",
            "toys",
            source="toys@lan0",
            link=lambda: self.link,
            bound=link.endpoint,
            context=Context(self.now, lambda: 0.5, lambda _: Interest.WANTED),
            health=self.health,
        )

    async def listen(self, link: LanInterface) -> None:
        self.opened.append(self.now())
        self.life.bind(link.endpoint)
        if not link.is_usable:
            self.life.unusable()
            return
        self.life.opening()
        if self.fails:
            self.fails -= 1
            raise OSError(98, "Address already in use")
        self.life.failures = 0
        while not self.life.moved:
            await self.life.wait(3600)

    def becomes(self, link: LanInterface) -> bool:
        self.link = link
        return self.life.has_moved(link.endpoint)

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.opened, self.opened[1:], strict=False)]


async def test_what_fails_is_tried_again_ever_more_seldom_but_within_a_bound() -> None:
    one = Listening(fails=7)
    async with in_background(one.life.run(one.listen)):
        await asyncio.sleep(200)
    assert one.gaps == pytest.approx([1, 2, 4, 8, CHECK_EVERY, CHECK_EVERY, CHECK_EVERY])
    assert one.health.dropped == {"no-socket": 7}
    assert one.life.failures == 0


async def test_an_interface_that_changes_is_listened_on_again_at_once_but_not_for_ever() -> None:
    one = Listening()
    async with in_background(one.life.run(one.listen)):
        await asyncio.sleep(10)
        assert not one.becomes(USABLE)
        assert one.becomes(replace(USABLE, index=3))
        await asyncio.sleep(0)
        for number in range(4, 9):  # made again and again
            await asyncio.sleep(0.01)
            assert one.becomes(replace(USABLE, index=number))
        await asyncio.sleep(10)
    assert one.opened[1] == pytest.approx(one.opened[0] + 10)
    assert all(gap > REOPEN_EVERY - 1e-6 for gap in one.gaps[1:])
    assert len(one.opened) == 3


async def test_one_that_is_away_is_no_failure_and_is_looked_for() -> None:
    one = Listening(GONE)
    async with in_background(one.life.run(one.listen)):
        await asyncio.sleep(CHECK_EVERY * 1.5)
        with pytest.raises(DiscoveryRetry, match="lan0 is down"):
            one.life.usable_link()
        assert one.becomes(USABLE)
        await asyncio.sleep(0.1)
        assert one.life.usable_link() == USABLE
    assert one.gaps == pytest.approx([CHECK_EVERY, CHECK_EVERY / 2])
    assert one.health.dropped == {"no-interface": 2}


async def test_an_answer_that_may_have_been_missed_says_nothing_of_a_device() -> None:
    one = Listening()
    before = one.life.usable_link()
    one.life.check_unmoved(before)
    one.link = replace(USABLE, index=3)
    with pytest.raises(DiscoveryRetry, match="changed meanwhile"):
        one.life.check_unmoved(before)
