"""Many children that appear at once, and an attacker that forges many more."""

from __future__ import annotations

import asyncio
import contextlib
import time

from script.benchmarks.process import family_cpu, family_memory
from script.benchmarks.stage import Stage, stage
from script.benchmarks.table import Figure

ENOUGH = 30.0  # seconds after which whoever was not sighted was missed
FORGED, RATE = 50_000, 2500.0  # announcements, and of those in a second
REAL = 20  # children that appear after them
RECOVERED = 90.0  # seconds after which whoever of those is not online will not be
STEADY_MB = 5  # what a second flood may add, if memory is bounded
LOOK = 0.5  # seconds


async def measure_rush(children: int) -> list[Figure]:
    """Let so many children appear at once, all held for the operator."""
    async with stage(late=children) as one:
        one.rule("ask")
        await one.start()
        used, began = family_cpu(one.pid), time.perf_counter()
        await one.announce(one.site.plant["serials"])
        await _count(one, "", children, ENOUGH)
        seconds = time.perf_counter() - began
        missed = children - one.client.count()
        used = family_cpu(one.pid) - used
    return [
        Figure(f"{children:,} children announced at once: all sighted in", seconds, "s", 5,
               f"with {used:.1f} s of CPU"),
        Figure("  missed", missed, "", 0),
    ]  # fmt: skip


async def measure_flood() -> list[Figure]:
    """Forge announcements, twice; then let real children appear."""
    async with stage(late=REAL) as one:
        one.rule("register")
        await one.start()
        await asyncio.sleep(1)
        before, used = family_memory(one.pid).pss, family_cpu(one.pid)
        most = await _flood(one)
        used = family_cpu(one.pid) - used
        again = await _flood(one)
        shown = one.client.count()
        await one.announce(one.site.plant["serials"])
        seconds = await _count(one, "online", REAL, RECOVERED)
        missed = REAL - one.client.count("online")
        after = family_memory(one.pid).pss
    return [
        Figure(f"flood of {FORGED:,} forged announcements: PSS added", most - before, "MB", 20,
               f"{before:.1f} before, {after:.1f} at the end; {shown} devices shown"),
        Figure("  added by a second flood", max(0.0, again - most), "MB", STEADY_MB),
        Figure("  CPU meanwhile", used / (FORGED / RATE) * 100, "%", 40,
               f"of a core, at {RATE:.0f} announcements a second"),
        Figure(f"  real children after it, of {REAL}: not online", missed, "", 0,
               f"{seconds:.1f} s until the last was"),
    ]  # fmt: skip


async def _count(one: Stage, state: str, children: int, enough: float) -> float:
    """Return the seconds until so many are in this state; `enough` where they are not by then."""
    with contextlib.suppress(TimeoutError):
        return await one.until(lambda: one.client.count(state) >= children, "them", enough)
    return enough


async def _flood(one: Stage) -> float:
    """Return the most memory that the daemon held meanwhile, MB of PSS."""
    forging = asyncio.create_task(one.site.ask(do="attack", kind="flood", count=FORGED, rate=RATE))
    most = 0.0
    try:
        while not forging.done():
            most = max(most, family_memory(one.pid).pss)
            await asyncio.sleep(LOOK)
    finally:
        forging.cancel()
    if (sent := await forging) < FORGED:
        raise RuntimeError(f"only {sent} of {FORGED} forged announcements were sent")
    return most
