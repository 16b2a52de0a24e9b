"""A secret is replaced before it ends, and the old one stays until the new one is proven."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatewayd.cloud.provider import KeepSecret, LoginFailed, Outcome
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import StoreFull
from tests.support.fakes import FakeSession, MemoryRecords
from tests.support.renewing_cloud import BEFORE, LIFE, RenewingCloud
from tests.support.stage import Stage

NAME = CloudName("cloud", "p", "TH20-1")
RETRY = 21_600.0
"""The default of sessions.retry_renewal."""


pytestmark = pytest.mark.jumping_clock


@asynccontextmanager
async def renewing(
    cloud: RenewingCloud | None = None,
) -> AsyncIterator[tuple[Stage, RenewingCloud, DeviceId]]:
    """Run the application with one child, which is online."""
    made = cloud or RenewingCloud()
    async with Stage(MemoryRecords(), made).running() as stage:
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
        yield stage, made, device


async def test_a_secret_is_replaced_when_it_is_due() -> None:
    async with renewing() as (stage, cloud, device):
        await stage.tape.wait_for(device, "online", "secret-renewed")
        at = asyncio.get_running_loop().time()
        assert LIFE - BEFORE <= at <= LIFE - BEFORE + 60
        record = stage.records[device]
        assert (record.stored, record.activating, record.candidate) == (2, 2, 0)
        assert cloud.holders[NAME] == cloud.issued[NAME][1]
        assert not cloud.contested
        await asyncio.sleep(60)
        assert list(stage.records.slots) == [record.slot(2)]
        assert stage.tape.states[device].count("online") == 1, "it never went offline"
        await asyncio.sleep(LIFE - BEFORE)
        assert stage.records[device].stored == 3


async def test_a_new_secret_that_is_not_accepted_yet_waits_and_stays_the_same() -> None:
    async with renewing(RenewingCloud(life=4 * LIFE)) as (stage, cloud, device):
        cloud.trusting = False
        view = await stage.tape.wait_for(device, "online", "renewal-refused")
        assert view.next_attempt
        await asyncio.sleep(RETRY + 60)
        assert len(cloud.issued[NAME]) == 2
        assert stage.records[device].candidate == 2
        assert cloud.holders[NAME] == cloud.issued[NAME][0]
        cloud.trusting = True
        await stage.tape.wait_for(device, "online", "secret-renewed")
        assert cloud.holders[NAME] == cloud.issued[NAME][1]


async def test_a_session_that_is_reopened_meanwhile_says_that_a_secret_waits() -> None:
    async with renewing() as (stage, cloud, device):
        cloud.trusting = False
        await stage.tape.wait_for(device, "online", "renewal-refused")
        before = cloud.calls.count("connect TH20-1")
        cloud.drop(NAME.device)
        await stage.tape.wait_for(device, "online", "renewal-waiting")
        await asyncio.sleep(60)
        assert cloud.calls.count("connect TH20-1") == before + 1, "it is not tried at once"


async def test_after_a_restart_it_is_shown_how_the_new_one_is_made_known() -> None:
    class HintingCloud(RenewingCloud):
        def enrolment_hint(self, name: CloudName, secret: Secret) -> str:
            return f"Register {secret.reveal().decode()}."

    register, cloud = MemoryRecords(), HintingCloud(life=4 * LIFE)
    async with Stage(register, cloud).running() as stage:
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
        cloud.trusting = False
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "online", "renewal-refused")
    async with Stage(register, cloud).running() as stage:
        stage.announce(NAME.device)
        view = await stage.tape.wait_for(device, "online", "renewal-waiting")
        assert view.remedy.startswith(f"Register {cloud.issued[NAME][1].reveal().decode()}.")
        stage.records.slots.pop(register[device].slot(2))
        cloud.drop(NAME.device)
        await stage.tape.wait_for(device, "offline")
        view = await stage.tape.wait_for(device, "online")
        assert not view.reason, "nothing waits"


async def test_a_session_is_watched_while_others_are_renewed() -> None:
    """Children that came together are due together; a slow cloud holds up one after the other."""

    class Slow(RenewingCloud):
        async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
            if self.issued.get(name):
                await asyncio.sleep(3600)
            return await super().register(name, keep)

    cloud = Slow()
    async with renewing(cloud) as (stage, _, first):
        second, third = stage.announce("TH20-2"), stage.announce("TH20-3")
        for device in (first, second, third):
            await stage.tape.wait_for(device, "online")
        for device in (first, second, third):
            assert stage.app.keeper.renew(device)
        await asyncio.sleep(60)
        cloud.drop("TH20-3")
        await asyncio.sleep(600)
        assert cloud.calls.count("connect TH20-3") == 2
        assert not cloud.issued[NAME][1:], "the first is still being renewed"
        for device in (first, second, third):
            await stage.tape.wait_for(device, "online", "secret-renewed")


async def test_an_operator_has_one_replaced_and_tried_at_once() -> None:
    async with renewing() as (stage, cloud, device):
        cloud.trusting = False
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "online", "renewal-refused")
        cloud.trusting = True
        assert stage.app.keeper.renew(device)
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "online", "secret-renewed")
        assert len(cloud.issued[NAME]) == 2
        stage.lose(NAME.device)
        await stage.tape.wait_for(device, "offline")
        await asyncio.sleep(1)
        assert not stage.app.keeper.renew(device)


async def test_when_the_old_one_is_refused_the_new_one_is_tried() -> None:
    async with renewing() as (stage, cloud, device):
        cloud.trusting = False
        await stage.tape.wait_for(device, "online", "renewal-refused")
        cloud.known[NAME] = [cloud.issued[NAME][1]]
        cloud.drop(NAME.device)
        await stage.tape.wait_for(device, "offline")
        await stage.tape.wait_for(device, "online")
        assert stage.records[device].stored == 2


async def test_one_that_has_ended_while_the_child_was_away_is_replaced() -> None:
    async with renewing() as (stage, cloud, device):
        stage.lose(NAME.device)
        await stage.tape.wait_for(device, "offline")
        await asyncio.sleep(3 * LIFE)
        stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
        assert stage.records[device].stored == 2
        assert cloud.holders[NAME] == cloud.issued[NAME][1]


async def test_when_both_are_refused_it_says_why_the_new_one_is() -> None:
    async with renewing() as (stage, cloud, device):
        stage.lose(NAME.device)
        await stage.tape.wait_for(device, "offline")
        await asyncio.sleep(3 * LIFE)
        cloud.trusting = False
        stage.announce(NAME.device)
        await stage.tape.wait_for(device, "activating", "renewal-refused")
        assert stage.records[device].stored == 1


async def test_a_lost_secret_is_replaced_by_the_one_that_waits() -> None:
    async with renewing() as (stage, cloud, device):
        cloud.trusting = False
        await stage.tape.wait_for(device, "online", "renewal-refused")
        del stage.records.slots[stage.records[device].slot(1)]
        cloud.trusting = True
        cloud.drop(NAME.device)
        await stage.tape.wait_for(device, "offline")
        await stage.tape.wait_for(device, "online")
        assert stage.records[device].stored == 2


async def test_a_lost_secret_without_another_needs_a_reset() -> None:
    async with renewing() as (stage, cloud, device):
        stage.records.slots.clear()
        cloud.drop(NAME.device)
        view = await stage.tape.wait_for(device, "failed", "secret-lost")
        assert "empty its fingerprint" in view.remedy
        cloud.reset(NAME)
        await stage.app.commands.reregister(device, device, "uid 0")
        await stage.tape.wait_for(device, "online")


async def test_one_that_would_be_due_at_once_is_not_kept() -> None:
    async with renewing() as (stage, cloud, device):
        cloud.life = BEFORE / 2  # the authority is about to end
        await stage.tape.wait_for(device, "online", "renewal-useless")
        await asyncio.sleep(60)
        assert list(stage.records.slots) == [stage.records[device].slot(1)]
        cloud.life = LIFE
        await stage.tape.wait_for(device, "online", "secret-renewed")


@pytest.mark.parametrize("word", ["refuse", "fail", "lose"])
async def test_what_the_cloud_does_not_issue_is_asked_for_again(word: str) -> None:
    async with renewing() as (stage, cloud, device):
        cloud.script[NAME.device] = [word]
        await asyncio.sleep(LIFE - BEFORE + 60)
        assert stage.tape.shown[device].reason.startswith(("cloud-", "answer-"))
        await stage.tape.wait_for(device, "online", "secret-renewed")


async def test_an_obstacle_costs_no_attempt() -> None:
    class Obstructed(RenewingCloud):
        obstructed: Reason | None = None

        async def check_ready(self, name: CloudName) -> Reason | None:
            return self.obstructed

    cloud = Obstructed()
    async with renewing(cloud) as (stage, _, device):
        cloud.obstructed = Reason("authority-missing")
        await stage.tape.wait_for(device, "online", "authority-missing")
        assert stage.records[device].attempt == 1
        cloud.obstructed = None
        await stage.tape.wait_for(device, "online", "secret-renewed")


async def test_a_full_disk_delays_it() -> None:
    async with renewing() as (stage, _, device):
        stage.records.failing = StoreFull("full")
        await stage.tape.wait_for(device, "online", "store-full")
        stage.records.failing = None
        await stage.tape.wait_for(device, "online", "secret-renewed")


async def test_a_cloud_that_is_away_is_tried_again_soon() -> None:
    class Away(RenewingCloud):
        away = False

        async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
            if self.away:
                raise LoginFailed(Reason("cloud-unreachable"))
            return await super().connect(name, secret)

    cloud = Away()
    async with renewing(cloud) as (stage, _, device):
        cloud.away = True
        await stage.tape.wait_for(device, "online", "cloud-unreachable")
        cloud.away = False
        await asyncio.sleep(700)
        assert stage.tape.shown[device].reason == "secret-renewed"
