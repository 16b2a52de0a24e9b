"""python3 -m script.soaking.powercut.workload DIRECTORY: children come and go.

What is acknowledged is written to the file "marks", a line of JSON for each: kind, child,
attempt, and for a secret its digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict, unchanged
from gatewayd.device.secret import Secret
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.reconcile import Finding, open_rest, reconcile
from gatewayd.storage.records import DurableRecords, DurableSecrets, RecordDatabase
from script.soaking.powercut.trace import MARKS

RUNS, CHILDREN = 3, 6
CHECKPOINT = 8
"""Pages in the log after which SQLite writes them into the file: few, so that it happens."""
NOW = 1_795_000_000_000_000


@dataclass(frozen=True, slots=True)
class Opened:
    """The opened stores, and what was found when they were opened."""

    thread: CommitThread
    state: RecordDatabase
    vault: Vault
    register: DurableRecords
    secrets: DurableSecrets
    findings: list[Finding]


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Opened]:
    """Open and reconcile, as the daemon does."""
    thread = CommitThread()
    thread.start()
    try:
        state = await thread.open(lambda: RecordDatabase(directory))
        settings = VaultSettings(key="development-file")
        vault = await thread.open(lambda: Vault(settings, directory))
        found = await reconcile(thread, state, vault, NOW)
        rest = await open_rest(thread, state, vault, found.unopened)
        findings = [*found.findings, *rest]
        register = await DurableRecords.load(thread, state, vault, found.records)
        yield Opened(thread, state, vault, register, DurableSecrets(thread, vault), findings)
    finally:
        await thread.aclose()


class Child:
    """A child that is being registered.  acknowledge: records what is durable."""

    def __init__(self, stores: Opened, name: str, acknowledge: Callable[..., None]) -> None:
        self._stores, self.device, self._acknowledge = stores, DeviceId(name), acknowledge

    async def admit(self) -> None:
        """Put it on record."""
        record = Record(
            device=self.device, claims=frozenset({Claim("serial", "", self.device)}), label="",
            verdict=Verdict.ADMITTED, admission=Admission.RULE, rule="r", reason="",
            cloud=CloudName("cloud", "product", self.device), verdict_at=NOW, first_seen=NOW,
        )  # fmt: skip
        await self._stores.register.update(self.device, lambda _: record)
        self._acknowledge("admitted", self.device)

    async def register(self, attempt: int) -> None:
        """Do the durable steps of a registration."""
        await self._change(attempt=attempt)
        self._acknowledge("intent", self.device, attempt)
        secret = Secret(os.urandom(32))
        digest = hashlib.sha256(secret.reveal()).hexdigest()
        record = self._stores.register[self.device]
        await self._stores.secrets.put(record.slot(attempt), secret)
        self._acknowledge("secret", self.device, attempt, digest)
        await self._stores.register.update(
            self.device, lambda r: unchanged(r).with_secret(attempt, NOW)
        )
        self._acknowledge("stored", self.device, attempt)

    async def activate(self, attempt: int) -> None:
        """Let it log in."""
        await self._change(activated_at=NOW)
        self._acknowledge("activated", self.device, attempt)

    async def reset(self) -> None:
        """Discard its secret, as after a reset at the cloud."""
        self._acknowledge("resetting", self.device)
        await self._stores.register.update(self.device, lambda r: unchanged(r).without_any_secret())

    async def forget(self) -> None:
        """Remove it completely."""
        self._acknowledge("forgetting", self.device)
        await self._stores.register.forget(self.device)
        self._acknowledge("forgotten", self.device)

    async def _change(self, **facts: Any) -> None:  # noqa: ANN401  # facts of a record
        await self._stores.register.update(self.device, lambda r: replace(unchanged(r), **facts))


async def live(stores: Opened, run: int, number: int, acknowledge: Callable[..., None]) -> None:
    """One child of a run: it is registered, and then activated, reset or forgotten."""
    child = Child(stores, f"child-{run}-{number}", acknowledge)
    await child.admit()
    await child.register(1)
    if number % 3:
        await child.activate(1)
    if number % 3 == 1:
        await child.reset()
        await child.register(stores.register[child.device].attempt + 1)
        await child.activate(stores.register[child.device].attempt)
    if number == CHILDREN - 1:
        await child.forget()


async def main(directory: Path) -> None:
    """Let gatewayd run a few times."""
    marks = os.open(directory / MARKS, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def acknowledge(*mark: object) -> None:
        os.write(marks, json.dumps(mark).encode() + b"\n")

    for run in range(RUNS):
        async with opened(directory) as stores:
            await stores.secrets.headroom()
            if run % 2:
                await _checkpoint_often(stores)
            await asyncio.gather(*(live(stores, run, n, acknowledge) for n in range(CHILDREN)))
    os.close(marks)


async def _checkpoint_often(stores: Opened) -> None:
    def change() -> None:
        for file in (stores.state, stores.vault):
            file._run(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")  # noqa: SLF001  # only this needs it

    await stores.thread.run(change)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
