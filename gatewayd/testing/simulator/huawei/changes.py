"""Which children a Huawei gateway got and lost, in versions.  No I/O.

Source: the vendor's pages on synchronization and notifications (api-iothub/iot_06_v5_3019 to 3021).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One child came or went.  child: parent_device_id, node_id, device_id."""

    version: int
    added: bool
    child: tuple[str, str, str]


@dataclass(slots=True)
class Changes:
    """Those of one gateway; the newest of each child is what counts.

    version: of the newest.  kept: how many are remembered.
    """

    kept: int
    version: int = 0
    _newest: dict[str, Change] = field(default_factory=dict)
    _order: deque[Change] = field(default_factory=deque)
    _forgotten: int = 0

    def note(self, child: tuple[str, str, str], *, added: bool) -> Change:
        """Remember a change, and give it the next version."""
        self.version += 1
        change = Change(self.version, added, child)
        self._newest[child[2]] = change
        self._order.append(change)
        if len(self._order) > self.kept:
            self._forget(self._order.popleft())
        return change

    def later(self, version: int) -> tuple[Change, ...] | None:
        """Return what changed after a version, the oldest first; None if that is forgotten."""
        if not self._forgotten <= version <= self.version:
            return None
        newest = self._newest
        return tuple(
            change
            for change in self._order
            if change.version > version and newest[change.child[2]] is change
        )

    def of(self, device_id: str) -> int:
        """Return the version of a child's newest change; 0 if that is forgotten."""
        change = self._newest.get(device_id)
        return change.version if change else 0

    def _forget(self, change: Change) -> None:
        self._forgotten = change.version
        if self._newest.get(change.child[2]) is change:
            del self._newest[change.child[2]]


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield so many items at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
