"""A campaign of kills in rounds, some sites at once, each round with children of its own."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from gatewayd.simulator.site import Site
from script.soaking.kill_loop import AT_ONCE, KillLoop, KillTally

ROUND = 50
"""Kills in one state directory: then it is settled, and the next begins with an empty one."""
FAULTS = "late:0.2:50% hang-up-after-connack:5% login.slow:0.2:50%"
"""The cloud takes its time, so that a kill finds children half-way; and it loses some secrets."""


class Campaign:
    """Kills so many gatewayds, and counts.

    kills: in all.  at_once: sites that run side by side.  seed: of the moments.
    tally: what was counted so far.
    """

    def __init__(self, directory: Path, kills: int, at_once: int, seed: int) -> None:
        self._directory, self._seed = directory, seed
        self._shares = [kills // at_once + (n < kills % at_once) for n in range(at_once)]
        self.tally = KillTally()

    async def run(self) -> KillTally:
        """Return when all are killed and settled.  Raises RuntimeError, TimeoutError."""
        async with asyncio.TaskGroup() as group:
            for number, kills in enumerate(self._shares):
                group.create_task(self._at_one_site(number, kills))
        return self.tally

    async def _at_one_site(self, number: int, kills: int) -> None:
        directory = self._directory / f"site-{number}"
        directory.mkdir()
        rng = random.Random(f"{self._seed}/{number}")
        options = (
            "--children", "0", "--late", str(kills * AT_ONCE), "--seed", str(number + 1),
            "--rate", "0", "--faults", FAULTS,
        )  # fmt: skip
        site = Site(directory, plant_options=options)
        async with site.open():
            for first in range(0, kills, ROUND):
                few = min(ROUND, kills - first)
                serials = site.plant["serials"][first * AT_ONCE : (first + few) * AT_ONCE]
                loop = KillLoop(site, directory / f"state-{first}", serials, rng)
                await loop.measure()
                for _ in range(few):
                    await loop.kill()
                await loop.settle()
                self.tally.add(loop.tally)
