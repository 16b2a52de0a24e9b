"""The view of a child has the name on record, which other devices cannot change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.device.identity import DeviceId
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage


async def rename_on_the_lan(stage: Stage, device: DeviceId, label: str) -> str:
    """Let another instance announce the device's serial number; return the name shown then."""
    stage.lan.known[device] = replace(stage.lan.known[device], label=label)
    stage.manager.refresh(stage.manager.children[device])
    return stage.tape.shown[device].name


@pytest.mark.jumping_clock
async def test_an_admitted_child_keeps_its_name_whatever_is_announced() -> None:
    records = MemoryRecords()

    async with Stage(records, FakeCloud()).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        assert await rename_on_the_lan(stage, device, "Fire alarm") == "TH20-1"
        await stage.app.commands.rename(device, "Dock", "uid 0")
        assert await rename_on_the_lan(stage, device, "Fire door") == "Dock"
    assert {record.label for record in records.all()} == {"Dock"}


@pytest.mark.jumping_clock
async def test_a_stranger_is_shown_as_it_calls_itself() -> None:
    async with Stage(MemoryRecords(), FakeCloud()).running() as stage:
        device = stage.announce("stranger")
        await stage.tape.wait_for(device, "pending")
        assert await rename_on_the_lan(stage, device, "Lamp") == "Lamp"
