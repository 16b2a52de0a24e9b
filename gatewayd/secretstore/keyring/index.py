"""The index of what gatewayd has put into a keyring: a keyring itself lists nothing.

An entry is in the index, on the disk, before the keyring is given its secret, and until the
keyring has been seen to be without it.  So a crash at any moment leaves nothing unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.runtime.sqlite import Database
from gatewayd.secretstore.store import username_range

VERSION = 2
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


class EntryState(StrEnum):
    """The state of an entry."""

    INTENDED = "intended"  # the keyring may hold it
    STORED = "stored"  # it was read back
    QUARANTINED = "quarantined"
    DELETING = "deleting"  # to be deleted as soon as the keyring allows


_FORMER_STATES = {
    "held": EntryState.STORED,
    "aside": EntryState.QUARANTINED,
    "doomed": EntryState.DELETING,
}
"""The words of the first version; some of its files have the newer ones, and some have both."""

STEPS = {
    0: SCHEMA,
    1: tuple(
        f"UPDATE slot SET state = '{state}' WHERE state = '{former}'"  # noqa: S608  # ours alone
        for former, state in _FORMER_STATES.items()
    ),
}
"""From each earlier version to the next; from 0 to the first."""

LIVE = (EntryState.INTENDED, EntryState.STORED)


class KeyringEntry(NamedTuple):
    """An entry of the keyring.  service, entry: its names there.  username: that of the slot.

    The two differ where the name was taken when the slot was written: by a secret in quarantine,
    or by one that this replaces.
    """

    id: int
    service: str
    username: str
    entry: str
    state: str


class EntryChange(NamedTuple):
    """A change of an entry's state that is made when the group is committed."""

    id: int
    state: EntryState
    why: str = ""


_ENTRY = "SELECT id, service, username, entry, state FROM slot"


class KeyringIndex(Database):
    """A list of entries, in `directory`/keyring.db.  A change is durable when the call returns."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "keyring.db", SCHEMA, VERSION, STEPS)

    def witness(self, new: str) -> str:
        """Return the text by which the keyring is recognised: `new`, the first time."""
        rows = self._run("SELECT value FROM witness")
        if not rows:
            self._run("INSERT INTO witness VALUES (?)", new)
        return str(rows[0][0]) if rows else new

    def intend(self, service: str, username: str) -> KeyringEntry:
        """Add an entry that is about to be written, or return the one that was."""
        for entry in self.live(service, username):
            if entry.state == EntryState.INTENDED:
                return entry
        taken = self._run("SELECT 1 FROM slot WHERE service = ? AND entry = ?", service, username)
        number = "(SELECT coalesce(max(id), 0) + 1 FROM slot)"
        name = f"? || '+' || {number}" if taken else "?"
        self._run(
            "INSERT INTO slot (service, username, entry, state, why) "  # noqa: S608  # ours
            f"VALUES (?, ?, {name}, ?, '')",
            service, username, username, EntryState.INTENDED,
        )  # fmt: skip
        return self.live(service, username)[0]

    def live(self, service: str, username: str) -> list[KeyringEntry]:
        """Return the entries that may hold the secret of a slot, the newest first."""
        sql = f"{_ENTRY} WHERE username = ? AND service = ? AND state IN (?, ?) ORDER BY id DESC"
        return self._entries(sql, username, service, *LIVE)

    def all_live(self, device: DeviceId | None = None) -> list[KeyringEntry]:
        """Return the entries of all slots, or of all that one device has."""
        sql = f"{_ENTRY} WHERE state IN (?, ?)"
        if device is None:
            return self._entries(sql, *LIVE)
        between = username_range(device)
        return self._entries(f"{sql} AND username >= ? AND username < ?", *LIVE, *between)

    def in_state(self, state: EntryState, limit: int = -1) -> list[KeyringEntry]:
        """Return the entries in a state, the oldest first, so many at most."""
        return self._entries(f"{_ENTRY} WHERE state = ? ORDER BY id LIMIT ?", state, limit)

    def expects_entries(self) -> bool:
        """Return whether the keyring was ever seen to hold something that it should still hold."""
        return bool(self._run("SELECT 1 FROM slot WHERE state <> ? LIMIT 1", EntryState.INTENDED))

    def set(self, entry: int, state: EntryState) -> None:
        """Change the state of one entry."""
        self._run("UPDATE slot SET state = ? WHERE id = ?", state, entry)

    def apply(self, changes: Iterable[EntryChange]) -> None:
        """Change the state of many, all or none."""
        self.begin()
        for change in changes:
            sql = "UPDATE slot SET state = ?, why = ? WHERE id = ?"
            self._run(sql, change.state, change.why, change.id)
        self.commit()

    def forget(self, entry: int) -> None:
        """Remove an entry from the index: the keyring does not hold it."""
        self._run("DELETE FROM slot WHERE id = ?", entry)

    def expire(self, now: int, kept: int) -> None:
        """Mark for deletion what has been in quarantine for `kept` since a call first found it.

        now, kept: microseconds.
        """
        quarantined = EntryState.QUARANTINED
        self._run("UPDATE slot SET since = ? WHERE since IS NULL AND state = ?", now, quarantined)
        self._run(
            "UPDATE slot SET state = ? WHERE state = ? AND since <= ?",
            EntryState.DELETING, quarantined, now - kept,
        )  # fmt: skip

    def _entries(self, sql: str, *values: object) -> list[KeyringEntry]:
        return [KeyringEntry(*row) for row in self._run(sql, *values)]
