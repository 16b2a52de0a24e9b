"""What is shown of a child is what is on record, where that is safer than what is heard."""

from __future__ import annotations

from dataclasses import replace

from gatewayd.device.identity import DeviceId
from gatewayd.testing import clock
from tests.support.fakes import FakeCloud, MemoryRegister
from tests.support.stage import Stage


async def rename_on_the_lan(stage: Stage, device: DeviceId, label: str) -> str:
    """Let another instance announce the device's serial number; return the name shown then."""
    stage.lan.known[device] = replace(stage.lan.known[device], label=label)
    stage.flow.gateway.refresh(stage.flow.gateway.children[device])
    return stage.tape.shown[device].name


def test_an_admitted_child_keeps_its_name_whatever_is_announced() -> None:
    register = MemoryRegister()

    async def main() -> None:
        async with Stage(register, FakeCloud()).running() as stage:
            device = stage.announce("TH20-1")
            await stage.tape.wait_for(device, "online")
            assert await rename_on_the_lan(stage, device, "Fire alarm") == "TH20-1"
            await stage.flow.commands.rename(device, "Dock", "uid 0")
            assert await rename_on_the_lan(stage, device, "Fire door") == "Dock"

    clock.run(main())
    assert {record.label for record in register.all()} == {"Dock"}


def test_a_stranger_is_shown_as_it_calls_itself() -> None:
    async def main() -> None:
        async with Stage(MemoryRegister(), FakeCloud()).running() as stage:
            device = stage.announce("stranger")
            await stage.tape.wait_for(device, "pending")
            assert await rename_on_the_lan(stage, device, "Lamp") == "Lamp"

    clock.run(main())
