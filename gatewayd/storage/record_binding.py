"""The records are bound to the vault: another hand in state.db, or an old copy, is noticed.

state.db has one row: a count of its changes, the newest count of changes of the vault that it knows
of, and a sum over all records, authenticated by a key in the vault.  The sum has a part for each
record that only the key makes, so that it is kept up to date with each change, and no record can
be altered, added, removed or exchanged for an older one.  Sums of this kind: AdHash (Bellare and
Micciancio, 1997), here over MACs.

state.db is committed before the vault.  So the vault may know of this change of the records, and
the records only of the change of the vault before it: a crash between the two is no old copy.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gatewayd.runtime.sqlite import Execute
from gatewayd.secretstore.store import SupportsBinding

TABLE = """CREATE TABLE binding (
        count INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        sum BLOB NOT NULL,
        mac BLOB NOT NULL
    ) STRICT"""

Row: TypeAlias = Sequence[object]

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

_BITS = 256
_REMEDY = "put the newest copy back, or accept this one with gatewayctl vault accept"
OTHER_HAND = (
    "state.db was changed by another program, or while the vault was sealed, or belongs to another "
    f"vault: {_REMEDY}"
)
OLD_RECORDS = f"state.db is an old copy, as the vault shows: {_REMEDY}"
OLD_VAULT = f"vault.db is an old copy, as state.db shows: {_REMEDY}"


@dataclass(frozen=True, slots=True)
class RecordBinding:
    """The row.  count: changes of the records.  seen: those of the vault.  sum: over records."""

    count: int = 0
    seen: int = 0
    sum: int = 0

    def text(self) -> bytes:
        """Return what is authenticated."""
        return f"state {self.count} {self.seen} {self.sum}".encode()


class BoundRecords:
    """The binding of the records while they are open, kept up to date with each change of them.

    vault: what they are bound to; None while it is sealed or not trusted.  What is changed then is
    remembered, so that the records can be bound, as they were, when it is open.
    """

    def __init__(self, query: Execute) -> None:
        self._query = query
        self.vault: SupportsBinding | None = None
        self._durable = RecordBinding()
        self._next: RecordBinding | None = None
        self._sum = self._marked = 0
        self._before: dict[str, Row | None] = {}

    def bind(self, vault: SupportsBinding, rows: Callable[[], Sequence[Row]]) -> str:
        """Bind the records, within a group; or return why they do not belong to the vault."""
        facts = vault.binding()
        if facts is None:
            return ""
        present, before = rows(), self._before
        unchanged = total_of(vault, (row for row in present if str(row[0]) not in before))
        earlier = total_of(vault, (row for row in before.values() if row is not None))
        if why := fault(self._query, vault, changed(unchanged, 0, earlier)):
            return why
        later = total_of(vault, (row for row in present if str(row[0]) in before))
        self.vault, self._sum = vault, changed(unchanged, 0, later)
        self._marked = self._sum
        self._durable = RecordBinding(count_of(self._query), facts.changes, self._sum)
        if self._before or not facts.records:
            self._before = {}
            self.stamp()
        return ""

    def change(self, device: str, row: Row | None, present: Callable[[Any], Row | None]) -> None:
        """Note that a record is replaced.  row: the new one; None for none.

        present: returns the one on the disk.
        """
        if self.vault is None or self.vault.binding() is None:
            self.vault = None
            if device not in self._before:
                self._before[device] = present(device)
            return
        before = part(self.vault, present(device))
        self._sum = changed(self._sum, before, part(self.vault, row))

    def begin(self) -> None:
        """Begin a group."""
        self._next = None
        self._marked = self._sum = self._durable.sum

    def mark(self) -> None:
        """Set the point to which `undo` goes back."""
        self._marked = self._sum

    def undo(self) -> None:
        """Go back to the last `mark`."""
        self._sum = self._marked

    def stamp(self) -> None:
        """Write the binding within a group that changes records."""
        facts = self.vault.binding() if self.vault is not None else None
        if self.vault is None or facts is None:
            return
        self._next = RecordBinding(self._durable.count + 1, facts.changes, self._sum)
        store(self._query, self.vault, self._next)

    def settle(self) -> None:
        """Go on with what was written: it is durable; the vault may know of it."""
        if self._next is not None and self.vault is not None:
            self._durable = self._next
            self.vault.note_records(self._durable.count)
        self._next = None

    def rollback(self) -> None:
        """Forget what was written: it is undone."""
        self._next, self._sum = None, self._durable.sum


def part(vault: SupportsBinding, row: Row | None) -> int:
    """Return the part of a record in the sum; None: of no record.

    Empty texts at the end do not count: so a record keeps its part when a migration adds columns.
    """
    if row is None:
        return 0
    counted = list(row)
    while counted and counted[-1] == "":
        counted.pop()
    text = _encode(counted).encode()
    return int.from_bytes(vault.mac(b"record " + text), "big")


def changed(total: int, before: int, after: int) -> int:
    """Return the sum after one part has changed."""
    return (total - before + after) % (1 << _BITS)


def total_of(vault: SupportsBinding, rows: Iterable[Row]) -> int:
    """Return the sum over some records."""
    return sum(part(vault, row) for row in rows) % (1 << _BITS)


def fault(query: Execute, vault: SupportsBinding, total: int) -> str:
    """Return why records and vault do not belong together; "" where they do.

    total: the sum over all records, as they were when the binding was last written.
    """
    facts, found = vault.binding(), _load(query, vault)
    if facts is None or not facts.records:
        return ""
    if found is None or total != found.sum:
        return OTHER_HAND
    if found.count < facts.records:
        return OLD_RECORDS
    return OLD_VAULT if found.seen > facts.changes else ""


def count_of(query: Execute) -> int:
    """Return the count of changes on the disk, as it is there."""
    return max((int(count) for (count,) in query("SELECT count FROM binding")), default=0)


def store(query: Execute, vault: SupportsBinding, binding: RecordBinding) -> None:
    """Write the binding."""
    query("DELETE FROM binding")
    query(
        "INSERT INTO binding VALUES (?, ?, ?, ?)",
        binding.count, binding.seen, binding.sum.to_bytes(_BITS // 8, "big"),
        vault.mac(binding.text()),
    )  # fmt: skip


def _load(query: Execute, vault: SupportsBinding) -> RecordBinding | None:
    """Return the binding; None where there is none, or another hand has written it."""
    for count, seen, total, mac in query("SELECT count, seen, sum, mac FROM binding"):
        found = RecordBinding(count, seen, int.from_bytes(total, "big"))
        if hmac.compare_digest(vault.mac(found.text()), mac):
            return found
    return None
