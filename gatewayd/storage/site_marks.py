"""What state.db knows of each child of a site of several gateways: a mark for each blob in etcd.

A mark says up to which write of the site the record and the secrets here are the site's, and
whether the child is this gateway's.  Marks are bound to the vault as the records are: an older mark
beside a newer record would have a taker trust the wrong one of two secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from gatewayd.device.identity import DeviceId
from gatewayd.runtime.sqlite import Execute
from gatewayd.storage.record_binding import BoundRecords

TABLE: Final = """CREATE TABLE site_child (
        name TEXT PRIMARY KEY,
        device TEXT NOT NULL,
        revision INTEGER NOT NULL,
        serial INTEGER NOT NULL,
        standing INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID"""

ALL_BOUND: Final = "SELECT 'site ' || name, device, revision, serial, standing FROM site_child"
"""Marks as they are bound: no record, and no answer, has such an id."""


class MarkStanding(IntEnum):
    """Whose a child of the site is, as far as this gateway knows; each number is on the disk."""

    OURS = 0
    MERGING = 1  # its record and its secrets are being taken over, and may not fit one another
    AWAY = 2  # another gateway has it, or is free to


@dataclass(frozen=True, slots=True)
class SiteMark:
    """A mark.

    device: the child's id here.
    revision: of etcd, of the last blob that was written from here, or merged; 0 for none yet.
    serial: of that blob.
    """

    device: DeviceId
    revision: int
    serial: int
    standing: MarkStanding = MarkStanding.OURS


class SiteMarks:
    """The table, inside an open state.db.  Used on the commit thread; its methods raise StoreError.

    name: of a child's key in etcd, of 64 hex digits.
    """

    def __init__(self, query: Execute, bound: BoundRecords) -> None:
        self._query, self._bound = query, bound

    def all(self) -> Mapping[str, SiteMark]:
        """Return all marks, by names."""
        rows = self._query("SELECT name, device, revision, serial, standing FROM site_child")
        return {
            name: SiteMark(DeviceId(device), revision, serial, MarkStanding(standing))
            for name, device, revision, serial, standing in rows
        }

    def put(self, name: str, mark: SiteMark) -> None:
        """Replace a mark, within a group."""
        row = (mark.device, mark.revision, mark.serial, int(mark.standing))
        self._bound.change(_bound_name(name), (_bound_name(name), *row), self._present)
        self._query("REPLACE INTO site_child VALUES (?, ?, ?, ?, ?)", name, *row)

    def remove(self, name: str) -> None:
        """Remove a mark, within a group, if there is one."""
        self._bound.change(_bound_name(name), None, self._present)
        self._query("DELETE FROM site_child WHERE name = ?", name)

    def devices(self, standing: MarkStanding) -> frozenset[DeviceId]:
        """Return the children of one standing."""
        rows = self._query("SELECT device FROM site_child WHERE standing = ?", int(standing))
        return frozenset(DeviceId(device) for (device,) in rows)

    def release(self, device: DeviceId) -> None:
        """Remove the marks of a child that is away, within a group: it is forgotten here."""
        rows = self._query(
            "SELECT name FROM site_child WHERE device = ? AND standing = ?",
            device, int(MarkStanding.AWAY),
        )  # fmt: skip
        for (name,) in rows:
            self.remove(name)

    def _present(self, bound: str) -> tuple[Any, ...] | None:
        name = bound.removeprefix(_bound_name(""))
        return next(iter(self._query(f"{ALL_BOUND} WHERE name = ?", name)), None)


def _bound_name(name: str) -> str:
    return f"site {name}"
