"""A gateway with many children on record: how it starts, answers and rests."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from statistics import median

from gatewayd.dbus.names import DEVICES, MANAGER, NAME, OBJECT_MANAGER, ROOT
from gatewayd.simulator.site import run
from script.benchmarks.client import timed
from script.benchmarks.process import family_cpu, family_memory
from script.benchmarks.rounds import Sample, alternate
from script.benchmarks.stage import Stage, stage
from script.benchmarks.subject import HERE, Subject
from script.benchmarks.table import Figure

LISTS, IMPORTS = 7, 3
REST, IDLE = 4.0, 6.0  # seconds: until it is at rest, and how long it is watched then
LIST = (NAME, ROOT, MANAGER, "ListDevices")
OBJECTS = (NAME, DEVICES, OBJECT_MANAGER, "GetManagedObjects")


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Start with no children, then with so many that were registered in an earlier life."""

    async def ours(subject: Subject) -> Sample:
        async with stage(0, subject) as one:
            return await _round(one, children)

    found = await alternate(subjects, ours, {"imports": _imports})
    what = f"{children:,} children"
    return [
        found.figure("idle PSS, 0 children", "empty", "MB", budget=40),
        found.figure("idle CPU, 0 children", "empty-idle", "%", budget=0.5, note="of a core"),
        found.figure(f"start to READY=1, {what}", "start", "s"),
        found.figure("  of the imports alone", "start", "times", of=("imports", "seconds"),
                     budget=2),
        found.beside("  the imports alone", "imports", "seconds", "s"),
        found.figure("  CPU until then", "start-cpu", "s"),
        found.figure(f"idle PSS, {what}", "held", "MB"),
        found.figure(f"idle CPU, {what}", "idle", "%", budget=0.5, note="of a core"),
        found.figure(f"ListDevices, {what}, first call, CPU", "first", "ms", budget=50),
        found.figure("  later calls, CPU", "later", "ms", budget=50),
        found.figure("  later calls, at the client", "waited", "ms"),
        found.figure(f"GetManagedObjects, {what}, first call, CPU", "objects", "s", budget=0.6),
        found.figure("PSS after that", "listed", "MB", budget=95),
    ]  # fmt: skip


async def _imports() -> Sample:
    """Return what the imports of the daemon alone take."""
    took = []
    for _ in range(IMPORTS):
        before = time.perf_counter()
        await run(*HERE.prefix, sys.executable, "-c", "import gatewayd.daemon")
        took.append(time.perf_counter() - before)
    return {"seconds": median(took)}


async def _round(one: Stage, children: int) -> Sample:
    one.rule("register")
    await one.start()
    empty, empty_idle = await _rest(one)
    await one.site.stop()
    state = one.site.directory / "state"
    await one.subject.store("fill", state, one.site.plant["product"], children)
    start = await one.start()
    start_cpu = family_cpu(one.pid)
    held, idle = await _rest(one)
    first, _ = _list(one)
    later = [_list(one) for _ in range(LISTS)]
    before = family_cpu(one.pid)
    one.client.ask(*OBJECTS)
    objects, listed = family_cpu(one.pid) - before, family_memory(one.pid).pss
    await _check(one)
    return {
        "empty": empty, "empty-idle": empty_idle, "start": start, "start-cpu": start_cpu,
        "held": held, "idle": idle, "first": first, "later": median(cost for cost, _ in later),
        "waited": median(waited for _, waited in later), "objects": objects, "listed": listed,
    }  # fmt: skip


async def _check(one: Stage) -> None:
    """Compare what D-Bus lists with the store.  Raises RuntimeError."""
    shown = {row[0] for row in one.client.call("ListDevices")}
    await one.site.stop()
    durable = await one.subject.store("read", one.site.directory / "state")
    if shown != {device for device, _ in durable}:
        raise RuntimeError(f"{len(shown)} of {len(durable)} children were restored")


async def _rest(one: Stage) -> tuple[float, float]:
    """Leave it alone; return MB of PSS, and the percentage of a core that it uses then."""
    await asyncio.sleep(REST)
    before = family_cpu(one.pid)
    await asyncio.sleep(IDLE)
    return family_memory(one.pid).pss, (family_cpu(one.pid) - before) / IDLE * 100


def _list(one: Stage) -> tuple[float, float]:
    """Return milliseconds of the daemon's CPU, and those that the client waits."""
    before = family_cpu(one.pid)
    waited = timed(one.client, *LIST)
    return (family_cpu(one.pid) - before) * 1000, waited * 1000
