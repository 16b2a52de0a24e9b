"""What a million messages cost that wait: memory, and the time of what is stored beside them.

python3 -m script.benchmarks.message_rows DIRECTORY: opens the outbox there; prints its figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gatewayd.device.identity import DeviceId
from gatewayd.messages.outbox.file import Changes, OutboxFile, StoredMessage
from gatewayd.runtime.clock import Clock, wall_time
from script.benchmarks.message_relay import DOOR, make_relay
from script.benchmarks.process import memory
from script.benchmarks.table import Figure

FEW, HALF, MANY = 1_000, 500_000, 1_000_000
"""Messages that wait."""
TEN, GROUPS = 10, 300
_CHUNK = 10_000

# Budgets.
EACH = 16.0
HELD = 60 * 1024 * 1024 / 1e6 + EACH * MANY / 1e6
RATIO = 1.5


def fill(directory: Path, children: Sequence[str], count: int, before: int = 0) -> None:
    """Store messages of an earlier run, whose time says nothing, up to so many.

    before: how many are there already.
    """
    file, at = OutboxFile(directory), time.time_ns() // 1_000_000
    names = {n + 1: DeviceId(child) for n, child in enumerate(children)}
    file.apply(Changes(children=names, doors={1: DOOR}))
    for first in range(before, count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, count))
        file.apply(Changes(stored=list(_messages(numbers, len(names), at, count))))
    file.close()


def _messages(numbers: range, children: int, at: int, count: int) -> Iterator[StoredMessage]:
    for n in numbers:
        payload = (b"%d 0 " % (n - count)).ljust(200, b"x")
        yield StoredMessage(n + 1, n % children + 1, 1, 0, at, "properties", payload)


async def measure_rows(directory: Path, children: Sequence[str]) -> list[Figure]:
    """Measure an outbox with few, with half a million and with a million.  Raises RuntimeError."""
    found: dict[int, tuple[float, float]] = {}
    before = 0
    for count in (FEW, HALF, MANY):
        await asyncio.to_thread(fill, directory, children, count, before)
        found[count], before = await _in_a_process(directory), count
    each = (found[MANY][0] - found[HALF][0]) * 1e6 / (MANY - HALF)
    note = "the second half of them: the page cache of SQLite, 8 MiB, is full before"
    return [
        Figure(f"{MANY} that wait: memory of each", each, "B", EACH, note=note),
        Figure("  memory, PSS", found[MANY][0], "MB", HELD),
        Figure(f"  a group of {TEN}, CPU", found[MANY][1], "µs"),
        Figure(f"  of that beside {FEW}", found[MANY][1] / found[FEW][1], "times", RATIO),
    ]


async def _in_a_process(directory: Path) -> tuple[float, float]:
    """Return megabytes with the outbox open, and microseconds of a group."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "script.benchmarks.message_rows", str(directory),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the outbox cannot be opened")
    held, group = json.loads(printed)
    return held, group


async def _open(directory: Path) -> float:
    """Return the megabytes of this process with the outbox open."""
    clock = Clock(asyncio.get_running_loop().time, wall_time)
    relay = make_relay(directory, 0.005, clock)
    await relay.open([DOOR])
    held = memory(os.getpid()).pss
    await relay.aclose()
    return held


def _store_groups(directory: Path) -> float:
    """Return the microseconds of processor time that a group takes, the median.

    Each is stored and deleted again, so that as many wait as before.
    """
    file, took = OutboxFile(directory), list[float]()
    first = MANY
    for _ in range(GROUPS):
        group = list(_messages(range(first, first + TEN), 1, 0, 0))
        began = time.thread_time()
        file.apply(Changes(stored=group))
        took.append(time.thread_time() - began)
        file.apply(Changes(deleted=[one.number for one in group]))
        first += TEN
    file.close()
    return statistics.median(took) * 1e6


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(json.dumps([asyncio.run(_open(place)), _store_groups(place)]))
