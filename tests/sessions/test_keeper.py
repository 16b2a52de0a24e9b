"""Sessions: opened, kept, reopened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from tests.support.fakes import FakeCloud, MemoryRecords
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
