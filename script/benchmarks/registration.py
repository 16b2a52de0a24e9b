"""What it costs to register a child with a cloud directly, beside a bare TLS connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from script.benchmarks import bare
from script.benchmarks.onboarding import REST, agree
from script.benchmarks.process import family_cpu, family_memory
from script.benchmarks.rounds import Sample, alternate
from script.benchmarks.stage import Stage, stage
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure

REPEATED = 2.0  # seconds until a child has announced itself for the second time
IDLE = 5.0  # seconds


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Find so many children by mDNS, register them, all held before, and log them in."""

    async def ours(subject: Subject) -> Sample:
        async with stage(children, subject) as one:
            return await _round(one, children)

    async def connection() -> Sample:
        async with stage() as one:
            return {"cpu": await bare.cost(one.site, children)}

    found = await alternate(subjects, ours, {"bare": connection})
    return [
        found.figure(f"mDNS, registration and first login of {children}, CPU per child", "online",
                     "ms"),
        found.figure("  of a bare TLS handshake with CONNECT and CONNACK", "online", "times",
                     of=("bare", "cpu"), note="a child has two connections"),
        found.beside("  a bare TLS handshake with CONNECT and CONNACK, CPU", "bare", "cpu", "ms"),
        found.figure("  CPU per child before that, from mDNS to pending", "sighting", "ms"),
        found.figure("  PSS per child online", "kept", "kB"),
        found.figure(f"  idle CPU, {children} children online", "idle", "%", note="of a core"),
    ]  # fmt: skip


async def _round(one: Stage, children: int) -> Sample:
    one.rule("ask")
    await one.start()
    sighting = await _sight(one, children)
    held = family_memory(one.pid).pss
    online = await _register(one, children)
    kept = (family_memory(one.pid).pss - held) / children * 1000
    idle = await _idle(one)
    await agree(one)
    return {"sighting": sighting, "online": online, "kept": kept, "idle": idle}


async def _sight(one: Stage, children: int) -> float:
    """Return the milliseconds of CPU that a child costs until it waits for an operator."""
    before = family_cpu(one.pid)
    await one.announce(one.site.plant["serials"])
    await one.until(lambda: one.client.count("pending") == children, "all to be pending")
    await asyncio.sleep(REPEATED)
    return (family_cpu(one.pid) - before) / children * 1000


async def _register(one: Stage, children: int) -> float:
    """Return milliseconds of CPU for each child."""
    one.rule("register")
    before = family_cpu(one.pid)
    one.client.call("Reload")
    await one.until(lambda: one.client.count("online") == children, "all to be online")
    await asyncio.sleep(REST)
    return (family_cpu(one.pid) - before) / children * 1000


async def _idle(one: Stage) -> float:
    """Return the percentage of a core."""
    before = family_cpu(one.pid)
    await asyncio.sleep(IDLE)
    return (family_cpu(one.pid) - before) / IDLE * 100
