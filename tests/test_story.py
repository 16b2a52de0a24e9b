"""The story on fakes and a clock that jumps: the README in code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import PROPERTIES, AfterOutage, DropReason, Message
from gatewayd.message_stage import RecordedStanding
from gatewayd.messages.intake import IncomingMessage
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.outbox.outbox import OutboxThread
from gatewayd.messages.relay import MessageRelay
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.runtime.clock import Clock
from gatewayd.simulator import story
from gatewayd.simulator.story import Measurement, without_repeats
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.inline_executor import InlineExecutor
from tests.support.stage import Stage
from tests.support.tasks import in_background

PATIENCE = 600.0
"""Seconds, which a clock that jumps does not wait for."""


class FakeWorld:
    """A LAN, a gateway and a cloud in one process and no time."""

    admitted = "TH20-000001"
    held = "stranger-7"

    def __init__(self, stage: Stage, relay: MessageRelay) -> None:
        self._stage, self._relay = stage, relay

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

    async def say(self, child: str, value: float) -> None:
        durable: asyncio.Future[DropReason | None] = asyncio.get_running_loop().create_future()
        payload = json.dumps({"temperature": value}).encode()
        message = IncomingMessage("site", self._id(child), PROPERTIES, payload)
        self._relay.offer(message, durable.set_result)
        assert await durable is None

    async def said(self, child: str, count: int) -> Sequence[Measurement]:
        async with asyncio.timeout(PATIENCE):
            while len(found := self._measurements(child)) < count:
                await asyncio.sleep(1)
        return found

    def _measurements(self, child: str) -> Sequence[Measurement]:
        return without_repeats(map(_measurement, self._stage.cloud.said.get(child, ())))

    async def cut(self) -> None:
        self._stage.cloud.cut()
        await self.wait_for(self.admitted, "offline")

    async def restore(self) -> None:
        self._stage.cloud.down = False

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def _measurement(message: Message) -> Measurement:
    return Measurement(json.loads(message.payload)["temperature"], message.at / 1000)


@contextlib.asynccontextmanager
async def world(directory: Path, order: AfterOutage) -> AsyncIterator[FakeWorld]:
    """The gateway on fakes, with an outbox on a real disk, whose thread takes no time."""
    settings = MessageSettings(enabled=True, child=ChildMessageSettings(after_outage=order))
    async with Stage(MemoryRecords(), FakeCloud()).running() as stage:
        loop = asyncio.get_running_loop()
        clock = Clock(loop.time, lambda: int(loop.time() * 1e6) + 1, lambda: 0.5)
        relay = MessageRelay(
            settings,
            directory,
            RecordedStanding(stage.records),
            clock,
            arrival=ArrivalClock(clock.wall, is_right=lambda: True),
            thread=OutboxThread(InlineExecutor()),
        )
        await relay.open(["site"])
        stage.app.keeper.listen(relay.delivery)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(relay.aclose)
            for service in relay.services():
                await stack.enter_async_context(in_background(service()))
            yield FakeWorld(stage, relay)


@pytest.mark.jumping_clock
@pytest.mark.parametrize("order", AfterOutage)
async def test_the_story(tmp_path: Path, order: AfterOutage) -> None:
    async with world(tmp_path, order) as fake:
        assert len([sentence async for sentence in story.perform(fake, 1.0)]) == 10


@pytest.mark.jumping_clock
@pytest.mark.parametrize(("order", "last"), [
    (AfterOutage.LIVE_FIRST, False), (AfterOutage.IN_ORDER, True),
])  # fmt: skip
async def test_what_is_new_leaves_first_if_so_set(
    tmp_path: Path, order: AfterOutage, last: bool
) -> None:
    async with world(tmp_path, order) as fake:
        await fake.announce(fake.admitted)
        await fake.wait_for(fake.admitted, "online")
        await fake.cut()
        waiting = [float(number) for number in range(40)]
        for value in waiting:
            await fake.say(fake.admitted, value)
        await fake.restore()
        await fake.wait_for(fake.admitted, "online")
        await fake.say(fake.admitted, -1.0)
        said = [one.value for one in await fake.said(fake.admitted, len(waiting) + 1)]
        assert [value for value in said if value >= 0] == waiting
        assert (said[-1] == -1.0) is last
