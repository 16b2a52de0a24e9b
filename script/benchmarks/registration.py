"""What it costs to register a child with a cloud directly, beside a bare TLS connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from script.benchmarks import bare
from script.benchmarks.process import cpu, memory
from script.benchmarks.stage import Stage, stage
from script.benchmarks.table import Figure

ROUNDS = 3
CONNECTIONS = 2  # of a child: one to register, one to log in
REPEATED = 2.0  # seconds until a child has announced itself for the second time
IDLE = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Round:
    """What one run has cost.

    bare, sighting, online: milliseconds of CPU for each connection, or for each child.
    seconds: until all were online.  kept: kB of PSS for each child.  idle: percent of a core.
    """

    bare: float
    sighting: float
    online: float
    seconds: float
    kept: float
    idle: float

    @property
    def times(self) -> float:
        """How much more a connection costs than a bare one."""
        return self.online / CONNECTIONS / self.bare


async def measure(children: int) -> list[Figure]:
    """Register so many children, all held before, and log them in; a few times over."""
    rounds = [await _round(children) for _ in range(ROUNDS)]
    one = sorted(rounds, key=lambda each: each.times)[ROUNDS // 2]
    return [
        Figure("direct registration and first login, CPU per child", one.online, "ms",
               note=f"{children} in {one.seconds:.1f} s; {_spread([r.online for r in rounds])}"),
        Figure("  a bare TLS handshake with CONNECT and CONNACK, CPU", one.bare, "ms",
               note=_spread([r.bare for r in rounds])),
        Figure("  CPU per TLS connection, of a bare one", one.times, "times", 2,
               f"a child has {CONNECTIONS}; {_spread([r.times for r in rounds])}"),
        Figure("  CPU per child, of a bare one", one.times * CONNECTIONS, "times"),
        Figure("  CPU per child before that, from mDNS to pending", one.sighting, "ms"),
        Figure("  PSS per child online", median(r.kept for r in rounds), "kB"),
        Figure(f"  idle CPU, {children} children online", median(r.idle for r in rounds), "%",
               note="of a core"),
    ]  # fmt: skip


def _spread(values: Sequence[float]) -> str:
    return f"{len(values)} rounds, {min(values):.2f} to {max(values):.2f}"


async def _round(children: int) -> Round:
    async with stage(late=children) as one:
        one.rule("ask")
        await one.start()
        sighting = await _sight(one, children)
        before = await bare.cost(one.site, children)
        held = memory(one.pid).pss
        online, seconds = await _register(one, children)
        after = await bare.cost(one.site, children)
        kept = (memory(one.pid).pss - held) / children * 1000
        return Round((before + after) / 2, sighting, online, seconds, kept, await _idle(one))


async def _sight(one: Stage, children: int) -> float:
    """Return the milliseconds of CPU that a child costs until it waits for an operator."""
    before = cpu(one.pid)
    await one.announce(one.site.plant["serials"])
    await one.until(lambda: one.client.count("pending") == children, "all to be pending")
    await asyncio.sleep(REPEATED)
    return (cpu(one.pid) - before) / children * 1000


async def _register(one: Stage, children: int) -> tuple[float, float]:
    """Return milliseconds of CPU for each child, and the seconds for all."""
    one.rule("register")
    before = cpu(one.pid)
    one.client.call("Reload")
    seconds = await one.until(lambda: one.client.count("online") == children, "all to be online")
    return (cpu(one.pid) - before) / children * 1000, seconds


async def _idle(one: Stage) -> float:
    """Return the percentage of a core."""
    before = cpu(one.pid)
    await asyncio.sleep(IDLE)
    return (cpu(one.pid) - before) / IDLE * 100
