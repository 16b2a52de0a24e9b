"""The mailbox: late words are void, broken work begins anew, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping

import pytest

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent, State, Work
from gatewayd.device.reason import NONE, Reason
from gatewayd.errors import StoreUnavailable
from gatewayd.manager.manager import HISTORY, STRANGERS_LOGGED, Child, DeviceManager, Worker
from gatewayd.testing import clock

ONE, TWO = DeviceId("child-1"), DeviceId("child-2")


class Scene:
    """A gateway with workers of the test's own, and what it showed."""

    def __init__(self, workers: Mapping[Work, Worker]) -> None:
        self.shown: list[tuple[str, str]] = []
        self.removed: list[str] = []
        loop = asyncio.get_running_loop()
        self.gateway = DeviceManager(
            {work: workers.get(work, _idle) for work in Work},
            show=lambda child: self.shown.append((child.id, child.state.value)),
            remove=self.removed.append,
            now=loop.time,
            wall=lambda: int(loop.time() * 1e6),
        )

    def state(self, device: DeviceId = ONE) -> State:
        return self.gateway.children[device].state

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[DeviceManager]:
        task = asyncio.create_task(self.gateway.run())
        try:
            yield self.gateway
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _idle(_: DeviceId, __: PostEvent) -> None:
    await asyncio.Event().wait()


def test_leaving_a_state_ends_its_work() -> None:
    ended = []

    async def evaluate(device: DeviceId, post: PostEvent) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(device)

    async def main() -> None:
        async with Scene({Work.EVALUATE: evaluate}).running() as gateway:
            gateway.post(ONE, lc.Seen())
            await asyncio.sleep(1)
            gateway.post(ONE, lc.Rejected())
            await asyncio.sleep(0.1)
            assert ended == [ONE]

    clock.run(main())


def test_a_late_word_of_ended_work_is_void() -> None:
    async def register(_: DeviceId, post: PostEvent) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            post(lc.SecretStored())

    async def main() -> None:
        scene = Scene({Work.REGISTER: register})
        async with scene.running() as gateway:
            gateway.post(ONE, lc.Seen())
            gateway.post(ONE, lc.Admitted())
            await asyncio.sleep(1)
            gateway.post(ONE, lc.Rejected())
            await asyncio.sleep(20)
            assert scene.state() is State.REJECTED

    clock.run(main())


def test_work_that_goes_on_is_not_restarted() -> None:
    started = []

    async def connect(device: DeviceId, post: PostEvent) -> None:
        started.append(device)
        post(lc.SessionOpened())
        await asyncio.sleep(5)
        post(lc.SessionClosed(Reason("connection-lost")))
        await asyncio.sleep(5)
        post(lc.SessionOpened())
        await asyncio.Event().wait()

    async def main() -> None:
        scene = Scene({Work.CONNECT: connect})
        child = Child(ONE, present=True)
        scene.gateway.restore([(child, State.ACTIVATING, NONE)])
        async with scene.running():
            await asyncio.sleep(7)
            assert scene.state() is State.OFFLINE
            await asyncio.sleep(7)
            assert scene.state() is State.ONLINE
            assert started == [ONE]

    clock.run(main())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (StoreUnavailable("busy"), "store-unavailable"),
        (ValueError("a bug"), "internal-error"),
    ],
)
def test_broken_work_is_explained_and_begun_anew(fault: Exception, reason: str) -> None:
    tries: list[float] = []

    async def evaluate(_: DeviceId, post: PostEvent) -> None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) < 3:
            raise fault
        post(lc.Held())

    async def main() -> None:
        scene = Scene({Work.EVALUATE: evaluate})
        async with scene.running() as gateway:
            gateway.post(ONE, lc.Seen())
            gateway.post(TWO, lc.Seen())
            await asyncio.sleep(1)
            assert gateway.children[ONE].reason.code == reason
            assert gateway.children[ONE].until > 1
            await asyncio.sleep(99)
            assert scene.state() is State.PENDING
        assert tries[2] - tries[0] >= 30

    clock.run(main())


def test_a_forgotten_child_is_gone() -> None:
    async def main() -> None:
        scene = Scene({})
        async with scene.running() as gateway:
            gateway.post(ONE, lc.Seen())
            gateway.post(ONE, lc.Lost())
            gateway.post(TWO, lc.Lost())
            await gateway.ping()
            assert scene.removed == [ONE]
            assert not gateway.children

    clock.run(main())


def test_history_is_bounded() -> None:
    async def main() -> None:
        scene = Scene({})
        async with scene.running() as gateway:
            gateway.post(ONE, lc.Seen())
            for _ in range(HISTORY):
                gateway.post(ONE, lc.Held())
                gateway.post(ONE, lc.Changed())
            await gateway.ping()
            history = gateway.children[ONE].history
            assert len(history) == HISTORY
            assert {step.event for step in history} == {"Held", "Changed"}

    clock.run(main())


def test_beginning_anew_cuts_a_wait_short() -> None:
    tries = []

    async def register(_: DeviceId, __: PostEvent) -> None:
        tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(86_400)

    async def main() -> None:
        async with Scene({Work.REGISTER: register}).running() as gateway:
            gateway.post(ONE, lc.Seen())
            gateway.post(ONE, lc.Admitted())
            await asyncio.sleep(5)
            gateway.restart_work(gateway.children[ONE])
            await asyncio.sleep(5)
            assert tries == [0.0, 5.0]

    clock.run(main())


def test_work_that_breaks_at_its_end_does_not_go_on() -> None:
    begun: list[float] = []

    async def evaluate(_: DeviceId, __: PostEvent) -> None:
        begun.append(asyncio.get_running_loop().time())
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("a bug")

    async def main() -> None:
        scene = Scene({Work.EVALUATE: evaluate})
        async with scene.running() as gateway:
            gateway.post(ONE, lc.Seen())
            await asyncio.sleep(1)
            gateway.post(ONE, lc.Rejected())
            await asyncio.sleep(1000)
            assert begun == [0.0]

    clock.run(main())


def test_work_whose_part_was_cancelled_by_somebody_else_begins_anew() -> None:
    begun: list[float] = []

    async def evaluate(_: DeviceId, __: PostEvent) -> None:
        begun.append(asyncio.get_running_loop().time())
        part = asyncio.get_running_loop().create_future()
        part.cancel()
        await part

    async def main() -> None:
        scene = Scene({Work.EVALUATE: evaluate})
        async with scene.running() as gateway:
            gateway.post(ONE, lc.Seen())
            await asyncio.sleep(1)
            assert gateway.children[ONE].reason.code == "internal-error"
            await asyncio.sleep(30)
            assert len(begun) == 2

    clock.run(main())


def test_work_begins_when_the_gateway_runs_and_not_before() -> None:
    begun: list[DeviceId] = []

    async def register(device: DeviceId, _: PostEvent) -> None:
        begun.append(device)
        await asyncio.Event().wait()

    async def main() -> None:
        scene = Scene({Work.REGISTER: register})
        scene.gateway.restore([(Child(ONE), State.ADMITTED, NONE)])
        await asyncio.sleep(1)
        assert not begun
        async with scene.running() as gateway:
            await asyncio.sleep(1)
            assert begun == [ONE]
            child = gateway.children[ONE]
        gateway.restart_work(child)
        await asyncio.sleep(1)
        assert begun == [ONE]

    clock.run(main())


def test_nobody_begins_while_another_is_still_ending() -> None:
    at_work: list[str] = []

    def worker(name: str) -> Worker:
        async def work(_: DeviceId, __: PostEvent) -> None:
            at_work.append(name)
            assert len(at_work) == 1
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(2)
                at_work.remove(name)

        return work

    async def main() -> None:
        scene = Scene({work: worker(work.value) for work in Work})
        async with scene.running() as gateway:
            for event in (lc.Seen(), lc.Admitted(), lc.Rejected(), lc.Admitted()):
                gateway.post(ONE, event)
                await asyncio.sleep(0.1)
            assert at_work == ["evaluate"]
            await asyncio.sleep(10)
            assert at_work == ["register"]

    clock.run(main())


def test_a_flood_of_strangers_does_not_flood_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatewayd")

    async def main() -> None:
        async with Scene({}).running() as gateway:
            for number in range(1000):
                gateway.post(DeviceId(f"child-{number}"), lc.Seen())
                gateway.post(DeviceId(f"child-{number}"), lc.Held())
            await gateway.ping()
            gateway.post(ONE, lc.Admitted())
            await gateway.ping()

    clock.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("Pending") for text in told) == STRANGERS_LOGGED
    assert any(text.startswith("Admitted") for text in told)
