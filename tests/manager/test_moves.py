"""Before a child moves, the other cloud is tried; many children do not try it one after another."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.errors import NotAdmitted
from gatewayd.manager.moves import BAD_FOR, GOOD_FOR
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

pytestmark = pytest.mark.jumping_clock
TAKES = 20.0


class Preflight:
    """A preflight that takes its time.  why: what it finds; "" for nothing.  count: of its runs."""

    def __init__(self) -> None:
        self.why, self.count = "It does not answer. Check the network.", 0

    async def __call__(self, cloud: str) -> str:
        self.count += 1
        await asyncio.sleep(TAKES)
        return self.why


async def test_a_dead_cloud_is_not_tried_for_each_child_of_many() -> None:
    stage, tried = (
        Stage(MemoryRecords(), FakeCloud(), others=(FakeCloud(name="there"),)),
        Preflight(),
    )
    stage.app.commands._moves._preflight = tried
    async with stage.running():
        devices = [stage.announce(f"TH20-{n}") for n in range(50)]
        for device in devices:
            await stage.tape.wait_for(device, "online")
        began = asyncio.get_running_loop().time()
        for device in devices:
            with pytest.raises(NotAdmitted, match="there cannot be used now: It does not answer"):
                await stage.app.commands.move(device, "there", {"product": "q"}, "uid 0")
        assert asyncio.get_running_loop().time() - began < TAKES + 1
        assert tried.count == 1
        assert not any(record.moves.under_way for record in stage.records.all())
        tried.why = ""
        await asyncio.sleep(BAD_FOR)
        for device in devices:
            await stage.app.commands.move(device, "there", {"product": "q"}, "uid 0")
        assert tried.count == 2
        await asyncio.sleep(GOOD_FOR)
        assert all(record.moves.under_way for record in stage.records.all())
