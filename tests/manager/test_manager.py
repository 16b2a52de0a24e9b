"""The event queue: stale events are ignored, failed work starts again, children do not wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping

import pytest

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent, State, Work
from gatewayd.device.reason import Reason
from gatewayd.errors import StoreUnavailable
from gatewayd.manager.manager import HISTORY, STRANGERS_LOGGED, Child, DeviceManager, Worker
from gatewayd.runtime.clock import Clock
from tests.support.fakes import MemoryRecords
from tests.support.tasks import in_background

pytestmark = pytest.mark.jumping_clock

ONE, TWO = DeviceId("child-1"), DeviceId("child-2")


class Scene:
    """A device manager with workers of the test's own, and what it showed."""

    def __init__(self, workers: Mapping[Work, Worker]) -> None:
        self.shown: list[tuple[str, str]] = []
        self.removed: list[str] = []
        loop = asyncio.get_running_loop()
        clock = Clock(loop.time, lambda: int(loop.time() * 1e6))
        self.manager = DeviceManager(MemoryRecords(), clock)
        self.manager.connect({work: workers.get(work, _idle) for work in Work}, self)

    def show(self, child: Child) -> None:
        self.shown.append((child.id, child.state.value))

    def remove(self, device: DeviceId) -> None:
        self.removed.append(device)

    def state(self, device: DeviceId = ONE) -> State:
        return self.manager.children[device].state

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[DeviceManager]:
        async with in_background(self.manager.run()):
            yield self.manager


async def _idle(_: DeviceId, __: PostEvent) -> None:
    await asyncio.Event().wait()


async def test_leaving_a_state_ends_its_work() -> None:
    ended = []

    async def evaluate(device: DeviceId, post: PostEvent) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(device)

    async with Scene({Work.EVALUATE: evaluate}).running() as manager:
        manager.post(ONE, lc.Seen())
        await asyncio.sleep(1)
        manager.post(ONE, lc.Rejected())
        await asyncio.sleep(0.1)
        assert ended == [ONE]


async def test_a_late_word_of_ended_work_is_void() -> None:
    async def register(_: DeviceId, post: PostEvent) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            post(lc.SecretStored())

    scene = Scene({Work.REGISTER: register})
    async with scene.running() as manager:
        manager.post(ONE, lc.Seen())
        manager.post(ONE, lc.Admitted())
        await asyncio.sleep(1)
        manager.post(ONE, lc.Rejected())
        await asyncio.sleep(20)
        assert scene.state() is State.REJECTED


async def test_work_that_goes_on_is_not_restarted() -> None:
    started = []

    async def connect(device: DeviceId, post: PostEvent) -> None:
        started.append(device)
        post(lc.SessionOpened())
        await asyncio.sleep(5)
        post(lc.SessionClosed(Reason("connection-lost")))
        await asyncio.sleep(5)
        post(lc.SessionOpened())
        await asyncio.Event().wait()

    scene = Scene({Work.CONNECT: connect})
    child = Child(ONE, present=True)
    scene.manager.add(child, State.ACTIVATING)
    async with scene.running():
        await asyncio.sleep(7)
        assert scene.state() is State.OFFLINE
        await asyncio.sleep(7)
        assert scene.state() is State.ONLINE
        assert started == [ONE]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (StoreUnavailable("busy"), "store-unavailable"),
        (ValueError("a bug"), "internal-error"),
    ],
)
async def test_broken_work_is_explained_and_begun_anew(fault: Exception, reason: str) -> None:
    tries: list[float] = []

    async def evaluate(_: DeviceId, post: PostEvent) -> None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) < 3:
            raise fault
        post(lc.Held())

    scene = Scene({Work.EVALUATE: evaluate})
    async with scene.running() as manager:
        manager.post(ONE, lc.Seen())
        manager.post(TWO, lc.Seen())
        await asyncio.sleep(1)
        assert manager.children[ONE].reason.code == reason
        assert manager.children[ONE].until > 1
        await asyncio.sleep(99)
        assert scene.state() is State.PENDING
    assert tries[2] - tries[0] >= 30


async def test_a_delay_is_logged_once_until_its_reason_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A secret is written again every two seconds, for as long as a keyring does not answer."""
    sealed, full = Reason("store-sealed", "Sealed."), Reason("store-full", "Full.")

    async def register(_: DeviceId, post: PostEvent) -> None:
        for reason in (*[sealed] * 30, *[full] * 30):
            post(lc.StoreDelayed(reason, 0.0))
            await asyncio.sleep(2)
        post(lc.SecretStored())

    scene = Scene({Work.REGISTER: register})
    scene.manager.add(Child(ONE, present=True), State.SECURING)
    with caplog.at_level(logging.INFO):
        async with scene.running() as manager:
            await asyncio.sleep(200)
            assert len(manager.children[ONE].history) == HISTORY
    logged = [one.getMessage() for one in caplog.records if "StoreDelayed" in one.getMessage()]
    assert [one.rpartition(": ")[2] for one in logged] == ["Sealed.", "Full."]


async def test_a_forgotten_child_is_gone() -> None:
    scene = Scene({})
    async with scene.running() as manager:
        manager.post(ONE, lc.Seen())
        manager.post(ONE, lc.Lost())
        manager.post(TWO, lc.Lost())
        await manager.ping()
        assert scene.removed == [ONE]
        assert not manager.children


async def test_history_is_bounded() -> None:
    scene = Scene({})
    async with scene.running() as manager:
        manager.post(ONE, lc.Seen())
        for _ in range(HISTORY):
            manager.post(ONE, lc.Held())
            manager.post(ONE, lc.Changed())
        await manager.ping()
        history = manager.children[ONE].history
        assert len(history) == HISTORY
        assert {step.event for step in history} == {"Held", "Changed"}


async def test_beginning_anew_cuts_a_wait_short() -> None:
    tries = []

    async def register(_: DeviceId, __: PostEvent) -> None:
        tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(86_400)

    async with Scene({Work.REGISTER: register}).running() as manager:
        manager.post(ONE, lc.Seen())
        manager.post(ONE, lc.Admitted())
        await asyncio.sleep(5)
        manager.restart_work(manager.children[ONE])
        await asyncio.sleep(5)
        assert tries == [0.0, 5.0]


async def test_work_that_breaks_at_its_end_does_not_go_on() -> None:
    begun: list[float] = []

    async def evaluate(_: DeviceId, __: PostEvent) -> None:
        begun.append(asyncio.get_running_loop().time())
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("a bug")

    scene = Scene({Work.EVALUATE: evaluate})
    async with scene.running() as manager:
        manager.post(ONE, lc.Seen())
        await asyncio.sleep(1)
        manager.post(ONE, lc.Rejected())
        await asyncio.sleep(1000)
        assert begun == [0.0]


async def test_work_whose_part_was_cancelled_by_somebody_else_begins_anew() -> None:
    begun: list[float] = []

    async def evaluate(_: DeviceId, __: PostEvent) -> None:
        begun.append(asyncio.get_running_loop().time())
        part = asyncio.get_running_loop().create_future()
        part.cancel()
        await part

    scene = Scene({Work.EVALUATE: evaluate})
    async with scene.running() as manager:
        manager.post(ONE, lc.Seen())
        await asyncio.sleep(1)
        assert manager.children[ONE].reason.code == "internal-error"
        await asyncio.sleep(30)
        assert len(begun) == 2


async def test_work_begins_when_the_gateway_runs_and_not_before() -> None:
    begun: list[DeviceId] = []

    async def register(device: DeviceId, _: PostEvent) -> None:
        begun.append(device)
        await asyncio.Event().wait()

    scene = Scene({Work.REGISTER: register})
    scene.manager.add(Child(ONE), State.ADMITTED)
    await asyncio.sleep(1)
    assert not begun
    async with scene.running() as manager:
        await asyncio.sleep(1)
        assert begun == [ONE]
        child = manager.children[ONE]
    manager.restart_work(child)
    await asyncio.sleep(1)
    assert begun == [ONE]


async def test_nobody_begins_while_another_is_still_ending() -> None:
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

    scene = Scene({work: worker(work.value) for work in Work})
    async with scene.running() as manager:
        for event in (lc.Seen(), lc.Admitted(), lc.Rejected(), lc.Admitted()):
            manager.post(ONE, event)
            await asyncio.sleep(0.1)
        assert at_work == ["evaluate"]
        await asyncio.sleep(10)
        assert at_work == ["register"]


async def test_a_flood_of_strangers_does_not_flood_the_journal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gatewayd")

    async with Scene({}).running() as manager:
        for number in range(1000):
            manager.post(DeviceId(f"child-{number}"), lc.Seen())
            manager.post(DeviceId(f"child-{number}"), lc.Held())
        await manager.ping()
        manager.post(ONE, lc.Admitted())
        await manager.ping()
    logged = [record.getMessage() for record in caplog.records]
    assert sum("is pending" in text for text in logged) == STRANGERS_LOGGED
    assert any("is admitted" in text for text in logged)


def at_info(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return event and entry of what an operator sees."""
    logged = [one for one in caplog.records if one.levelno >= logging.INFO]
    return [(getattr(one, "event", ""), getattr(one, "message_id", "")) for one in logged]


async def test_a_child_that_comes_online_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gatewayd")
    way = (
        lc.Seen(), lc.Admitted(Reason("admitted-by-rule")), lc.RegistrationStarted(),
        lc.SecretIssued(), lc.SecretStored(), lc.SessionOpened(),
    )  # fmt: skip
    async with Scene({}).running() as manager:
        for event in (*way, lc.SessionClosed(), lc.SessionOpened()):
            manager.post(ONE, event)
        await manager.ping()
    first = ("SessionOpened", "device-registered")
    assert at_info(caplog) == [first, ("SessionClosed", ""), ("SessionOpened", "")]
    assert len(caplog.records) == len(way) + 2


async def test_what_does_not_go_well_is_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gatewayd")
    way = (
        lc.Admitted(Reason("approved")), lc.RegistrationDelayed(), lc.RegistrationStarted(),
        lc.RegistrationUnknown(), lc.RegistrationRefused(), lc.Rejected(),
    )  # fmt: skip
    async with Scene({}).running() as manager:
        manager.post(ONE, lc.Seen())
        for event in way:
            manager.post(ONE, event)
        await manager.ping()
    told = [type(event).__name__ for event in way if not isinstance(event, lc.RegistrationStarted)]
    assert [event for event, _ in at_info(caplog)] == told
