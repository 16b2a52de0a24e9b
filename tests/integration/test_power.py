"""kill -9 at any moment: what was acknowledged is there, and what was begun can be ended."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, Change, CloudName, Record, Verdict, unchanged
from gatewayd.device.secret import Secret
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.reconcile import FindingKind, open_rest, reconcile
from gatewayd.storage.records import DurableRecords, DurableSecrets, RecordDatabase
from tests.support.killed_process import acknowledged_before_kill

ROUNDS = 25
AT_ONCE = 16
PER_ROUND = 10_000  # more than a round can do before it is killed

pytestmark = pytest.mark.integration


def child(number: int) -> Record:
    device = DeviceId(f"child-{number}")
    return Record(
        device=device, claims=frozenset({Claim("serial", "", str(number))}), label="",
        verdict=Verdict.ADMITTED, admission=Admission.RULE, rule="r", reason="",
        cloud=CloudName("cloud", "product", device), verdict_at=1, first_seen=1,
    )  # fmt: skip


def always(record: Record) -> Change:
    return lambda _: record


def secret_of(number: int) -> Secret:
    return Secret(hashlib.sha256(str(number).encode()).digest())


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[CommitThread, RecordDatabase, Vault]]:
    thread = CommitThread()
    thread.start()
    try:
        state = await thread.open(lambda: RecordDatabase(directory))
        settings = VaultSettings(key="development-file")
        yield thread, state, await thread.open(lambda: Vault(settings, directory))
    finally:
        await thread.aclose()


async def register_many(directory: Path, first: int, acknowledge: Connection) -> None:
    """Take children through the durable steps, and acknowledge each that has completed them."""
    async with opened(directory) as (thread, state, vault):
        register, secrets = (
            await DurableRecords.load(thread, state, vault),
            DurableSecrets(thread, vault),
        )
        numbers = iter(range(first, first + PER_ROUND))

        async def work() -> None:
            for number in numbers:
                record = replace(child(number), attempt=1)
                await register.update(record.device, always(record))
                await secrets.put(record.slot(1), secret_of(number))
                await register.update(record.device, lambda r: replace(unchanged(r), stored=1))
                acknowledge.send(number)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def run_child(directory: Path, first: int, acknowledge: Connection) -> None:
    asyncio.run(register_many(directory, first, acknowledge))


async def after_the_crash(directory: Path, acknowledged: set[int]) -> None:
    async with opened(directory) as (thread, state, vault):
        found = await reconcile(thread, state, vault, 1)
        assert {f.kind for f in found.findings} <= {FindingKind.COMPLETED}
        assert await open_rest(thread, state, vault, found.unopened) == []
        records = {r.device: r for r in await thread.run(state.all)}
        assert {child(n).device for n in acknowledged} <= {
            d for d, r in records.items() if r.stored
        }
        secrets = DurableSecrets(thread, vault)
        for number in acknowledged:
            assert await secrets.get(child(number).slot(1)) == secret_of(number)
        held = {ref.device for ref in await thread.run(vault.refs)}
        assert held == {d for d, r in records.items() if r.stored}


def test_what_was_acknowledged_survives(tmp_path: Path) -> None:
    chance = random.Random(20261121)  # the same moments in each run
    acknowledged: set[int] = set()
    for number in range(ROUNDS):
        work = partial(run_child, tmp_path, number * PER_ROUND)
        acknowledged.update(acknowledged_before_kill(chance.randrange(40), work))
    asyncio.run(after_the_crash(tmp_path, acknowledged))
    assert len(acknowledged) >= ROUNDS
