"""Kills the relay at random moments, and counts what became of the messages."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from script.soaking.messages.cuts import look
from script.soaking.messages.marks import lost, out_of_order, repeated_at_once
from script.soaking.messages.workload import CHILD, marks_of
from script.soaking.powercut.trace import MARKS

SHORTEST, LONGEST = 0.02, 0.4
"""Seconds from its first mark for which a relay lives."""
PATIENCE = 120.0
"""Seconds that a relay has to begin, or to bring all to the cloud."""
_POLL = 0.005


@dataclass(slots=True)
class MessageTally:
    """What was counted.  wrong: a sentence for each law that was broken."""

    kills: int = 0
    acknowledged: int = 0
    received: int = 0
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)


async def kill_relays(directory: Path, kills: int, seed: int) -> MessageTally:
    """Kill so many relays in a directory; then bring to the cloud all that waits."""
    rng, tally, marks = random.Random(seed), MessageTally(), directory / MARKS
    for _ in range(kills):
        await _kill_one(directory, marks, rng.uniform(SHORTEST, LONGEST))
        tally.kills += 1
        tally.wrong += await asyncio.to_thread(look, directory)
    process = await _start(directory, "drain")
    if await asyncio.wait_for(process.wait(), PATIENCE):
        tally.wrong.append("the last relay failed")
    for child, own in (await asyncio.to_thread(marks_of, marks)).items():
        tally.acknowledged += len(own.settled)
        tally.received += len(own.received)
        tally.repeats += own.repeats
        tally.wrong += [f"{child}: {number} never came" for number in lost(own)]
        tally.wrong += [f"{child}: {number} is late" for number in out_of_order(own.received)]
        if (most := repeated_at_once(own.received)) > CHILD.window:
            tally.wrong.append(f"{child}: {most} were repeated at once: not all were under way")
    return tally


async def _kill_one(directory: Path, marks: Path, after: float) -> None:
    """Start a relay, and kill it so many seconds after it has begun to work."""
    before = await asyncio.to_thread(_size, marks)
    process = await _start(directory, "killed")
    try:
        async with asyncio.timeout(PATIENCE):
            while await asyncio.to_thread(_size, marks) == before:
                assert process.returncode is None, "it ended by itself"
                await asyncio.sleep(_POLL)
        await asyncio.sleep(after)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
    assert process.returncode == -signal.SIGKILL, "it was killed, and did not fail"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _start(directory: Path, way: str) -> asyncio.subprocess.Process:
    module = "script.soaking.messages.workload"
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, str(directory), way)
