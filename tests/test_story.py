"""The story on fakes and a clock that jumps: the README in code."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.simulator import story
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage


class FakeWorld:
    """A LAN, a gateway and a cloud in one process and no time."""

    admitted = "TH20-000001"
    held = "stranger-7"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def _id(self, child: str) -> DeviceId:
        return self._stage.lan.appear(child)

    async def announce(self, child: str) -> None:
        self._stage.announce(child)

    async def leave(self, child: str) -> None:
        self._stage.lose(child)

    async def wait_for(self, child: str, state: str) -> None:
        await self._stage.tape.wait_for(self._id(child), state)

    async def approve(self, child: str) -> None:
        await self._stage.app.commands.approve(self._id(child), "", "uid 0")

    async def reject(self, child: str) -> None:
        await self._stage.app.commands.reject(self._id(child), "", "uid 0")

    async def issued(self, child: str) -> int:
        return sum(len(s) for n, s in self._stage.cloud.issued.items() if n.device == child)

    async def is_online_at_cloud(self, child: str) -> bool:
        await asyncio.sleep(1)  # whose session is being closed is still there for a moment
        return any(name.device == child for name in self._stage.cloud.online)


@pytest.mark.jumping_clock
async def test_the_story() -> None:
    async with Stage(MemoryRecords(), FakeCloud()).running() as stage:
        assert len([sentence async for sentence in story.perform(FakeWorld(stage))]) == 7
