"""Whatever happens to sessions, clouds and the process: nothing settled is lost, order is kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.cloud.provider import MessageDelayed, MessageRefused
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import AfterOutage
from gatewayd.device.reason import Reason
from gatewayd.messages import delivery
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from tests.support.relays import ALICE, BOB, FakeCloud, RunningRelay, killed, running_relay

AGAIN, NO = MessageDelayed(Reason("later")), MessageRefused(Reason("no"))
CHILDREN = st.sampled_from((ALICE, BOB))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), CHILDREN, st.integers(1, 30)),
        st.tuples(st.sampled_from(("connect", "disconnect", "refuse", "delay")), CHILDREN),
        st.tuples(st.sampled_from(("hold", "answer", "restart", "kill", "wait", "settle"))),
    ),
    max_size=14,
)


class World:
    """A relay that is stopped, killed and started again, with one cloud."""

    def __init__(self, top: Path, order: AfterOutage) -> None:
        self.top, self.runs = top, 0
        child = ChildMessageSettings(after_outage=order, rate=10_000)
        self.settings = MessageSettings(enabled=True, commit_delay=0, child=child)
        self.cloud = FakeCloud()
        self.said: dict[DeviceId, list[bytes]] = defaultdict(list)
        self.settled: dict[DeviceId, set[bytes]] = defaultdict(set)
        self.refused: set[bytes] = set()
        self.stack = AsyncExitStack()

    async def start(self) -> None:
        self.running: RunningRelay = await self.stack.enter_async_context(
            running_relay(self.top / str(self.runs), self.settings, self.cloud)
        )

    async def stop(self) -> None:
        for child in tuple(self.running.sessions):
            self.running.disconnect(child)
        await self.stack.aclose()
        self.note()

    async def kill(self) -> None:
        """Go on with what is on the disk now."""
        self.note()
        before = self.top / str(self.runs)
        self.runs += 1
        await killed(self.running, before, self.top / str(self.runs))
        lost = len(self.running.settled)
        for child in tuple(self.running.sessions):
            self.running.disconnect(child)
        await self.stack.aclose()
        del self.running.settled[lost:]  # what was settled after the kill was not

    def note(self) -> None:
        for payload, why in self.running.settled:
            child = ALICE if payload.startswith(b"a") else BOB
            assert why is None
            self.settled[child].add(payload)

    @staticmethod
    def payload(child: DeviceId, number: int) -> bytes:
        return b"%s%d" % (b"a" if child == ALICE else b"b", number)

    def say(self, child: DeviceId, count: int) -> None:
        for _ in range(count):
            payload = self.payload(child, len(self.said[child]))
            self.said[child].append(payload)
            self.running.say(payload, child)

    async def step(  # noqa: C901  # a table of what can happen
        self, what: str, child: DeviceId = ALICE, count: int = 0
    ) -> None:
        running, cloud = self.running, self.cloud
        match what:
            case "say":
                self.say(child, count)
            case "connect":
                running.connect(child)
            case "disconnect" if child in running.sessions:
                running.disconnect(child)
            case "refuse":
                cloud.answers[self.payload(child, len(self.said[child]))].append(NO)
                self.refused.add(self.payload(child, len(self.said[child])))
            case "delay":
                cloud.answers[self.payload(child, len(self.said[child]) + 1)].append(AGAIN)
            case "hold":
                cloud.open.clear()
            case "answer":
                cloud.open.set()
            case "restart":
                await self.stop()
                await self.start()
            case "kill":
                await self.kill()
                await self.start()
            case "wait":
                await asyncio.sleep(0.01)
            case "settle":
                await running.all_settled()

    async def end(self) -> None:
        self.cloud.open.set()
        for child in (ALICE, BOB):
            if child not in self.running.sessions:
                self.running.connect(child)
        await self.running.all_settled()
        await self.running.empty()
        await self.stop()


@pytest.mark.parametrize("order", AfterOutage)
@settings(max_examples=15)
@given(steps=STEPS)
def test_what_is_settled_arrives_in_order(order: AfterOutage, steps: list[tuple[Any, ...]]) -> None:
    async def live(top: Path) -> None:
        world = World(top, order)
        await world.start()
        try:
            for one in steps:
                await world.step(*one)
            await world.end()
        finally:
            await world.stack.aclose()
        for child in (ALICE, BOB):
            got = set(world.cloud.accepted[child]) | world.refused
            assert world.settled[child] <= got, "nothing settled is lost"
            assert got - world.refused <= set(world.said[child])
            for late in {True, False} if order is AfterOutage.LIVE_FIRST else {None}:
                first: dict[bytes, bool] = {}
                for message in world.cloud.received[child]:
                    first.setdefault(message.payload, message.late)
                numbers = [int(p[1:]) for p, was in first.items() if late in (None, was)]
                assert numbers == sorted(numbers), "first copies are in order"

    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "RETRY_FIRST", 0.01)
        asyncio.run(live(Path(directory)))
