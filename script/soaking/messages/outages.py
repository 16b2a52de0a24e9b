"""A site that speaks while each of its parts fails in turn, for an hour, or days of a fast clock.

The broker of the site or gatewayd's own is stopped, the cloud is gone, gatewayd is killed or
restarted, and its disk is full twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.site import Site
from script.soaking.messages.fast_clock import PartsClock
from script.soaking.messages.gateway import SpeakingChildren
from script.soaking.messages.marks import out_of_order
from script.soaking.messages.own_broker import OwnBroker, site_with_broker

DISK = 64 * 1024 * 1024
"""Bytes of the disk of gatewayd: room for the reserve, and little else."""
SHORTEST, LONGEST = 2.0, 20.0
"""Seconds of an outage, and between two."""
FULL = 10.0
"""Seconds for which the disk is full."""
SHOWN = 12.0
"""Seconds after which D-Bus shows what was dropped."""
ENTERED = 0o711
"""The mode of a directory that other users may pass, and not read."""
STANDSTILL = 30.0
"""Seconds without a further message after which the rest is missing."""
LOOK = 2.0
"""Seconds between two looks at the memory of gatewayd."""
MOST_MEMORY = 150.0
"""MB that gatewayd may have at any time."""


@dataclass(slots=True)
class OutageTally:
    """What was counted.  outages: by what failed.  memory: MB of gatewayd, at most.

    hours: that have passed by the clock of the parts.
    dropped: messages that gatewayd says it has dropped, by the reason.  missing: what never came,
    and gaps: where that was.
    """

    outages: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    received: int = 0
    missing: int = 0
    gaps: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    memory: float = 0.0
    hours: float = 0.0
    wrong: list[str] = field(default_factory=list)


class FailingSite:
    """What can fail of a site.  own: gatewayd's own broker.  disk: that of gatewayd."""

    def __init__(
        self, site: Site, own: OwnBroker, disk: Path, rng: random.Random, tally: OutageTally
    ) -> None:
        self._site, self._own, self._disk, self._rng, self._tally = site, own, disk, rng, tally

    async def fail(self) -> None:
        """Let one part fail, and come back."""
        failures: Mapping[str, Callable[[], Awaitable[None]]] = {
            "cloud": self._without_cloud,
            "broker": self._without_broker,
            "own broker": self._without_own_broker,
            "gatewayd killed": self._killed,
            "gatewayd restarted": self._restarted,
        }
        name = self._rng.choice(list(failures))
        await failures[name]()
        self._tally.outages[name] += 1

    async def fill_disk(self) -> None:
        """Let the disk be full for a while."""
        filling = self._disk / "filling"
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65536))
        await asyncio.sleep(FULL)
        filling.unlink()
        await asyncio.sleep(SHOWN)  # before a kill, what was dropped is shown
        self._tally.outages["disk full"] += 1

    async def _without_cloud(self) -> None:
        await self._site.ask(do="faults", plan="down")
        await self._rest()
        await self._site.ask(do="faults", plan="")

    async def _without_broker(self) -> None:
        assert self._site.broker is not None, "the site has one"
        await self._site.broker.stop()
        await self._rest()
        await self._site.broker.start()

    async def _without_own_broker(self) -> None:
        await self._own.stop()
        await self._rest()
        await self._own.start()

    async def _killed(self) -> None:
        await self._note_dropped()
        assert self._site.daemon is not None, "it runs"
        self._site.daemon.send_signal(signal.SIGKILL)
        await self._site.daemon.wait()
        await self._rest()
        await self._site.start()

    async def _restarted(self) -> None:
        await self._note_dropped()
        if status := await self._site.stop():
            self._tally.wrong.append(f"gatewayd ended with status {status}")
        await self._site.start()

    async def _rest(self) -> None:
        await asyncio.sleep(self._rng.uniform(SHORTEST, LONGEST))

    async def _note_dropped(self) -> None:
        """Count what this gatewayd has dropped."""
        target = ("org.gatewayd1", "/org/gatewayd1/messages", "org.gatewayd1.Messages")
        shown = await self._site.busctl("--json=short", "get-property", *target, "Dropped")
        self._tally.dropped.update(json.loads(shown)["data"])

    async def end(self) -> None:
        """Count what the last gatewayd has dropped."""
        await self._note_dropped()

    async def watch_memory(self) -> None:
        """Look at the memory of gatewayd, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            daemon = self._site.daemon
            if daemon is not None and daemon.returncode is None:
                self._tally.memory = max(self._tally.memory, _memory(daemon.pid))


async def let_fail(
    directory: Path, minutes: float, seed: int, clock: PartsClock, *, cloud: str = "alibaba"
) -> OutageTally:
    """Let parts of a site fail for so long; then all that was acknowledged has to be at the cloud.

    clock: that of the parts.  Needs root, for a small disk.
    """
    rng, tally = random.Random(seed), OutageTally()
    await asyncio.to_thread(directory.chmod, ENTERED)  # gatewayd's own broker is another user
    own = OwnBroker(directory / "own", clock.prefix)
    with _small_disk(directory / "state") as disk:
        began = await clock.hours()
        async with site_with_broker(directory, cloud, own, clock.prefix) as (site, children):
            failing = FailingSite(site, own, disk, rng, tally)
            mouth = await own.mouth(site, children[-1])
            speaking = SpeakingChildren(site, children, {children[-1]: mouth})
            async with _in_background(speaking.follow(), failing.watch_memory()):
                async with _in_background(speaking.speak()):
                    await _fail_for(failing, minutes * 60)
                for child in children:
                    await _judge(speaking, child, tally)
            await failing.end()
        tally.hours = await clock.hours() - began
    if tally.missing > sum(tally.dropped.values()):
        tally.wrong.append(f"{tally.missing} never came, and {dict(tally.dropped)} were dropped")
    if tally.memory > MOST_MEMORY:
        tally.wrong.append(f"gatewayd had {tally.memory:.0f} MB")
    return tally


async def _fail_for(failing: FailingSite, seconds: float) -> None:
    """Let parts fail for so long, the disk in the first half and in the second."""
    began = time.monotonic()
    for half in (0.5, 1.0):
        await failing.fill_disk()
        while time.monotonic() - began < seconds * half:
            await failing.fail()
            await asyncio.sleep(SHORTEST)


async def _judge(speaking: SpeakingChildren, child: str, tally: OutageTally) -> None:
    """Wait until nothing more of a child comes; count what is wrong with it."""
    said, before = set(range(speaking.acknowledged[child])), -1
    while not said <= set(speaking.received[child]) and len(speaking.received[child]) > before:
        before = len(speaking.received[child])
        await asyncio.sleep(STANDSTILL)
    received = speaking.received[child]
    tally.acknowledged += len(said)
    tally.received += len(received)
    tally.missing += len(said - set(received))
    tally.gaps += [f"{child}: {gap} never came" for gap in _ranges(said - set(received))]
    tally.wrong += [f"{child}: {number} is late" for number in out_of_order(received)]


def _ranges(numbers: Collection[int]) -> Iterator[str]:
    """Yield numbers in their order, those that follow each other together, as "7 to 9"."""
    first = last = None
    for number in (*sorted(numbers), None):
        if last is not None and number != last + 1:
            yield f"{first}" if first == last else f"{first} to {last}"
            first = None
        first, last = number if first is None else first, number


@asynccontextmanager
async def _in_background(*works: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        await cancel_and_wait(tasks)


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path]:
    """Mount a small disk in a new directory."""
    directory.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", str(directory)]
    subprocess.run(mount, check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _memory(pid: int) -> float:
    """Return the MB that a process has in memory; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
