"""A clock that is not set: what would be dated waits, says so, and goes on when it is set."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.cloud.provider import KeepSecret, Outcome
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.runtime.clock import Clock
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.renewing_cloud import LIFE, RenewingCloud
from tests.support.stage import Stage

pytestmark = pytest.mark.jumping_clock

NAME = CloudName("cloud", "p", "TH20-1")
SET_AT = 500.0
"""Seconds after the start when the clock is set."""
TODAY = 1_800_000_000_000_000


def late_clock() -> Clock:
    """Return a clock that shows 1970 for a while."""
    now = asyncio.get_running_loop().time

    def shown() -> int:
        return int(now() * 1e6) + (TODAY if now() >= SET_AT else 1)

    return Clock(now, shown, lambda: 0.5, TODAY)


def times_of(record: Record) -> list[int]:
    return [
        one
        for one in (
            record.first_seen, record.verdict_at, record.attempted_at, record.registered_at,
            record.activated_at,
        )
        if one
    ]  # fmt: skip


async def test_a_new_child_is_admitted_and_registered_when_it_is_set() -> None:
    cloud = FakeCloud()
    async with Stage(MemoryRecords(), cloud, clock=late_clock()).running() as stage:
        assert "not set" in stage.app.faults()[0]
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "discovered")
        await asyncio.sleep(SET_AT - 100)
        assert stage.records.get(device) is None
        assert not cloud.calls
        await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() >= SET_AT
        assert min(times_of(stage.records[device])) >= TODAY
        assert not stage.app.faults()


async def test_what_an_operator_decides_is_kept_and_registered_when_it_is_set() -> None:
    cloud = FakeCloud()
    async with Stage(MemoryRecords(), cloud, clock=late_clock()).running() as stage:
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "discovered")
        await stage.app.commands.approve(device, "", "uid 0")
        waiting = await stage.tape.wait_for(device, "admitted", "clock-not-set")
        assert waiting.remedy
        assert not cloud.calls
        await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() >= SET_AT
        record = stage.records[device]
        assert (record.attempt, min(times_of(record))) == (1, TODAY)


async def test_no_secret_is_renewed_because_its_beginning_seems_to_lie_ahead() -> None:
    now = asyncio.get_running_loop().time

    class Dated(RenewingCloud):
        """Its secrets begin today: as certificates do, they are due where that lies ahead."""

        def renew_at(self, name: CloudName, secret: Secret) -> float | None:
            due = super().renew_at(name, secret)
            return 0.0 if due is None or now() < SET_AT else due + TODAY / 1e6

        async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
            assert now() >= SET_AT or not self.issued.get(name), "nothing is issued before"
            return await super().register(name, keep)

    cloud, records = Dated(), MemoryRecords()
    async with Stage(records, cloud).running() as stage:
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
    cloud.calls.clear()
    async with Stage(records, cloud, clock=late_clock()).running() as stage:
        stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
        assert now() < SET_AT
        await asyncio.sleep(SET_AT + 100)
        assert len(cloud.issued[NAME]) == 1
        assert records[device].candidate == 0
        while len(cloud.issued[NAME]) == 1:
            assert now() < 2 * LIFE
            await asyncio.sleep(LIFE / 100)
        assert records[device].verdict is Verdict.ADMITTED
        assert records[device].admission is Admission.RULE
