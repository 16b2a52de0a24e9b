"""The log of decisions in state.db.

Each entry is a row; the oldest is deleted when there are more than fit.  The rows are not bound to
the vault: who can write to the file can alter them, and gains nothing else by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gatewayd.device.decision_log import MAX_TEXT, DecisionKind, DecisionQuery, LoggedDecision
from gatewayd.runtime.sqlite import Execute
from gatewayd.runtime.text import one_line
from gatewayd.storage.commit_thread import CommitThread

TABLE: Final = """CREATE TABLE decision (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        device TEXT NOT NULL,
        actor TEXT NOT NULL,
        origin TEXT NOT NULL,
        note TEXT NOT NULL
    ) STRICT"""

MAX_DECISIONS = 10_000
"""Decisions that are kept: about 2 MB."""
MAX_PAGE = 1000

_PUT = "INSERT INTO decision (at, kind, device, actor, origin, note) VALUES (?, ?, ?, ?, ?, ?)"
_TRIM = "DELETE FROM decision WHERE number <= (SELECT max(number) FROM decision) - ?"
_NEWEST = """
    SELECT number, at, kind, device, actor, origin, note FROM decision
    WHERE (?1 = 0 OR number < ?1) AND at >= ?2 AND substr(device, 1, length(?3)) = ?3
    ORDER BY number DESC LIMIT ?4
"""


class DecisionTable:
    """The table, inside an open state.db.  Used on the commit thread."""

    def __init__(self, query: Execute, limit: int = MAX_DECISIONS) -> None:
        self._query, self._limit = query, limit

    def add(self, decision: LoggedDecision) -> None:
        """Add a decision within a group; its number is given here.  Raises StoreError."""
        texts = decision.kind, decision.device, decision.by, decision.origin, decision.note
        self._query(_PUT, decision.at, *(one_line(text, MAX_TEXT) for text in texts))
        self._query(_TRIM, self._limit)

    def newest(self, query: DecisionQuery, limit: int) -> Sequence[LoggedDecision]:
        """Return decisions, the newest first.  Raises StoreError."""
        rows = self._query(_NEWEST, query.before, query.since, query.device, limit)
        return [LoggedDecision(*row) for row in rows]


class DurableDecisionLog:
    """The `DecisionLog` on the disk.  wall: microseconds since the epoch."""

    def __init__(self, thread: CommitThread, table: DecisionTable, wall: Callable[[], int]) -> None:
        self._thread, self._table, self._wall = thread, table, wall

    async def append(
        self, kind: DecisionKind, device: str, by: str, origin: str = "", note: str = ""
    ) -> None:
        """Log a decision that was made now; return when it is durable.  Raises StoreError."""
        decision = LoggedDecision(0, self._wall(), kind, device, by, origin, note)
        await self._thread.run(lambda: self._table.add(decision))

    async def newest(self, query: DecisionQuery, limit: int) -> Sequence[LoggedDecision]:
        """Return decisions, the newest first, `limit` or MAX_PAGE at most.  Raises StoreError."""
        return await self._thread.run(lambda: self._table.newest(query, min(limit, MAX_PAGE)))
