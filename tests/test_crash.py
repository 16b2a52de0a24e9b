"""Killed at each durable step, on fakes: the child comes online, and no secret is wasted."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.testing import clock
from tests.fakes import FakeCloud, MemoryRegister
from tests.stage import Stage

STEPS = {
    "intent-on-record": 1,
    "secret-issued": 2,  # the only window: issued by the cloud, not yet on the disk
    "secret-in-slot": 1,
    "pointer-on-record": 1,
    "activation-on-record": 1,
    "logged-in": 1,
    "activation-confirmed": 1,
}
"""How many secrets the cloud issues in all, when gatewayd dies right after a step."""


class Killed(asyncio.CancelledError):
    """Ends a worker as SIGKILL would: nothing of ours gets to run."""


async def live(
    register: MemoryRegister, cloud: FakeCloud, name: str, step: str = ""
) -> tuple[str, DeviceId]:
    """Run until the child is online, or until the step at which to die has been taken."""
    died = asyncio.Event()

    def checkpoint(reached: str) -> None:
        if reached == step:
            died.set()
            raise Killed

    async with Stage(register, cloud, checkpoint).running() as stage:
        device = stage.announce(name)
        online = asyncio.create_task(stage.tape.wait_for(device, "online"))
        death = asyncio.create_task(died.wait())
        done, rest = await asyncio.wait({online, death}, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return ("died" if death in done else "online"), device


@pytest.mark.parametrize(("step", "issued"), STEPS.items())
def test_a_child_survives_a_crash_at_any_step(step: str, issued: int) -> None:
    async def main() -> None:
        register, cloud = MemoryRegister(), FakeCloud()
        ended, _ = await live(register, cloud, "TH20-1", step)
        assert ended == "died"
        ended, device = await live(register, cloud, "TH20-1")
        assert ended == "online"
        (name,) = cloud.issued
        assert len(cloud.issued[name]) == issued
        record = register[device]
        assert register.slots[record.slot(record.stored)] == cloud.activated[name]

    clock.run(main())


@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("second", STEPS)
def test_two_crashes_do_no_more_harm_than_one_each(first: str, second: str) -> None:
    async def main() -> None:
        register, cloud = MemoryRegister(), FakeCloud()
        await live(register, cloud, "TH20-1", first)
        await live(register, cloud, "TH20-1", second)
        ended, _ = await live(register, cloud, "TH20-1")
        assert ended == "online"
        (name,) = cloud.issued
        assert len(cloud.issued[name]) <= 3
        assert cloud.activated[name] in register.slots.values()

    clock.run(main())
