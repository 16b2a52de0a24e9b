"""Sessions: opened, kept, reopened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gatewayd.cloud.provider import SessionEnd
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from tests.support.fakes import FakeCloud, FakeSession, MemoryRecords
from tests.support.stage import Stage

NAME = CloudName("cloud", "p", "TH20-1")


pytestmark = pytest.mark.jumping_clock


async def test_a_dropped_session_is_reopened(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    await asyncio.sleep(3600)
    stage.cloud.drop("TH20-1", by_cloud=False)
    view = await stage.tape.wait_for(device, "offline", "connection-lost")
    assert view.substate == "reconnecting"
    await stage.tape.wait_for(device, "online")
    assert stage.cloud.calls.count("register TH20-1") == 1


async def test_a_contested_session_is_reopened_ever_more_slowly(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    began = asyncio.get_running_loop().time()
    for _ in range(10):
        await stage.tape.wait_for(device, "online")
        stage.cloud.drop("TH20-1")
        await stage.tape.wait_for(device, "offline")
    assert stage.tape.shown[device].reason == "session-contested"
    assert asyncio.get_running_loop().time() - began > 1800


async def test_two_gateways_of_one_identity_do_not_evict_each_other_for_long(stage: Stage) -> None:
    """The rival comes back as soon as we do, by its own first wait."""
    device = stage.announce("TH20-1")
    began, opened = asyncio.get_running_loop().time(), 0
    while asyncio.get_running_loop().time() < began + 7200:
        await stage.tape.wait_for(device, "online")
        opened += 1
        await asyncio.sleep(25)
        stage.cloud.drop("TH20-1")
        await stage.tape.wait_for(device, "offline")
    assert opened < 25
    assert stage.tape.shown[device].reason == "session-contested"


class OneSessionCloud(FakeCloud):
    """A cloud that closes the older of two sessions of one device, as both vendors do."""

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        older = self.online.get(name)
        session = await super().connect(name, secret)
        if older is not None and not older.ended.done():
            older.ended.set_result(SessionEnd(Reason("cloud-closed"), by_cloud=True))
        return session


async def test_two_gateways_that_hold_one_device_both_say_so() -> None:
    """Each comes back ever more slowly, and goes on saying so while the other does."""
    cloud, records = OneSessionCloud(), MemoryRecords()
    async with Stage(records, cloud).running() as first:
        device = first.announce("TH20-1")
        await first.tape.wait_for(device, "online")
        copy = MemoryRecords()  # as of a disk that was cloned
        copy.rows, copy.slots = dict(records.rows), dict(records.slots)
        async with Stage(copy, cloud).running() as second:
            second.announce("TH20-1")
            for side in (first, second):
                async with asyncio.timeout(1800):
                    await side.tape.wait_for(device, "offline", "session-contested")
            await asyncio.sleep(3600)
            before, said = len(cloud.calls), set[str]()
            for _ in range(3600):
                await asyncio.sleep(10)
                said |= {side.tape.shown[device].reason for side in (first, second)}
            assert said == {"", "session-contested"}
            assert len(cloud.calls) - before < 2 * 36000 / 400
        await first.tape.wait_for(device, "online")  # the other is gone


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


async def test_credentials_refused_after_activation_are_tried_slowly_and_kept(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.cloud.activated[NAME] = Secret(b"reset at the cloud")
    stage.cloud.drop("TH20-1")
    await stage.tape.wait_for(device, "offline", "cloud-auth-failed")
    before = len(stage.cloud.calls)
    await asyncio.sleep(6050)
    assert len(stage.cloud.calls) - before == 10
    assert stage.cloud.calls.count("register TH20-1") == 1
    assert stage.records[device].stored == 1


async def test_reregister_after_a_reset_gives_a_new_secret(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.cloud.activated[NAME] = Secret(b"reset at the cloud")
    stage.cloud.drop("TH20-1")
    await stage.tape.wait_for(device, "offline", "cloud-auth-failed")
    del stage.cloud.activated[NAME]
    await stage.app.commands.reregister(device, device, "uid 0")
    await stage.tape.wait_for(device, "registering")
    await stage.tape.wait_for(device, "online")
    assert len(stage.cloud.issued[NAME]) == 2


async def test_a_secret_lost_after_activation_needs_a_reset(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.records.slots.clear()
    stage.cloud.drop("TH20-1")
    view = await stage.tape.wait_for(device, "failed", "secret-lost")
    assert (view.substate, view.secret_state) == ("needs-reset", "lost")
    assert f"gatewayctl reregister {view.id} {view.id}" in view.remedy


async def test_a_secret_lost_before_activation_is_registered_again() -> None:
    register, cloud = MemoryRecords(), FakeCloud()
    async with Stage(register, cloud).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
    register.rows[device] = replace(register.rows[device], activated_at=0)
    cloud.activated.clear()
    register.slots.clear()
    async with Stage(register, cloud).running() as stage:
        await stage.tape.wait_for(device, "offline")  # registered, and not seen yet
        stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        assert len(cloud.issued[NAME]) == 2


async def test_a_child_that_leaves_is_logged_out(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.manager.lost(device, Reason("goodbye"))
    view = await stage.tape.wait_for(device, "offline", "goodbye")
    assert view.substate == "absent"
    await asyncio.sleep(1)
    assert not stage.cloud.online


async def test_a_child_that_is_back_while_it_is_logged_out_has_one_session(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.manager.lost(device, Reason("goodbye"))
    await stage.tape.wait_for(device, "offline", "goodbye")
    stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    assert not stage.cloud.contested
