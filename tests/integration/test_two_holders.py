"""Two real daemons that see the same children and know nothing of each other: one keeps each.

As where a second gateway is put on a LAN, or a disk was cloned.  The cloud closes the older of two
sessions of a device.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import SWIFT
from tests.support.several_gateways import kill_process, several_gateways

pytestmark = pytest.mark.integration

QUICK = SWIFT.replace("[sessions]\nretry_first = 1\n", "[sessions]\nretry_first = 0.2\n")
"""Waits by which a contest ends within some seconds; as they are by default it takes minutes."""
PLANT = ("--children", "1", "--rate", "0")
"""An only child, of a cloud that does not limit how often a device connects, as gatewayd does."""


async def shown(one: Site, child: str) -> tuple[str, str]:
    """Return the state of a child, and the reason of it."""
    facts = await one.describe(child)
    return str(facts["State"]), str(facts["Reason"])


async def test_each_child_is_kept_by_one_and_the_other_says_so(tmp_path: Path) -> None:
    assert "retry_first = 0.2" in QUICK
    async with several_gateways(tmp_path, ["a", "b"], tuning=QUICK, plant_options=PLANT) as (
        first,
        second,
    ):
        children = first.plant["serials"]
        await first.start()
        for child in children:
            await first.wait_for(child, "online")
        assert await first.stop() == 0
        shutil.copytree(first.directory / "state", second.directory / "state")
        await asyncio.gather(first.start(), second.start())

        async def settled() -> bool:
            for child in children:
                both = [await shown(one, child) for one in (first, second)]
                lost = [one for one in both if one == ("offline", "session-yielded")]
                kept = [one for one in both if one[0] == "online"]
                if len(lost) != 1 or len(kept) != 1:
                    return False
            return True

        await first.until(settled, "one of the two to give way for each child")
        before = [await first.ledger(child) for child in children]
        await asyncio.sleep(2)  # what would go on is seen in the cloud's counts
        after = [await first.ledger(child) for child in children]
        assert [one["logins"] for one in after] == [one["logins"] for one in before]
        assert all(one["registrations"] == 1 for one in after)
        assert "something else logs in with its name" in first.log() + second.log()

        await kill_process(first)
        for child in children:  # as an operator does, who need not wait for 15 minutes
            device = (await second.devices())[child][0]
            if (await shown(second, child))[0] != "online":
                await second.call("Retry", "s", device)
        for child in children:
            await second.wait_for(child, "online")
