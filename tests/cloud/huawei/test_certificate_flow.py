"""The flow with devices that register themselves: killed anywhere, with lost and renewed keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.admission.controller import RulesInForce
from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.policy.rules import Decision
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.huawei.settings import HuaweiGateway
from gatewayd.device.identity import DeviceId, Evidence
from gatewayd.device.lifecycle import State
from gatewayd.simulator.huawei.platform.device import AuthSlot, HuaweiDeviceStatus
from gatewayd.testing.waiting import PATIENCE, until
from tests.cloud.huawei.certified import Certified, certified, furnish
from tests.cloud.huawei.site import OWN
from tests.support.fakes import MemoryRecords
from tests.support.stage import NameRules, Stage
from tests.test_crash import STEPS, Killed, after_a_power_cut

CHILD, CHILD_ID = "TH20-1", "p_TH20-1"
OWN_ID = f"{OWN.product}_{OWN.device}"


class SubDevices(NameRules):
    """Every child is served behind the gateway."""

    def judge(self, device: DeviceId, evidence: Evidence, census: PolicyContext) -> Decision:
        decision = super().judge(device, evidence, census)
        assert decision.cloud is not None
        return replace(decision, cloud=replace(decision.cloud, route="sub-device"))


@contextlib.asynccontextmanager
async def platform(folder: Path, gateway: HuaweiGateway | None = None) -> AsyncIterator[Certified]:
    async with certified(furnish(folder), gateway=gateway) as one:
        one.instance.products.create(name="p", device_type="p", product_id="p")
        yield one


@contextlib.asynccontextmanager
async def life(
    one: Certified, register: MemoryRecords, step: str = "", rules: RulesInForce | None = None
) -> AsyncIterator[tuple[Stage, DeviceId, asyncio.Event]]:
    """One run of gatewayd, which dies right after a step; a child is there, and admitted."""
    died = asyncio.Event()

    def checkpoint(reached: str) -> None:
        if reached == step:
            died.set()
            raise Killed

    stage = Stage(register, one.provider, checkpoint, rules, quiet_time=0)  # type: ignore[arg-type]  # as any provider
    async with stage.running(), asyncio.timeout(PATIENCE):
        await stage.app.admit_gateway()
        device = stage.announce(CHILD)
        await until(lambda: device in stage.manager.children)
        if stage.manager.children[device].state is State.DISCOVERED:
            with contextlib.suppress(Killed):  # the intent is recorded with the admission
                await stage.app.commands.approve(device, "", "uid 0")
        yield stage, device, died


def fingerprint_of(register: MemoryRecords, device: DeviceId) -> str:
    """That of the certificate in use."""
    record = register[device]
    return read_identity(register.slots[record.slot(record.stored)]).fingerprint


def fingerprint(register: MemoryRecords) -> str:
    """The same for the only device."""
    (device,) = register.rows
    return fingerprint_of(register, device)


@pytest.mark.parametrize("step", STEPS)
async def test_a_device_survives_a_crash_at_any_step(tmp_path: Path, step: str) -> None:
    register = MemoryRecords()
    async with platform(tmp_path) as one:
        async with life(one, register, step) as (_, _, died):
            await died.wait()
        register = after_a_power_cut(register)
        async with life(one, register) as (stage, device, _):
            await stage.tape.wait_for(device, "online")
            (known,) = one.instance.devices.list()
            assert (known.device_id, known.status) == (CHILD_ID, HuaweiDeviceStatus.ONLINE)
            assert known.auth.fingerprint == fingerprint(register)


async def test_a_lost_key_needs_the_fingerprint_emptied(tmp_path: Path) -> None:
    register = MemoryRecords()
    async with platform(tmp_path) as one, life(one, register) as (stage, device, _):
        await stage.tape.wait_for(device, "online")
        before = fingerprint(register)
        register.slots.clear()
        one.cloud.disconnect("instance-1", CHILD_ID)
        await stage.tape.wait_for(device, "offline")
        stage.manager.restart_work(stage.manager.children[device])
        view = await stage.tape.wait_for(device, "failed", "secret-lost")
        assert "empty its fingerprint" in view.remedy
        one.instance.devices.reset_fingerprint(CHILD_ID, None)
        await stage.app.commands.reregister(device, device, "uid 0")
        await stage.tape.wait_for(device, "online")
        assert one.instance.devices.get(CHILD_ID).auth.fingerprint == fingerprint(register)
        assert fingerprint(register) != before


async def test_a_new_certificate_waits_until_the_platform_knows_it(tmp_path: Path) -> None:
    register = MemoryRecords()
    async with platform(tmp_path) as one, life(one, register) as (stage, device, _):
        await stage.tape.wait_for(device, "online")
        before, devices = fingerprint(register), one.instance.devices
        assert stage.app.keeper.renew(device)
        view = await stage.tape.wait_for(device, "online", "renewal-refused")
        newer = read_identity(register.slots[register[device].slot(2)]).fingerprint
        assert f"{newer} as SECONDARY" in view.remedy
        assert devices.get(CHILD_ID).status is HuaweiDeviceStatus.ONLINE, (
            "the old session is still open"
        )
        assert fingerprint(register) == before
        devices.reset_fingerprint(CHILD_ID, newer, slot=AuthSlot.SECONDARY)
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "online", "secret-renewed")
        assert fingerprint(register) == newer
        assert devices.get(CHILD_ID).status is HuaweiDeviceStatus.ONLINE
        await until(lambda: len(register.slots) == 1)
        devices.reset_fingerprint(CHILD_ID, newer)
        devices.reset_fingerprint(CHILD_ID, None, slot=AuthSlot.SECONDARY)
        one.cloud.disconnect("instance-1", CHILD_ID)
        await stage.tape.wait_for(device, "offline")
        stage.manager.restart_work(stage.manager.children[device])
        await stage.tape.wait_for(device, "online")


async def test_a_gateway_with_a_new_certificate_keeps_its_children(tmp_path: Path) -> None:
    register, own = MemoryRecords(), DeviceId("gateway-cloud")
    gateway = HuaweiGateway(OWN.product, OWN.device)
    async with (
        platform(tmp_path, gateway) as one,
        life(one, register, rules=SubDevices()) as (stage, device, _),
    ):
        await stage.tape.wait_for(own, "online")
        await stage.tape.wait_for(device, "online")
        devices = one.instance.devices
        assert stage.app.keeper.renew(own)
        await stage.tape.wait_for(own, "online", "renewal-refused")
        newer = read_identity(register.slots[register[own].slot(2)]).fingerprint
        devices.reset_fingerprint(OWN_ID, newer, slot=AuthSlot.SECONDARY)
        assert stage.app.keeper.renew(own)
        await stage.tape.wait_for(own, "online", "secret-renewed")
        await until(lambda: one.reports(CHILD_ID) == {"ONLINE": 2})
        assert stage.manager.children[device].state is State.ONLINE
        assert stage.tape.states[device].count("online") == 1, "it never went offline"
        assert devices.get(CHILD_ID).status is HuaweiDeviceStatus.ONLINE, (
            "the platform learnt nothing else"
        )
        assert fingerprint_of(register, own) == newer
