"""The log of decisions: durable, bounded, and read in pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.device.decision_log import MAX_TEXT, DecisionKind, DecisionQuery, LoggedDecision
from gatewayd.errors import StoreError
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.storage import decision_log
from gatewayd.storage.decision_log import DecisionTable, DurableDecisionLog
from gatewayd.storage.storage import Storage
from tests.support.vaults import DEVELOPMENT

REJECTED = DecisionKind.REJECTED


class Wall:
    """A clock that goes on by a microsecond at each look."""

    now = 1_790_000_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Storage]:
    storage = await Storage.open(directory, lambda: Vault(DEVELOPMENT, directory), Wall())
    try:
        yield storage
    finally:
        await storage.thread.aclose()


async def test_what_was_logged_is_there_after_a_restart_the_newest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        await storage.decisions.append(REJECTED, "child-1", "olga", "ssh from 192.0.2.7", "a guest")
        await storage.decisions.append(DecisionKind.RELOADED, "", "root")
    async with opened(tmp_path) as storage:
        reloaded, rejected = await storage.decisions.newest(DecisionQuery(), 10)
    assert rejected == LoggedDecision(
        1, rejected.at, "rejected", "child-1", "olga", "ssh from 192.0.2.7", "a guest"
    )
    assert (reloaded.number, reloaded.kind, reloaded.by) == (2, "reloaded", "root")
    assert reloaded.at > rejected.at > 1_790_000_000_000_000


async def test_pages_times_and_children(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        log = storage.decisions
        for number in range(6):
            await log.append(REJECTED, f"child-{number % 2}%", "olga")

        async def numbers(query: DecisionQuery, limit: int = 10) -> list[int]:
            return [one.number for one in await log.newest(query, limit)]

        assert await numbers(DecisionQuery(), 2) == [6, 5]
        assert await numbers(DecisionQuery(before=5), 2) == [4, 3]
        assert await numbers(DecisionQuery(before=1)) == []
        at = (await log.newest(DecisionQuery(), 1))[0].at
        assert await numbers(DecisionQuery(since=at)) == [6]
        assert await numbers(DecisionQuery(device="child-0")) == [5, 3, 1]
        assert await numbers(DecisionQuery(device="child-0%")) == [5, 3, 1]
        assert await numbers(DecisionQuery(device="%")) == []


async def test_the_oldest_make_room_and_numbers_are_not_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        table = DecisionTable(storage.database._run, limit=3)
        log = DurableDecisionLog(storage.thread, table, Wall())
        for number in range(9):
            await log.append(REJECTED, f"child-{number}", "olga")
        assert [one.number for one in await log.newest(DecisionQuery(), 10)] == [9, 8, 7]


async def test_a_text_is_one_line_and_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        await storage.decisions.append(REJECTED, "child-1", "olga", note="a\x1b[2J\nb" + "x" * 999)
        (kept,) = await storage.decisions.newest(DecisionQuery(), 1)
    assert kept.note.startswith("a [2J b")
    assert kept.note.isprintable()
    assert len(kept.note) == MAX_TEXT


async def test_a_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "MAX_PAGE", 2)
    async with opened(tmp_path) as storage:
        for _ in range(3):
            await storage.decisions.append(REJECTED, "child-1", "olga")
        assert len(await storage.decisions.newest(DecisionQuery(), 1 << 31)) == 2


async def test_a_disk_that_takes_no_writes_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        await storage.decisions.append(REJECTED, "child-1", "olga")
    reading = tmp_path / "read-only"
    shutil.copytree(tmp_path, reading)
    async with opened(reading) as storage:
        await storage.thread.run(lambda: storage.database._execute("PRAGMA query_only = ON"))
        with pytest.raises(StoreError):
            await storage.decisions.append(REJECTED, "child-1", "olga")
        assert len(await storage.decisions.newest(DecisionQuery(), 9)) == 1
