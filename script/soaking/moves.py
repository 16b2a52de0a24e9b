"""script/soak moves: kills gatewayd while children move between two clouds, and speak.

The first cloud is simulated, the second is a real broker.  All children move there and back, a few
at a time, and gatewayd is killed at a random moment after each few have been asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.broker.site_broker import TOPIC
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from script.benchmarks.mosquitto import MqttClient
from script.benchmarks.onboarding import DEVICE, FOUND

FIRST, SECOND = "alibaba", "plant"
"""The names of the clouds in the configuration."""
MOST_AWAY = 10.0
"""Seconds that a child may be without a session, from when gatewayd serves again."""
AMID = 0.5
"""Of the kills: those that come at once.  The others come when all children are online."""
SOON, LATER = 0.4, 1.0
"""Seconds after which either comes, at most."""
PAUSE = 8.0
"""Seconds between two values of a child: the observer of the broker remembers 10,000."""
LOOK = 0.5
"""Seconds between two looks at the sessions."""
PATIENCE = 300.0
STEP = 0.001
"""Degrees between two values of a child, which stand for numbers."""

FAULTS = "login.slow:0.3:50%"
"""The first cloud takes its time, so that a kill finds moves half-way."""

CONFIG = """\
[gateway]
state_directory = "{site.directory}/state"
[log]
level = "warning"
[bus]
address = "{site.bus}"
[discovery]
settle = 0
[registration]
quiet_time = 0.5
retry_first = 0.2
per_minute = 60000
[sessions]
retry_first = 0.2
retry_last = 2
per_minute = 60
[secretstore.vault]
key = "development-file"
"""


@dataclass(slots=True)
class MoveTally:
    """What was counted.

    amid: kills with a move under way.  longest: seconds that a child was without a session, most.
    repeats: messages that arrived once more.  wrong: a sentence for each law that was broken.
    """

    kills: int = 0
    amid: int = 0
    moves: int = 0
    longest: float = 0.0
    said: int = 0
    arrived: int = 0
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)


def owners(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how often a child changed the cloud over which it spoke.

    first, second: the numbers that arrived at each cloud.  Where one arrived at both, it was sent
    again after a switch, and belongs to the cloud of the one before it.
    """
    at, changes = "", 0
    places = set(first), set(second)
    for number in sorted(places[0] | places[1]):
        where = {name for name, has in zip("ab", places, strict=True) if number in has}
        if at not in where:
            changes += at != ""
            at = min(where)
    return changes


def is_in_order(numbers: Sequence[int]) -> bool:
    """Whether each number came for the first time after all smaller ones."""
    first = list(dict.fromkeys(numbers))
    return first == sorted(first)


@asynccontextmanager
async def two_clouds(directory: Path, children: int) -> AsyncIterator[tuple[Site, Site]]:
    """Open a site whose children are found by a list, and a broker that is its second cloud."""
    places = directory / "a", directory / "b"
    for place in places:
        place.mkdir()
    options = ("--children", "0", "--late", str(children), "--rate", "0")
    site = Site(places[0], plant_options=options, speaks=True)
    other = Site(places[1], plant_options=options, cloud="mqtt")
    async with other.open(), site.open():
        own, added = config(site), config(other)
        listed = "".join(DEVICE.format(serial=one) for one in site.plant["serials"])
        clouds = own[own.index("[cloud.") :] + added[added.index("[cloud.") :]
        order = '[messages.child]\nafter_outage = "in-order"\n'
        text = CONFIG.format(site=site) + clouds + order + listed
        site.configure(text, rules(site, found=FOUND))
        yield site, other


class Speakers:
    """Children that publish at the site's broker.  said: numbers that it has acknowledged."""

    def __init__(self, site: Site, children: Sequence[str], pause: float) -> None:
        self._site, self._children, self._pause = site, children, pause
        self.said: dict[str, int] = defaultdict(int)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, child in enumerate(self._children):
                wait = self._pause * number / len(self._children)
                group.create_task(self._speak(child, wait))

    async def _speak(self, child: str, wait: float) -> None:
        await asyncio.sleep(wait)
        while True:
            with suppress(OSError, EOFError):  # a socket whose queue is full, on a busy machine
                await self._publish(child)
            await asyncio.sleep(LOOK)

    async def _publish(self, child: str) -> None:
        """Publish over one connection.  Raises OSError, EOFError."""
        assert self._site.broker is not None, "the site has one"
        client = await MqttClient.open_local(self._site.broker.socket, child)
        try:
            while True:
                number = self.said[child]
                payload = json.dumps({"temperature": round(number * STEP, 3)}).encode()
                topic = TOPIC.format(child=child)
                client.writer.write(codec.publish(topic, payload, 1, number % 65_535 + 1))
                await client.receive()
                self.said[child] += 1
                await asyncio.sleep(self._pause)
        finally:
            client.close()


class MoveCampaign:
    """All children move there and back, while gatewayd is killed so many times.

    pause: seconds between two values of a child.
    """

    def __init__(
        self, directory: Path, children: int, kills: int, seed: int, pause: float = PAUSE
    ) -> None:
        self._directory, self._count, self._kills = directory, children, kills
        self._rng, self._pause = random.Random(seed), pause
        self._serving = 0.0
        self._seen: dict[str, float] = {}
        self._ids: dict[str, str] = {}
        self.tally = MoveTally()

    async def run(self) -> MoveTally:
        """Return when all is done and judged.  Raises RuntimeError, TimeoutError."""
        async with two_clouds(self._directory, self._count) as (site, other):
            self._site, self._other = site, other
            self._children: Sequence[str] = site.plant["serials"]
            await self._start()
            await site.until(self._are_online, "all children to be online")
            for child in self._children:
                await site.wait_for(child, "online")
            self._ids = {child: row[0] for child, row in (await site.devices()).items()}
            await site.ask(do="faults", plan=FAULTS)
            speakers = Speakers(site, self._children, self._pause)
            tasks = [asyncio.create_task(speakers.run()), asyncio.create_task(self._watch())]
            try:
                await self._move_all(SECOND, other.plant["product"], self._kills // 2)
                await self._move_all(FIRST, site.plant["product"], self._kills - self._kills // 2)
                for task in tasks:
                    if task.done():
                        task.result()  # it was to go on
                await cancel_and_wait(tasks[:1])
                await self._judge(speakers.said)
            finally:
                await cancel_and_wait(tasks)
        return self.tally

    async def _move_all(self, to: str, product: str, kills: int) -> None:
        """Move all children, a few before each kill."""
        for number in range(kills):
            few = self._children[
                number * self._count // kills : (number + 1) * self._count // kills
            ]
            for child in few:
                await self._ask(child, to, product)
            if self._rng.random() < AMID:
                await asyncio.sleep(self._rng.uniform(0, SOON))
            else:
                await self._until_online()
                await asyncio.sleep(self._rng.uniform(0, LATER))
            await self._kill()
        await self._until_online()

        async def all_there() -> bool:
            return not await self._site.call("ListMoves", "u", "0")

        await self._site.until(all_there, f"all children to be at {to}")

    async def _ask(self, child: str, to: str, product: str) -> None:
        options = ("1", "product", "s", product)
        await self._site.call("Move", "ssa{sv}", self._ids[child], to, *options)
        self.tally.moves += 1

    async def _kill(self) -> None:
        """Kill the gatewayd that runs, and start another one."""
        daemon = self._site.daemon
        assert daemon is not None, "it was started"
        self.tally.amid += bool(await self._site.call("ListMoves", "u", "0"))
        self._serving = 0.0
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
        self.tally.kills += 1
        await self._start()

    async def _start(self) -> None:
        await self._site.start()
        self._serving = time.monotonic()

    # Sessions.

    async def _sessions(self) -> Mapping[str, int]:
        """Return how many sessions each child has, at both clouds."""
        truths = await asyncio.gather(self._site.ask(do="truth"), self._other.ask(do="truth"))
        first = truths[0]["cloud"]["devices"][self._site.plant["product"]]
        second = truths[1]["cloud"]["devices"]
        return {c: first[c]["online"] + second[c]["online"] for c in self._children}

    async def _are_online(self) -> bool:
        return all((await self._sessions()).values())

    async def _until_online(self) -> None:
        """Wait until each child has a session.  Raises TimeoutError."""
        await self._site.until(self._are_online, "all children to be online")

    async def _watch(self) -> None:
        """Measure for how long children are without a session while gatewayd serves."""
        while True:
            serving, sessions = self._serving, await self._sessions()
            now = time.monotonic()
            for child, count in sessions.items():
                if count:
                    self._seen[child] = now
                elif serving and serving == self._serving:
                    away = now - max(serving, self._seen.get(child, serving))
                    if away > MOST_AWAY >= self.tally.longest:
                        self.tally.wrong.append(f"{child} was without a session for {away:.1f} s")
                    self.tally.longest = max(self.tally.longest, away)
            await asyncio.sleep(LOOK)

    # The judgement.

    async def _judge(self, said: Mapping[str, int]) -> None:
        for child in self._children:
            await self._judge_messages(child, said[child])
            first, second = await self._site.ledger(child), await self._other.ledger(child)
            issued, registered = len(first["secrets_sha256"]), second["registrations"]
            if (issued, registered) != (1, 1):
                self.tally.wrong.append(f"{child} was registered {issued} and {registered} times")
            if first["refused_logins"]:
                self.tally.wrong.append(f"{child} was refused at a login")

    async def _judge_messages(self, child: str, said: int) -> None:
        arrived: tuple[Sequence[int], Sequence[int]] = (), ()

        async def look() -> None:
            nonlocal arrived
            while True:
                own = await self._site.ask(do="reports", child=child, skip=0)
                far = await self._other.ask(do="reports", child=child)
                here, there = (one["values"] for one in own), (one["body"] for one in far)
                arrived = _numbers(here), _numbers(there)
                if set(range(said)) <= {*arrived[0], *arrived[1]}:
                    return
                await asyncio.sleep(LOOK)

        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await look()
        count, all_ = len(arrived[0]) + len(arrived[1]), {*arrived[0], *arrived[1]}
        self.tally.said += said
        self.tally.arrived += len(all_)
        self.tally.repeats += count - len(all_)
        if missing := set(range(said)) - all_:
            self.tally.wrong.append(f"{child}: {sorted(missing)} never came")
        if not all(map(is_in_order, arrived)):
            self.tally.wrong.append(f"{child}: {arrived} are not in order")
        if (changes := owners(*arrived)) > 2:
            self.tally.wrong.append(f"{child} spoke over two clouds by turns, {changes} times")


def _numbers(values: Any) -> Sequence[int]:  # noqa: ANN401  # JSON
    names = "CurrentTemperature", "temperature"
    return [
        round(float(one[name]) / STEP)
        for one in values
        for name in names
        if isinstance(one, dict) and name in one
    ]


def report(tally: MoveTally, seconds: float) -> list[str]:
    """Return the figures, a line for each."""
    return [
        f"{tally.kills:>8,} kills by SIGKILL in {seconds:.0f} s",
        f"{tally.amid:>8,} of them with moves under way",
        f"{tally.moves:>8,} moves of a child",
        f"{tally.longest:>8.1f} s without a session, at most, from when gatewayd served again",
        f"{tally.said:>8,} messages acknowledged to the children",
        f"{tally.arrived:>8,} arrived, {tally.repeats:,} of them once more",
        f"{len(tally.wrong):>8,} laws broken",
        *tally.wrong,
    ]


def main() -> int:
    """Return 1 where a law was broken."""
    parser = argparse.ArgumentParser(prog="soak moves", description=__doc__)
    parser.add_argument("--children", type=int, default=200, help="how many (200)")
    parser.add_argument("--kills", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatewayd-moves-") as directory:
        campaign = MoveCampaign(Path(directory), options.children, options.kills, options.seed)
        began = time.monotonic()
        tally = asyncio.run(campaign.run())
    lines = report(tally, time.monotonic() - began)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
