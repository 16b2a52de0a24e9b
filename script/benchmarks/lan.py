"""Many children that appear at once, and an attacker that forges many more."""

from __future__ import annotations

import asyncio
import contextlib

from script.benchmarks.process import cpu, memory
from script.benchmarks.stage import Stage, stage
from script.benchmarks.table import Figure

ENOUGH = 30.0  # seconds after which whoever was not sighted was missed
FORGED, RATE = 50_000, 2500.0  # announcements, and of those in a second
REAL = 20
MB_FLOODED = 90
LOOK = 0.5  # seconds


async def measure_rush(children: int) -> list[Figure]:
    """Let so many children appear at once, all held for the operator."""
    async with stage(late=children) as one:
        one.rule("ask")
        await one.start()
        before = cpu(one.pid)
        announced = asyncio.create_task(one.announce(one.site.plant["serials"]))
        seconds = await _sighted(one, children)
        missed = children - one.client.count()
        used = cpu(one.pid) - before
        await announced
    what = f"{children:,} children announced at once"
    return [
        Figure(f"{what}: all sighted", seconds, "s", 5, f"{used:.1f} s of CPU"),
        Figure(f"{what}: missed", missed, "", 0),
    ]


async def _sighted(one: Stage, children: int) -> float:
    """Return the seconds until all are shown; `ENOUGH` where some are not."""
    with contextlib.suppress(TimeoutError):
        return await one.until(lambda: one.client.count() >= children, "all to be shown", ENOUGH)
    return ENOUGH


async def measure_flood() -> list[Figure]:
    """Forge announcements; then let real children appear."""
    async with stage(late=REAL) as one:
        one.rule("register")
        await one.start()
        await asyncio.sleep(2)
        before, used = memory(one.pid).pss, cpu(one.pid)
        most = await _flood(one)
        used = cpu(one.pid) - used
        shown = one.client.count()
        after = memory(one.pid).pss
        await one.announce(one.site.plant["serials"])
        online = await one.until(
            lambda: one.client.count("online") == REAL, "the real to be online"
        )
    seconds = FORGED / RATE
    return [
        Figure(
            f"flood of {FORGED:,} forged: most PSS",
            most,
            "MB",
            MB_FLOODED,
            f"{before:.1f} before, {after:.1f} after",
        ),
        Figure(
            "  devices shown after it", shown, "", note="of which an operator sees the proven first"
        ),
        Figure("  CPU during it", used / seconds * 100, "% of a core", note=f"{RATE:.0f}/s"),
        Figure(f"  {REAL} real children after it: online in", online, "s"),
    ]


async def _flood(one: Stage) -> float:
    """Return the most memory that the daemon held meanwhile, MB of PSS."""
    forging = asyncio.create_task(one.site.ask(do="attack", kind="flood", count=FORGED, rate=RATE))
    most = 0.0
    while not forging.done():
        most = max(most, memory(one.pid).pss)
        await asyncio.sleep(LOOK)
    if (sent := await forging) < FORGED:
        raise RuntimeError(f"only {sent} of {FORGED} forged announcements were sent")
    return most
