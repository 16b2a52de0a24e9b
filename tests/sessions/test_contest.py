"""Two that hold one device: both say so, one of them gives way, and a cloud that flaps is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import count

import pytest

from gatewayd.cloud.provider import SessionEnd
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.clock import Clock
from gatewayd.sessions.contest import CloudClosings
from tests.support.fakes import FakeCloud, FakeSession, MemoryRecords
from tests.support.stage import Stage

pytestmark = pytest.mark.jumping_clock

CONTESTED, YIELDED, TAKEN_OVER = "session-contested", "session-yielded", "session-taken-over"
SETTLED = 600
"""Seconds in which two have settled which of them gives way, with the settings as they are."""
TAKES = 1200
"""Seconds in which the one that has given way has the child once the other is gone."""


class OneSessionCloud(FakeCloud):
    """A cloud that closes the older of two sessions of one device, as both vendors do."""

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[CloudName, FakeSession] = {}

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        session = await super().connect(name, secret)
        older, self.newest[name] = self.newest.get(name), session
        if older is not None and not older.ended.done():
            older.ended.set_result(SessionEnd(Reason("cloud-closed"), by_cloud=True))
        return session


def copy_of(records: MemoryRecords) -> MemoryRecords:
    """Return what a disk that was cloned has."""
    copy = MemoryRecords()
    copy.rows, copy.slots = dict(records.rows), dict(records.slots)
    return copy


def spread(records: MemoryRecords, cloud: FakeCloud) -> Stage:
    """Return a stage whose waits differ from each other, as they do where chance moves them."""
    loop, numbers = asyncio.get_running_loop(), count(len(cloud.calls))
    return Stage(
        records,
        cloud,
        clock=Clock(
            loop.time, lambda: int(loop.time() * 1e6) + 1, lambda: next(numbers) * 0.618 % 1
        ),
    )


def reasons(sides: Iterable[Stage], device: DeviceId) -> list[str]:
    return sorted(side.tape.shown[device].reason for side in sides)


def seen(stage: Stage, device: DeviceId) -> set[str]:
    return {entry.reason.code for entry in stage.manager.children[device].history}


async def test_of_two_that_hold_one_device_the_newcomer_gives_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both say so at first; then the loser's tries are all that is left of it."""
    cloud, records = OneSessionCloud(), MemoryRecords()
    async with Stage(records, cloud).running() as first:
        device = first.announce("TH20-1")
        await first.tape.wait_for(device, "online")
        await asyncio.sleep(3600)
        async with Stage(copy_of(records), cloud).running() as second:
            second.announce("TH20-1")
            async with asyncio.timeout(SETTLED):
                await second.tape.wait_for(device, "offline", CONTESTED)
                yielded = await second.tape.wait_for(device, "offline", YIELDED)
            assert yielded.substate == "waiting"
            before = len(cloud.calls)
            await asyncio.sleep(36000)
            assert len(cloud.calls) - before <= 2 * 36000 / 900  # each try costs one login of both
            await second.tape.wait_for(device, "offline", YIELDED)
            assert reasons((first, second), device) == [TAKEN_OVER, YIELDED]
            said = [one for one in caplog.records if one.levelno == logging.WARNING]
            assert [getattr(one, "device", "") for one in said] == [device]
            first.lose("TH20-1")
            async with asyncio.timeout(TAKES):
                await second.tape.wait_for(device, "online")


async def test_of_three_that_hold_one_device_two_give_way() -> None:
    cloud, records = OneSessionCloud(), MemoryRecords()
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(spread(records, cloud).running())]
        device = sides[0].announce("TH20-1")
        await sides[0].tape.wait_for(device, "online")
        for _ in range(2):
            made = spread(copy_of(records), cloud)
            sides.append(await stack.enter_async_context(made.running()))
            sides[-1].announce("TH20-1")
        async with asyncio.timeout(4 * SETTLED):
            while reasons(sides, device).count(YIELDED) < 2:
                await asyncio.sleep(1)


async def test_of_two_copies_of_one_disk_each_child_is_kept_by_one() -> None:
    """All sessions of either end with all logins of the other, as if the cloud had restarted."""
    cloud, records = OneSessionCloud(), MemoryRecords()
    names = [f"TH20-{number}" for number in range(20)]
    async with spread(records, cloud).running() as first:
        devices = [first.announce(name) for name in names]
        for device in devices:
            await first.tape.wait_for(device, "online")
        async with spread(copy_of(records), cloud).running() as second:
            for name in names:
                second.announce(name)
            async with asyncio.timeout(3600):
                for device in devices:
                    while YIELDED not in reasons((first, second), device):
                        await asyncio.sleep(1)


async def test_a_loser_tries_at_once_where_an_operator_says_so(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await closed_soon(stage, device, 4)
    await stage.tape.wait_for(device, "offline", YIELDED)
    await stage.app.commands.retry(device, "uid 0")
    async with asyncio.timeout(1):
        await stage.tape.wait_for(device, "online")


async def closed_soon(stage: Stage, device: DeviceId, times: int, after: float = 0.0) -> None:
    for _ in range(times):
        await stage.tape.wait_for(device, "online")
        await asyncio.sleep(after)
        stage.cloud.drop("TH20-1")
        await stage.tape.wait_for(device, "offline")


async def test_one_that_comes_back_seldom_gives_nothing_away(stage: Stage) -> None:
    """What logs in every 40 s, as a device itself may: this gateway waits longer, and says so."""
    device = stage.announce("TH20-1")
    began, opened = asyncio.get_running_loop().time(), 0
    while asyncio.get_running_loop().time() < began + 7200:
        await closed_soon(stage, device, 1, after=40)
        opened += 1
        assert stage.tape.shown[device].reason != YIELDED
    assert stage.tape.shown[device].reason == CONTESTED
    assert opened > 7200 / 60


@pytest.mark.parametrize("children", [2, 10])
async def test_a_cloud_that_closes_all_sessions_at_once_is_no_rival(
    stage: Stage, children: int
) -> None:
    names = [f"TH20-{number}" for number in range(children)]
    devices = [stage.announce(name) for name in names]
    for _ in range(12):
        for device in devices:
            await stage.tape.wait_for(device, "online")
        for name in names:
            stage.cloud.drop(name)
        for device in devices:
            view = await stage.tape.wait_for(device, "offline")
            assert view.reason in ("cloud-closed", CONTESTED)
        for device in devices:
            assert not seen(stage, device) & {YIELDED, TAKEN_OVER}


async def test_a_broker_that_restarts_again_and_again_is_no_rival(stage: Stage) -> None:
    """It is not there for a moment each time, which a rival cannot do, also to an only child."""
    device = stage.announce("TH20-1")
    for _ in range(12):
        await closed_soon(stage, device, 1)
        stage.cloud.down = True
        await stage.tape.wait_for(device, "offline", "cloud-unreachable")
        stage.cloud.down = False
        assert not seen(stage, device) & {YIELDED, CONTESTED, TAKEN_OVER}


async def test_a_path_that_fails_often_is_not_taken_for_another_gateway(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    for _ in range(10):
        await stage.tape.wait_for(device, "online")
        stage.cloud.drop("TH20-1", by_cloud=False)
        await stage.tape.wait_for(device, "offline")
        assert stage.tape.shown[device].reason == "connection-lost"


async def test_a_cloud_that_restarts_now_and_then_is_not_contested(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    for _ in range(10):
        await stage.tape.wait_for(device, "online")
        await asyncio.sleep(1000)
        stage.cloud.drop("TH20-1")
        await stage.tape.wait_for(device, "offline")
        assert stage.tape.shown[device].reason == "cloud-closed"


async def test_a_limit_that_two_meet_ends_no_contest(stage: Stage) -> None:
    """Of the cloud, or gatewayd's own of how often a device connects."""
    device = stage.announce("TH20-1")
    stage.cloud.why_down = "connects-exhausted"
    for _ in range(3):
        await closed_soon(stage, device, 1)
        stage.cloud.down = True
        await stage.tape.wait_for(device, "offline", "connects-exhausted")
        stage.cloud.down = False
    await closed_soon(stage, device, 1)
    await stage.tape.wait_for(device, "offline", YIELDED)


def test_a_child_whose_session_is_closed_twice_in_a_moment_counts_once() -> None:
    """Where waits are short: the other sessions stay."""
    closings = CloudClosings(lambda: 7.0)
    first, again = (closings.note("cloud", DeviceId("child-1"), 3) for _ in range(2))
    assert first is again
    assert not again.is_of_cloud
    assert closings.note("cloud", DeviceId("child-2"), 2).is_of_cloud
