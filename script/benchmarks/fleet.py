"""A gateway with many children on record: how it starts, answers and rests."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from gatewayd.dbus.names import DEVICES, MANAGER, NAME, OBJECT_MANAGER, ROOT
from gatewayd.device.identity import Claim, device_id
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.storage.records import RecordDatabase
from script.benchmarks.client import Client, timed
from script.benchmarks.process import cpu, memory
from script.benchmarks.stage import Stage, stage
from script.benchmarks.table import Figure

STARTS, LISTS = 3, 15
REST, IDLE = 4.0, 6.0  # seconds: until it is at rest, and how long it is watched then
SECRET_SIZE = 32
LIST = (NAME, ROOT, MANAGER, "ListDevices")
OBJECTS = (NAME, DEVICES, OBJECT_MANAGER, "GetManagedObjects")
MB_EMPTY, MB_FULL = 40, 90


async def measure(children: int) -> list[Figure]:
    """Start with none, then with so many that were registered in an earlier life."""
    async with stage() as one:
        one.rule("register")
        await one.start()
        figures = await _resting(one, 0, MB_EMPTY)
        await one.site.stop()
        directory = one.site.directory / "state"
        await asyncio.to_thread(_store, directory, one.site.plant["product"], children)
        figures.append(await _starts(one, children))
        figures += await _resting(one, children, MB_FULL)
        figures += _lists(one, children)
        return figures


def _store(directory: Path, product: str, children: int) -> None:
    """Write so many children, with a secret each, as gatewayd does."""
    now = time.time_ns() // 1000
    secret = Secret(b"x" * SECRET_SIZE)
    with (
        closing(RecordDatabase(directory)) as state,
        closing(Vault(Vault.Settings(key="development-file"), directory)) as vault,
    ):
        for store in (state, vault):
            store.begin()
        for number in range(children):
            record = _record(f"TH20-{number:06X}", product, now)
            state.write(record)
            vault.put(record.slot(record.stored), secret)
        for store in (state, vault):
            store.commit()


def _record(serial: str, product: str, now: int) -> Record:
    claims = frozenset({Claim("serial", "_gatewayd-child._tcp", serial.lower())})
    return Record(
        device=device_id(claims, ""), claims=claims, label=serial,
        verdict=Verdict.ADMITTED, admission=Admission.RULE, rule="sensors", reason="",
        cloud=CloudName("alibaba", product, serial), verdict_at=now, first_seen=now,
        attempt=1, attempted_at=now, stored=1, registered_at=now, activating=1, activated_at=now,
    )  # fmt: skip


async def _starts(one: Stage, children: int) -> Figure:
    """Start a few times, and stay up the last time."""
    seconds, used = [], []
    for _ in range(STARTS):
        await one.site.stop()
        seconds.append(await one.start())
        used.append(cpu(one.pid))
    if (shown := one.client.count()) != children:
        raise RuntimeError(f"{shown} of {children} children were restored")
    note = f"{min(seconds):.2f} to {max(seconds):.2f}; CPU until then {median(used):.2f} s"
    return Figure(f"start to READY=1, {children:,} children", median(seconds), "s", 1.5, note)


async def _resting(one: Stage, children: int, budget: float) -> list[Figure]:
    """Leave it alone, and look."""
    await asyncio.sleep(REST)
    before = cpu(one.pid)
    await asyncio.sleep(IDLE)
    idle = (cpu(one.pid) - before) / IDLE * 100
    held = memory(one.pid)
    return [
        Figure(f"idle PSS, {children:,} children", held.pss, "MB", budget, f"RSS {held.rss:.1f}"),
        Figure(f"idle CPU, {children:,} children", idle, "%", 0.5, f"of a core, {IDLE:.0f} s"),
    ]


def _lists(one: Stage, children: int) -> list[Figure]:
    """List them all: the first call makes what the later ones find made."""
    costs = [_list(one.pid, one.client) for _ in range(LISTS)]
    first, later = costs[0], [median(column) for column in zip(*costs[1:], strict=True)]
    what = f"ListDevices, {children:,} children, CPU"
    one.client.ask(*OBJECTS)
    return [
        Figure(f"{what}, first call", first[0], "ms", 50, f"{first[1]:.0f} ms at the client"),
        Figure(f"{what}, later calls", later[0], "ms", 50, f"{later[1]:.0f} ms at the client"),
        Figure("PSS after that and GetManagedObjects", memory(one.pid).pss, "MB", MB_FULL),
    ]


def _list(pid: int, client: Client) -> tuple[float, float]:
    """Return milliseconds of the daemon's CPU, and those that the client waits."""
    before = cpu(pid)
    waited = timed(client, *LIST)
    return (cpu(pid) - before) * 1000, waited * 1000
