"""How many children a gateway has at the cloud, and how many more it may have."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

NEARLY_FULL = 0.95

Key = TypeVar("Key", bound=Hashable)


class Quota(Generic[Key]):
    """A count of the children at the cloud: what it reported last, and what was done since.

    limit: children that the cloud lets a gateway have.
    most: children that are remembered, however many the cloud names.
    names: the children that the cloud has.
    """

    def __init__(self, limit: int, most: int) -> None:
        self._limit, self._most = limit, most
        self._reserved: set[Key] = set()
        self._warned = False
        self.names: set[Key] = set()

    def reserve(self, name: Key) -> None:
        """Count a child that is about to be added."""
        if name not in self.names:
            self._reserved.add(name)
        if self._count() >= NEARLY_FULL * self._limit and not self._warned:
            self._warned = True
            log.warning(
                "The gateway has %d of the %d children that the cloud lets it have.",
                self._count(),
                self._limit,
            )

    def release(self, name: Key) -> None:
        """Stop counting a child that is not to be added after all."""
        self._reserved.discard(name)

    def drop(self, name: Key) -> None:
        """Note that the cloud does not have a child, and stop counting it."""
        self._reserved.discard(name)
        self.names.discard(name)

    def add(self, name: Key) -> None:
        """Note that the cloud has a child."""
        self._reserved.discard(name)
        if len(self.names) < self._most:
            self.names.add(name)

    def replace(self, names: frozenset[Key]) -> None:
        """Note which children the cloud has, and that it has no others."""
        self.names = set(names)
        self._reserved -= self.names

    def remove(self, name: Key) -> bool:
        """Note that the cloud has a child no more; return whether it had."""
        known = name in self.names
        self.names.discard(name)
        return known

    def has_room(self, name: Key) -> bool:
        """Whether this child may be added, or is counted already."""
        return name in self.names or name in self._reserved or self._count() < self._limit

    def _count(self) -> int:
        return len(self.names) + len(self._reserved)
