"""Which admitted child a topic or a payload means: by id, by name at its cloud, or by a claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from gatewayd.device.identity import MAX_VALUE, DeviceId, claim
from gatewayd.device.record import Record, RecordStore
from gatewayd.messages.doors.site.topic_pattern import ChildKey

REFRESH = 5.0
"""Seconds between two readings of all records: so long a new child may be unknown."""


class ChildDirectory(Protocol):
    """The children that may speak."""

    def find(self, key: ChildKey, text: str) -> DeviceId | None:
        """Return the one admitted child that this identifies; None for none, or for several."""


class RecordedChildren:
    """The `ChildDirectory` of the children on record.

    What was found is compared with the record each time, so that a child which is forgotten or
    rejected is unknown at once.  now: seconds of a steady clock.
    """

    def __init__(self, records: RecordStore, now: Callable[[], float]) -> None:
        self._records, self._now = records, now
        self._known: dict[tuple[ChildKey, str], set[DeviceId]] = {}
        self._read_at = float("-inf")

    def find(self, key: ChildKey, text: str) -> DeviceId | None:
        """Return the one admitted child that this identifies; None for none, or for several."""
        if key is ChildKey.ID:
            child = DeviceId(text)
            return child if _is_admitted(self._records.get(child)) else None
        if not (value := _normalised(key, text)):
            return None
        wanted = (key, value)
        return self._current(wanted) or (self._current(wanted) if self._refresh() else None)

    def identities(self, child: DeviceId) -> Mapping[ChildKey, str]:
        """Return by what an admitted child is identified; of several of a kind, none.

        Empty for a child that is not admitted.
        """
        record = self._records.get(child)
        if record is None or not _is_admitted(record):
            return {}
        texts: dict[ChildKey, set[str]] = {ChildKey.ID: {child}}
        for key, text in _identities(record):
            texts.setdefault(key, set()).add(text)
        return {key: min(found) for key, found in texts.items() if len(found) == 1}

    def _current(self, wanted: tuple[ChildKey, str]) -> DeviceId | None:
        found = [child for child in self._known.get(wanted, ()) if self._is(child, wanted)]
        return found[0] if len(found) == 1 else None

    def _is(self, child: DeviceId, wanted: tuple[ChildKey, str]) -> bool:
        record = self._records.get(child)
        return record is not None and _is_admitted(record) and wanted in _identities(record)

    def _refresh(self) -> bool:
        """Read all records, unless that was just done; return whether it was done."""
        if self._now() - self._read_at < REFRESH:
            return False
        self._read_at = self._now()
        self._known = {}
        for record in self._records.all():
            if _is_admitted(record):
                for identity in _identities(record):
                    self._known.setdefault(identity, set()).add(record.device)
        return True


def _is_admitted(record: Record | None) -> bool:
    return record is not None and record.may_speak and record.cloud is not None


def _identities(record: Record) -> Iterator[tuple[ChildKey, str]]:
    """Yield by what a child can be meant, normalised."""
    if record.cloud is not None:
        yield ChildKey.NAME, record.cloud.device
    for claimed in record.claims:
        if claimed.kind in (ChildKey.SERIAL, ChildKey.MAC, ChildKey.UUID):
            yield ChildKey(claimed.kind), claimed.value


def _normalised(key: ChildKey, text: str) -> str:
    """Return a text as records have it; "" for what identifies nothing."""
    if key is ChildKey.NAME:
        return text if len(text) <= MAX_VALUE else ""
    claimed = claim(key, "", text)
    return claimed.value if claimed else ""
