"""Kills gatewayd itself while children speak, from a real broker to a simulated cloud."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from gatewayd.simulator.story import measurements
from script.soaking.messages.kill_loop import MessageTally
from script.soaking.messages.marks import out_of_order

CHILDREN = 3
SHORTEST, LONGEST = 0.05, 1.5
"""Seconds that a gatewayd lives from its start, or from when it serves."""
FOLLOW = 1.0
"""Seconds between two looks at the cloud."""
STEP = 0.001
"""Degrees between two values of a child, which stand for numbers."""
_ORDER = '[messages.child]\nafter_outage = "in-order"\n'


class SpeakingChildren:
    """Children that publish at the site's broker, each one value after the other.

    acknowledged: the numbers that the broker has acknowledged, by child.
    received: those that the cloud has, in the order of their arrival; a cloud keeps the newest.
    """

    def __init__(self, site: Site, children: list[str]) -> None:
        self._site, self._children = site, children
        self.acknowledged: dict[str, list[int]] = defaultdict(list)
        self.received: dict[str, list[int]] = defaultdict(list)

    async def speak(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._speak(child))
            group.create_task(self._follow())

    async def _speak(self, child: str) -> None:
        while True:
            number = len(self.acknowledged[child])
            await self._site.say(child, temperature=round(number * STEP, 3))
            self.acknowledged[child].append(number)
            await asyncio.sleep(0.05)

    async def _follow(self) -> None:
        while True:
            for child in self._children:
                await self.look(child)
            await asyncio.sleep(FOLLOW)

    async def look(self, child: str) -> None:
        """Look at what the cloud has received of a child since the last look."""
        newest = [round(one.value / STEP) for one in await measurements(self._site, child)]
        self.received[child] += newest[overlap(self.received[child], newest) :]


def overlap(before: Sequence[int], after: Sequence[int]) -> int:
    """Return how many of the first of a list are the last of the one before."""
    most = min(len(before), len(after))
    return next(
        n for n in range(most, -1, -1) if list(before[len(before) - n :]) == list(after[:n])
    )


async def kill_gateways(cloud: str, directory: Path, kills: int, seed: int) -> MessageTally:
    """Kill gatewayd so many times; then let it bring all that waits to the cloud."""
    options = ("--children", str(CHILDREN), "--late", "0", "--seed", "7")
    site = Site(directory, plant_options=options, cloud=cloud, speaks=True)
    rng, tally = random.Random(seed), MessageTally()
    async with site.open():
        site.configure(f"{config(site)}{_ORDER}", rules(site))
        await site.start()
        children = list(site.plant["serials"])[:CHILDREN]
        for child in children:
            await site.wait_for(child, "online")
        speaking = SpeakingChildren(site, children)
        task = asyncio.create_task(speaking.speak())
        try:
            for _ in range(kills):
                await _kill(site, rng)
                tally.kills += 1
            await site.start()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for child in children:
            await _judge(site, speaking, child, tally)
    return tally


async def _kill(site: Site, rng: random.Random) -> None:
    """Kill the gatewayd that runs, if one does; start another one, and let it live for a while."""
    if site.daemon is not None:
        site.daemon.send_signal(signal.SIGKILL)
        await site.daemon.wait()
    if rng.random() < 0.5:
        await site.start()
    else:
        await site.launch()
    await asyncio.sleep(rng.uniform(SHORTEST, LONGEST))


async def _judge(site: Site, speaking: SpeakingChildren, child: str, tally: MessageTally) -> None:
    """Wait until the cloud has all of a child; count what is wrong with it."""
    acknowledged = set(speaking.acknowledged[child])

    async def arrived() -> bool:
        await speaking.look(child)
        return acknowledged <= set(speaking.received[child])

    try:
        await site.until(arrived, f"all that {child} has said to be at the cloud")
    except TimeoutError:
        missing = sorted(acknowledged - set(speaking.received[child]))
        tally.wrong += [f"{child}: {number} never came" for number in missing]
    received = speaking.received[child]
    tally.acknowledged += len(acknowledged)
    tally.received += len(received)
    tally.repeats += len(received) - len(set(received))
    tally.wrong += [f"{child}: {number} is late" for number in out_of_order(received)]
