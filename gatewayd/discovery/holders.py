"""The devices of the resolver: which of them hold a claim, and whether it tells them apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.discovery.claims import contradict, is_exclusive

Place: TypeAlias = tuple[str, str]
"""The source and key of a sighting."""

SHARED = 4
"""A MAC in front of so many devices with serials or uuids is a bridge's or a router's."""
MAX_HOLDERS = 64
"""How many devices are remembered behind one MAC: more would change nothing."""

MAX_SHARED = 1024
"""How many such MACs are remembered."""


@dataclass(slots=True, eq=False)
class Entry:
    """One device: what identifies it, and where it was seen, oldest first.

    born: its number, in order.
    """

    device: DeviceId
    born: int
    pinned: bool = False
    rank: int = 0
    claims: set[Claim] = field(default_factory=set)
    places: tuple[Place, ...] = ()

    @property
    def seniority(self) -> tuple[bool, int]:
        """What comes first where two are one: the pinned, then the older."""
        return not self.pinned, self.born

    def may_merge(self, other: Entry) -> bool:
        """Whether nothing forbids that the two are one device."""
        return not (self.pinned and other.pinned) and not contradict(self.claims, other.claims)


class Holders:
    """Devices by claim, in the order in which they came to hold it."""

    def __init__(self) -> None:
        self._holders: dict[Claim, tuple[Entry, ...]] = {}
        self._shared: dict[Claim, None] = {}

    def __getitem__(self, one: Claim) -> tuple[Entry, ...]:
        return self._holders.get(one, ())

    def add(self, one: Claim, holder: Entry) -> None:
        """Note a holder, while there is room for another."""
        held = self[one]
        if holder not in held and len(held) < MAX_HOLDERS:
            self._holders[one] = (*held, holder)

    def discard(self, one: Claim, holder: Entry) -> None:
        """Note that a device holds a claim no more."""
        left = tuple(entry for entry in self[one] if entry is not holder)
        if left:
            self._holders[one] = left
        else:
            self._holders.pop(one, None)

    def is_shared(self, one: Claim) -> bool:
        """Whether a MAC says nothing of who is behind it: many are, or two that cannot be one.

        Once found out it is remembered, as who told us so may be forgotten before the others.
        """
        if one.kind != "mac":
            return False
        if one not in self._shared and self._is_held_by_several(one):
            self._shared[one] = None
            if len(self._shared) > MAX_SHARED:
                del self._shared[next(iter(self._shared))]
        return one in self._shared

    def _is_held_by_several(self, one: Claim) -> bool:
        named = []
        for holder in self[one]:
            if any(is_exclusive(c) for c in holder.claims):
                named.append(holder.claims)
            if len(named) == SHARED:
                return True
        return any(contradict(*pair) for pair in combinations(named, 2))
