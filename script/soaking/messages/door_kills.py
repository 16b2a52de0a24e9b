"""Kills the process of a door, or its broker, while children publish, and counts what is lost.

With the door killed, what a broker has acknowledged to a publisher is stored, once and in order:
the broker keeps it.  With the broker killed, that holds for what has a receipt; what the broker had
acknowledged, and the door had not read, is lost with it, and is counted beside.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from gatewayd.messages.outbox.file import NAME
from script.soaking.messages.door_publishers import NumberPublisher, publishing
from script.soaking.messages.door_workload import CHILDREN, PASSWORD
from tests.support.mosquitto import Mosquitto, mosquitto

SHORTEST, LONGEST = 0.02, 0.4
"""Seconds for which a door is connected before it is killed."""
BROKER_LONGEST = 1.0
"""Seconds for which a broker runs, at most."""
PATIENCE = 120.0
LISTENERS = [
    "listener 0 {directory}/socket",
    "use_username_as_clientid true",
    "listener {port} 127.0.0.1",
    "use_username_as_clientid true",
]
_USERS = dict.fromkeys(("gatewayd", *CHILDREN), PASSWORD)


@dataclass(slots=True)
class DoorTally:
    """What was counted.

    acknowledged: messages that the broker has acknowledged to publishers.  receipts: of them.
    stored: those on the disk.  lost: of those acknowledged, with a broker that was killed.
    wrong: a sentence for each law that was broken.
    """

    kills: int = 0
    acknowledged: int = 0
    receipts: int = 0
    stored: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


async def kill_doors(directory: Path, kills: int, seed: int) -> DoorTally:
    """Kill the door's process so many times; then let it store all that the broker still has."""
    rng, tally = random.Random(seed), DoorTally()
    with mosquitto(LISTENERS, _USERS) as broker:
        async with _door(directory, broker):
            pass  # from its first subscription on, the broker keeps messages for it
        with publishing(CHILDREN, PASSWORD, broker.port, receipts=False) as publishers:
            for _ in range(kills):
                async with _door(directory, broker) as process:
                    await asyncio.sleep(rng.uniform(SHORTEST, LONGEST))
                    process.kill()
                tally.kills += 1
            await _finish(publishers)
        async with _door(directory, broker, "drain") as process:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
    stored = await asyncio.to_thread(_stored, directory)
    for one in publishers:
        numbers = stored.get(one.child, [])
        tally.acknowledged += len(one.acknowledged)
        tally.stored += len(numbers)
        missing = one.acknowledged - set(numbers)
        tally.wrong += [f"{one.child}: {number} was acknowledged, and lost" for number in missing]
        if len(set(numbers)) < len(numbers):
            tally.wrong.append(f"{one.child}: {len(numbers) - len(set(numbers))} stored twice")
        tally.wrong += [
            f"{one.child}: {later} came after {earlier}"
            for earlier, later in pairwise(numbers)
            if later < earlier
        ]
    return tally


async def kill_brokers(directory: Path, kills: int, seed: int) -> DoorTally:
    """Kill the broker so many times, while children ask for receipts."""
    rng, tally = random.Random(seed), DoorTally()
    with mosquitto(LISTENERS, _USERS) as broker:
        async with _door(directory, broker) as process:
            with publishing(CHILDREN, PASSWORD, broker.port, receipts=True) as publishers:
                for _ in range(kills):
                    await _until(_progress(publishers))
                    await asyncio.sleep(rng.uniform(0.0, BROKER_LONGEST))
                    await asyncio.to_thread(broker.kill)
                    await asyncio.to_thread(broker.start)
                    tally.kills += 1
                await _until(_progress(publishers))
            process.terminate()
    stored = await asyncio.to_thread(_stored, directory)
    for one in publishers:
        numbers = set(stored.get(one.child, []))
        tally.acknowledged += len(one.acknowledged)
        tally.receipts += len(one.stored)
        tally.stored += len(numbers)
        tally.lost += len(one.acknowledged - numbers)
        missing = one.stored - numbers
        tally.wrong += [f"{one.child}: {number} has a receipt, and was lost" for number in missing]
    return tally


def _progress(publishers: Sequence[NumberPublisher]) -> Callable[[], bool]:
    """Return whether each publisher has got a receipt since now."""
    before = [len(one.stored) for one in publishers]
    return lambda: all(
        len(one.stored) > count for one, count in zip(publishers, before, strict=True)
    )


async def _finish(publishers: Sequence[NumberPublisher]) -> None:
    """Have no more published, and return when all is acknowledged."""
    for one in publishers:
        await asyncio.to_thread(one.stop)
    await _until(lambda: all(one.is_done for one in publishers))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _door(
    directory: Path, broker: Mosquitto, *way: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a door, which is connected when this returns; it has ended after the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "script.soaking.messages.door_workload",
        str(directory),
        str(broker.socket),
        *way,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"connected\n", "the door has failed"
        yield process
    finally:
        if process.returncode is None and not way:
            process.kill()
        await process.wait()


def _stored(directory: Path) -> Mapping[str, list[int]]:
    """Return the numbers of each child, in the order in which they were stored."""
    found: dict[str, list[int]] = {}
    with closing(sqlite3.connect(directory / NAME)) as database:
        query = "SELECT child.name, payload FROM up JOIN child ON child = child.id ORDER BY number"
        for child, payload in database.execute(query):
            found.setdefault(child, []).append(int(payload))
    return found
