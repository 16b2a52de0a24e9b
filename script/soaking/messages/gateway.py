"""Kills gatewayd itself while children speak, from a real broker to a simulated cloud."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.messages.settings import ChildMessageSettings
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.broker.site_broker import TOPIC
from gatewayd.simulator.huawei.account import NAMES
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from gatewayd.testing.waiting import until
from script.benchmarks.mosquitto import MqttClient
from script.soaking.messages.kill_loop import MessageTally
from script.soaking.messages.marks import out_of_order, repeated_at_once

CHILDREN = 3
WAYS: Mapping[str, Sequence[str]] = {"alibaba": ("",), "huawei": ("certificate", "sub-device")}
"""Routes of children by cloud; "" for that of the rules.  Not Alibaba's of sub-devices: that cloud
accepts five logins of a child in a minute, so that it would be offline for nearly all of it."""
SHORTEST, LONGEST = 0.05, 1.0
"""Seconds that a gatewayd lives from its start, or from when it serves."""
ONLINE = 5
"""Of so many, one is killed only when all children are online."""
PAUSE = 0.05
"""Seconds between two values of a child."""
FOLLOW = 0.3
"""Seconds between two looks at the cloud, which keeps the newest messages of a child."""
PATIENCE = 300.0
"""Seconds that the last one has: a cloud takes ten messages of a child in a second."""
FAULTS = "puback-hang-up:1%"
"""Connections end with messages under way, also while gatewayd lives."""
WINDOW = ChildMessageSettings().window
STEP = 0.001
"""Degrees between two values of a child, which stand for numbers."""
OPTIONS = ("--children", "0", "--late", str(CHILDREN), "--seed", "7", "--rate", "0")
"""Of the plant: without the limit of logins, which so many starts would pass."""
ORDER = '[messages.child]\nafter_outage = "in-order"\n'
_PACKETS = 65_535
_ARRIVED: Mapping[str, tuple[str, Callable[[Any], Sequence[float]]]] = {
    "alibaba": ("reports", lambda one: _present(one["values"], "CurrentTemperature")),
    "huawei": ("arrivals", lambda one: _present(one["body"], "temperature")),
}
"""By which verb each cloud says what has arrived, and the temperatures in that."""


@dataclass(frozen=True, slots=True)
class Mouth:
    """How a child speaks.  connect: to its broker.  topic, name: of its values."""

    connect: Callable[[], Awaitable[MqttClient]]
    topic: str
    name: str


class SpeakingChildren:
    """Children that publish, each one value after the other.

    mouths: how some of them speak; the others do so at the site's broker.
    acknowledged: how many numbers of each child the broker has acknowledged.
    received: those that the cloud has, in the order of their arrival.
    """

    def __init__(
        self, site: Site, children: Sequence[str], mouths: Mapping[str, Mouth] | None = None
    ) -> None:
        self._site, self._children = site, children
        self._mouths = {child: self._usual(child) for child in children} | dict(mouths or {})
        self.acknowledged: dict[str, int] = defaultdict(int)
        self.received: dict[str, list[int]] = defaultdict(list)
        self._seen: dict[str, int] = defaultdict(int)

    async def speak(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._speak(child))

    async def _speak(self, child: str) -> None:
        while True:
            with suppress(OSError, EOFError):  # the broker may be gone for a while
                await self._publish(child, await self._mouths[child].connect())
            await asyncio.sleep(PAUSE)

    def _usual(self, child: str) -> Mouth:
        assert self._site.broker is not None, "the site has one"
        connect = partial(MqttClient.open_local, self._site.broker.socket, child)
        return Mouth(connect, TOPIC.format(child=child), "temperature")

    async def _publish(self, child: str, client: MqttClient) -> None:
        """Publish until the broker is gone.  Raises OSError, EOFError."""
        mouth = self._mouths[child]
        try:
            while True:
                number = self.acknowledged[child]
                payload = json.dumps({mouth.name: round(number * STEP, 3)}).encode()
                packet = number % _PACKETS + 1
                client.writer.write(codec.publish(mouth.topic, payload, 1, packet))
                await client.receive()
                self.acknowledged[child] += 1
                await asyncio.sleep(PAUSE)
        finally:
            client.close()

    async def follow(self) -> None:
        """Look at what the cloud receives, until cancelled."""
        while True:
            for child in self._children:
                await self._look(child)
            await asyncio.sleep(FOLLOW)

    async def _look(self, child: str) -> None:
        """Ask for what is new.  Raises RuntimeError where the cloud has not kept all of that."""
        verb, numbers = _ARRIVED[self._site.cloud]
        more = await self._site.ask(do=verb, child=child, skip=self._seen[child])
        self._seen[child] += len(more)
        self.received[child] += [round(value / STEP) for one in more for value in numbers(one)]


def _present(values: Mapping[str, float], name: str) -> Sequence[float]:
    return [values[name]] if name in values else []


async def kill_gateways(
    directory: Path, kills: int, seed: int, *, cloud: str = "alibaba", route: str = ""
) -> MessageTally:
    """Kill gatewayd so many times; then let it bring all that waits to the cloud."""
    rng, tally = random.Random(seed), MessageTally()
    async with speaking_site(directory, cloud, route) as (site, children):
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
            await site.ask(do="faults", plan="")
            await _kill(site, serve=True)
            await cancel_and_wait([speak])
            for child in children:
                await _judge(speaking, child, tally)
        finally:
            await cancel_and_wait([speak, follow])
    return tally


@asynccontextmanager
async def speaking_site(
    directory: Path, cloud: str, route: str
) -> AsyncIterator[tuple[Site, Sequence[str]]]:
    """A site whose children are online, with gatewayd running."""
    site = Site(directory, cloud=cloud, route=route, plant_options=OPTIONS, speaks=True)
    async with site.open():
        site.configure(f"{config(site)}{ORDER}", rules(site))
        await site.start()
        if route == "certificate":
            for name in NAMES:
                await site.enrol(name)
        children = site.plant["serials"][:CHILDREN]
        for child in children:
            await site.ask(do="announce", child=child)
        for child in children:
            await site.wait_for(child, "online")
        await site.ask(do="faults", plan=FAULTS)
        yield site, children


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
    acknowledged = set(range(speaking.acknowledged[child]))
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
    if (most := repeated_at_once(received)) > WINDOW:
        tally.wrong.append(f"{child}: {most} were repeated at once, and {WINDOW} under way")
