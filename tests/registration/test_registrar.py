"""Registration: each way the cloud can answer, and what is made of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatewayd.cloud.provider import KeepSecret, Outcome
from gatewayd.device.record import CloudName
from gatewayd.errors import StoreFull
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

pytestmark = pytest.mark.jumping_clock


@asynccontextmanager
async def answering(*script: str, **settings: Any) -> AsyncIterator[Stage]:
    """Run the application with a cloud that answers the child TH20-1 by script first."""
    cloud = FakeCloud(script={"TH20-1": list(script)})
    async with Stage(MemoryRecords(), cloud, **settings).running() as stage:
        yield stage


def issued(cloud: FakeCloud) -> int:
    return sum(len(secrets) for secrets in cloud.issued.values())


async def test_a_failure_is_tried_again_later_and_later() -> None:
    moments: list[float] = []
    async with answering("fail", "fail", "fail") as stage:
        device = stage.announce("TH20-1")
        for _ in range(3):
            await stage.tape.wait_for(device, "registering")
            moments.append(asyncio.get_running_loop().time())
            await stage.tape.wait_for(device, "admitted", "cloud-unreachable")
            assert stage.tape.shown[device].next_attempt > 0
        await stage.tape.wait_for(device, "online")
    assert issued(stage.cloud) == 1
    assert [round(b - a) for a, b in itertools.pairwise(moments)] == [15, 30]


async def test_a_refusal_waits_for_an_operator() -> None:
    async with answering("refuse") as stage:
        device = stage.announce("TH20-1")
        view = await stage.tape.wait_for(device, "failed", "cloud-refused")
        assert view.substate == "needs-operator"
        await asyncio.sleep(86_400)
        assert stage.cloud.calls == ["register TH20-1"]
        await stage.app.commands.retry(device, "uid 0")
        await stage.tape.wait_for(device, "online")


async def test_an_answer_that_was_lost_is_waited_out() -> None:
    async with answering("lose") as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "admitted", "answer-lost")
        lost = asyncio.get_running_loop().time()
        await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() - lost >= 60
    assert issued(stage.cloud) == 2


async def test_a_secret_made_stale_by_a_late_duplicate_is_replaced() -> None:
    async with answering("issue-another") as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        assert stage.records[device].stale == 0
        assert "admitted" in stage.tape.states[device][3:]


async def test_secrets_that_are_always_stale_need_an_operator() -> None:
    async with answering(*["issue-another"] * 9) as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "failed", "secret-repeatedly-stale")
    assert issued(stage.cloud) == 8


async def test_an_issued_secret_is_not_given_up_when_the_disk_is_full() -> None:
    async with answering() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "registering")
        stage.records.failing = StoreFull("full")
        await stage.tape.wait_for(device, "securing", "store-full")
        await asyncio.sleep(3600)
        assert stage.tape.shown[device].state == "securing"
        stage.records.failing = None
        await stage.tape.wait_for(device, "online")
    assert issued(stage.cloud) == 1


async def test_no_more_at_once_than_allowed_and_none_forgotten() -> None:
    cloud = CountingCloud()
    async with Stage(MemoryRecords(), cloud, in_flight=4).running() as stage:
        devices = [stage.announce(f"TH20-{n}") for n in range(50)]
        for device in devices:
            await stage.tape.wait_for(device, "online")
    assert cloud.most == 4


class CountingCloud(FakeCloud):
    """Notes how many registrations were under way at once."""

    under_way = most = 0

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().register(name, keep)
        finally:
            self.under_way -= 1


@pytest.mark.parametrize(("per_minute", "at_least"), [(10, 4 * 60), (600, 0)])
async def test_registrations_are_spread_over_time(per_minute: int, at_least: float) -> None:
    async with answering(per_minute=per_minute) as stage:
        began = asyncio.get_running_loop().time()
        devices = [stage.announce(f"TH20-{n}") for n in range(50)]
        for device in devices:
            await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() - began >= at_least


async def test_draining_waits_for_what_is_under_way_and_begins_nothing() -> None:
    async with answering() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "registering")
        late = stage.announce("TH20-2")
        await stage.app.registrar.drain(10)
        assert issued(stage.cloud) == 1
        assert stage.records[device].stored == 1
        await stage.tape.wait_for(late, "admitted", "stopping")
