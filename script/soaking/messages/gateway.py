"""Kills gatewayd itself while children speak, from a real broker to a simulated cloud."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from gatewayd.simulator.story import measurements
from gatewayd.testing.waiting import until
from script.soaking.messages.kill_loop import MessageTally
from script.soaking.messages.marks import out_of_order

CHILDREN = 3
SHORTEST, LONGEST = 0.05, 1.5
"""Seconds that a gatewayd lives from its start, or from when it serves."""
ONLINE = 5
"""Of so many, one is killed only when all children are online."""
FOLLOW = 0.3
"""Seconds between two looks at the cloud, which keeps the newest 200 messages of a child."""
PATIENCE = 300.0
"""Seconds that the last one has: a cloud takes ten messages of a child in a second."""
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

    async def _speak(self, child: str) -> None:
        while True:
            number = len(self.acknowledged[child])
            await self._site.say(child, temperature=round(number * STEP, 3))
            self.acknowledged[child].append(number)
            await asyncio.sleep(0.05)

    async def follow(self) -> None:
        """Look at what the cloud receives, until cancelled."""
        while True:
            for child in self._children:
                await self._look(child)
            await asyncio.sleep(FOLLOW)

    async def _look(self, child: str) -> None:
        newest = [round(one.value / STEP) for one in await measurements(self._site, child)]
        self.received[child] += newest[overlap(self.received[child], newest) :]


def overlap(before: Sequence[int], after: Sequence[int]) -> int:
    """Return how many of the first of a list are the last of the one before."""
    most = min(len(before), len(after))
    return next(
        n for n in range(most, -1, -1) if list(before[len(before) - n :]) == list(after[:n])
    )


async def kill_gateways(directory: Path, kills: int, seed: int) -> MessageTally:
    """Kill gatewayd so many times; then let it bring all that waits to the cloud."""
    # without the limit of logins, which so many starts would pass
    options = ("--children", str(CHILDREN), "--seed", "7", "--rate", "0")
    site = Site(directory, plant_options=options, speaks=True)
    rng, tally = random.Random(seed), MessageTally()
    async with site.open():
        site.configure(f"{config(site)}{_ORDER}", rules(site))
        await site.start()
        children = list(site.plant["serials"])[:CHILDREN]
        for child in children:
            await site.wait_for(child, "online")
        speaking = SpeakingChildren(site, children)
        follow = asyncio.create_task(speaking.follow())
        speak = asyncio.create_task(speaking.speak())
        try:
            for number in range(kills):
                tally.kills += 1
                served = number % ONLINE == 0 or rng.random() < 0.5
                await _kill(site, serve=served)
                if number % ONLINE == 0:
                    for child in children:
                        await site.wait_for(child, "online")
                await asyncio.sleep(rng.uniform(SHORTEST, LONGEST))
            await _kill(site, serve=True)
            await cancel_and_wait([speak])
            for child in children:
                await _judge(speaking, child, tally)
        finally:
            await cancel_and_wait([speak, follow])
    return tally


async def _kill(site: Site, *, serve: bool) -> None:
    """Kill the gatewayd that runs, and start another one.  serve: whether to wait until it does."""
    if site.daemon is not None:
        site.daemon.send_signal(signal.SIGKILL)
        await site.daemon.wait()
    if serve:
        await site.start()
    else:
        await site.launch()


async def _judge(speaking: SpeakingChildren, child: str, tally: MessageTally) -> None:
    """Wait until the cloud has all of a child; count what is wrong with it."""
    acknowledged = set(speaking.acknowledged[child])

    try:
        await until(lambda: acknowledged <= set(speaking.received[child]), PATIENCE)
    except TimeoutError:
        missing = sorted(acknowledged - set(speaking.received[child]))
        tally.wrong += [f"{child}: {number} never came" for number in missing]
    received = speaking.received[child]
    tally.acknowledged += len(acknowledged)
    tally.received += len(received)
    tally.repeats += len(received) - len(set(received))
    tally.wrong += [f"{child}: {number} is late" for number in out_of_order(received)]
