"""What gatewayd has put into a keyring: a keyring cannot tell.

An entry is on this list, on the disk, before the keyring is given its secret, and until the
keyring has been seen to be without it.  So a crash at any moment leaves nothing unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.runtime.sqlite import Database
from gatewayd.secretstore.store import prefix

VERSION = 1
SCHEMA = (
    "CREATE TABLE witness (value TEXT NOT NULL) STRICT",
    """CREATE TABLE slot (
        id INTEGER PRIMARY KEY,
        service TEXT NOT NULL,
        username TEXT NOT NULL,
        entry TEXT NOT NULL,
        state TEXT NOT NULL,
        why TEXT NOT NULL,
        since INTEGER,
        UNIQUE (entry, service)
    ) STRICT""",
    "CREATE INDEX by_name ON slot (username, service)",
)


class Mark(StrEnum):
    """What became of an entry."""

    INTENDED = "intended"  # the keyring may hold it
    HELD = "held"  # it was read back
    ASIDE = "aside"  # in quarantine
    DOOMED = "doomed"  # to be deleted as soon as the keyring lets us


LIVE = (Mark.INTENDED, Mark.HELD)


class Slot(NamedTuple):
    """One entry.  service, entry: its names in the keyring.  username: that of the slot.

    The two differ where the name was taken when the slot was written: by a secret in quarantine,
    or by one that this replaces.
    """

    id: int
    service: str
    username: str
    entry: str
    state: str


class Plan(NamedTuple):
    """What is to become of an entry when the group is committed."""

    id: int
    state: Mark
    why: str = ""


_SLOT = "SELECT id, service, username, entry, state FROM slot"


class Index(Database):
    """The list, in `directory`/keyring.db.  Each change is durable when the call returns."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "keyring.db", SCHEMA, VERSION)

    def witness(self, new: str) -> str:
        """Return what the keyring is known by: `new`, the first time."""
        rows = self._run("SELECT value FROM witness")
        if not rows:
            self._run("INSERT INTO witness VALUES (?)", new)
        return str(rows[0][0]) if rows else new

    def intend(self, service: str, username: str) -> Slot:
        """Add an entry that is about to be written, or return the one that was."""
        for slot in self.live(service, username):
            if slot.state == Mark.INTENDED:
                return slot
        taken = self._run("SELECT 1 FROM slot WHERE service = ? AND entry = ?", service, username)
        number = "(SELECT coalesce(max(id), 0) + 1 FROM slot)"
        entry = f"? || '+' || {number}" if taken else "?"
        self._run(
            "INSERT INTO slot (service, username, entry, state, why) "  # noqa: S608  # ours
            f"VALUES (?, ?, {entry}, ?, '')",
            service, username, username, Mark.INTENDED,
        )  # fmt: skip
        return self.live(service, username)[0]

    def live(self, service: str, username: str) -> list[Slot]:
        """Return the entries that may hold a slot, the newest first."""
        sql = f"{_SLOT} WHERE username = ? AND service = ? AND state IN (?, ?) ORDER BY id DESC"
        return self._slots(sql, username, service, *LIVE)

    def all_live(self, device: DeviceId | None = None) -> list[Slot]:
        """Return the entries of all slots, or of all that one device has."""
        sql = f"{_SLOT} WHERE state IN (?, ?)"
        if device is None:
            return self._slots(sql, *LIVE)
        return self._slots(f"{sql} AND username >= ? AND username < ?", *LIVE, *prefix(device))

    def marked(self, state: Mark, limit: int = -1) -> list[Slot]:
        """Return the entries with a mark, the oldest first, so many at most."""
        return self._slots(f"{_SLOT} WHERE state = ? ORDER BY id LIMIT ?", state, limit)

    def known(self) -> bool:
        """Whether the keyring was ever seen to hold something that it should hold yet."""
        return bool(self._run("SELECT 1 FROM slot WHERE state <> ? LIMIT 1", Mark.INTENDED))

    def set(self, slot: int, state: Mark) -> None:
        """Mark one entry."""
        self._run("UPDATE slot SET state = ? WHERE id = ?", state, slot)

    def apply(self, plans: Iterable[Plan]) -> None:
        """Mark many, all or none."""
        self.begin()
        for plan in plans:
            sql = "UPDATE slot SET state = ?, why = ? WHERE id = ?"
            self._run(sql, plan.state, plan.why, plan.id)
        self.commit()

    def forget(self, slot: int) -> None:
        """Take an entry off the list: the keyring does not hold it."""
        self._run("DELETE FROM slot WHERE id = ?", slot)

    def age(self, now: int, kept: int) -> None:
        """Doom what has been aside for so long since the first call that found it there."""
        aside = Mark.ASIDE
        self._run("UPDATE slot SET since = ? WHERE since IS NULL AND state = ?", now, aside)
        self._run(
            "UPDATE slot SET state = ? WHERE state = ? AND since <= ?",
            Mark.DOOMED, aside, now - kept,
        )  # fmt: skip

    def _slots(self, sql: str, *values: object) -> list[Slot]:
        return [Slot(*row) for row in self._run(sql, *values)]
