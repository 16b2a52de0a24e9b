"""Which device a sighting is of.  Pure: no clock, no I/O.

1. Only strong claims merge: certificate, serial, uuid, MAC.  Names and addresses never do.
2. Two values of one kind and namespace are two devices, MACs excepted.
3. A MAC in front of several devices (a bridge, a router) tells none of them apart.
4. A place (source, key) stays with its device, unless the device there shows another identity.
5. Two pinned devices are never merged: they conflict, and a person decides.
6. A known identity behind another kernel MAC has moved or was cloned: it stays the same
   device, the MAC is not taken for its own, and it conflicts.

The devices of the resolver: which of them hold a claim, and whether it tells them apart.

What two sets of claims say of one another: the grounds on which the resolver decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import TypeAlias

from gatewayd.device.identity import Claim, DeviceId, device_id, strength
from gatewayd.discovery.queues import Ladder

KERNEL = "l2"
"""The namespace of a MAC that the kernel saw itself."""

DIGITS = (12, 20, 40, 64)
"""How many hex digits an id may have: more than the first only where the id is another's."""

_EXCLUSIVE = frozenset({"cert", "serial", "uuid"})
"""Kinds of which a device has one value in a namespace.  Of MACs it may have several."""


def is_exclusive(one: Claim) -> bool:
    """Whether a device can have no other value of this kind in this namespace."""
    return one.kind in _EXCLUSIVE


def is_kernel_mac(one: Claim) -> bool:
    """Whether the kernel vouches for this MAC.  Whoever does so for it, no device can."""
    return one.kind == "mac" and one.namespace == KERNEL


def consistent(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return the claims strongest first, without those that contradict one another."""
    distinct = set(claims)
    values = Counter((c.kind, c.namespace) for c in distinct if is_exclusive(c))
    kept = (c for c in distinct if values[c.kind, c.namespace] < 2)  # noqa: PLR2004  # two quarrel
    return tuple(sorted(kept, key=lambda c: (-strength(c), c)))


def contradict(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims cannot be of one device: two values where only one can be."""
    ours = {(c.kind, c.namespace): c.value for c in some if is_exclusive(c)}
    return any(
        ours.get((c.kind, c.namespace), c.value) != c.value for c in others if is_exclusive(c)
    )


def is_kept(one: Claim) -> bool:
    """Whether a claim says who a device is, or where it is at home."""
    return strength(one) > 0 or is_kernel_mac(one)


def kernel_macs(claims: Iterable[Claim]) -> frozenset[Claim]:
    """Return the MACs that the kernel saw."""
    return frozenset(c for c in claims if is_kernel_mac(c))


def ids(claims: Iterable[Claim], *place: object) -> Iterator[DeviceId]:
    """Yield the ids a device may have, shortest first: of its claims; without any, of its place."""
    own, fallback = tuple(claims), "|".join(map(str, place))
    return (device_id(own, fallback, digits=digits) for digits in DIGITS)


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


BINDING = 50
"""What it weighs that a place was the device's before; less than any strong claim."""
MAX_CLAIMS = 32
MAX_PLACES = 16

IDENTITY_CONFLICT = "identity-conflict"
MOVED_OR_CLONED = "moved-or-cloned"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a sighting turned out to be.

    merged: devices that were found to be `device`; they are gone.
    displaced: the device that this place belonged to before; it is still known.
    evicted: devices that had to make room, perhaps `device` itself; they are gone.
    conflict: "", "identity-conflict" or "moved-or-cloned".
    rivals: the other devices in the conflict.
    """

    device: DeviceId
    merged: tuple[DeviceId, ...] = ()
    displaced: DeviceId | None = None
    evicted: tuple[DeviceId, ...] = ()
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()


class Resolver:
    """All known devices, by what identifies them.

    limit: how many devices are kept that are not pinned.  Of each device at most 32 claims and
    16 places are kept.
    """

    def __init__(self, *, limit: int = 4096) -> None:
        self._limit = limit
        self._entries: dict[DeviceId, Entry] = {}
        self._bound: dict[Place, Entry] = {}
        self._holders = Holders()
        self._unpinned: Ladder[Entry] = Ladder()
        self._births = 0

    def __len__(self) -> int:
        return len(self._entries)

    def claims(self, device: DeviceId) -> frozenset[Claim]:
        """Return what identifies a device; nothing if it is not known."""
        return frozenset(self._entries[device].claims if device in self._entries else ())

    def is_pinned(self, device: DeviceId) -> bool:
        """Whether a device is never evicted and never merged into another."""
        return device in self._entries and self._entries[device].pinned

    def recognises(self, place: Place, claims: Iterable[Claim]) -> bool:
        """Whether a sighting may well be of a pinned device.  A guess: to be used for ranking."""
        bound = self._bound_to(place)
        holders = (entry for one in claims if strength(one) for entry in self._holders[one])
        return (bound is not None and bound.pinned) or any(entry.pinned for entry in holders)

    def know(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device, and take all these claims for its own: they are on record, or approved."""
        entry = self._entries.get(device) or self._create(device)
        self._unpinned.discard(entry)
        entry.pinned = True
        accepted = consistent(claims)
        for one in [c for c in entry.claims if contradict([c], accepted)]:
            self._drop_claim(entry, one)
        for one in accepted:
            if is_kept(one):
                self._add_claim(entry, one)

    def unpin(self, device: DeviceId) -> None:
        """Let a device be merged and evicted like any other."""
        entry = self._entries.get(device)
        if entry is not None and entry.pinned:
            entry.pinned = False
            self._unpinned.put(entry, entry.rank)

    def forget(self, device: DeviceId) -> None:
        """Know a device no more."""
        entry = self._entries.pop(device, None)
        if entry is None:
            return
        self._unpinned.discard(entry)
        for one in tuple(entry.claims):
            self._drop_claim(entry, one)
        for place in entry.places:
            del self._bound[place]

    def resolve(self, source: str, key: str, claims: Iterable[Claim], *, rank: int = 0) -> Resolved:
        """Find or make the device of a sighting, and learn what it tells.

        rank: how much it matters to keep the device when the table is full; the highest counts.
        """
        place, heard = (source, key), consistent(claims)
        before = self._bound_to(place)
        group, rivals = self._choose(self._score(before, heard), heard)
        entry = min(group, key=lambda e: e.seniority) if group else self._make(place, heard)
        gone = tuple(self._absorb(entry, other) for other in group if other is not entry)
        self._learn(entry, heard)
        self._bind(entry, place)
        evicted = self._make_room(entry, rank)
        moved = not kernel_macs(heard) <= entry.claims
        return Resolved(
            entry.device,
            merged=gone,
            displaced=before.device if before and before not in (entry, *group) else None,
            evicted=evicted,
            conflict=IDENTITY_CONFLICT if rivals else MOVED_OR_CLONED if moved else "",
            rivals=tuple(r.device for r in rivals if r.device not in evicted),
        )

    def _score(self, before: Entry | None, heard: Sequence[Claim]) -> dict[Entry, int]:
        """Weigh the devices that the sighting may be of."""
        scores: dict[Entry, int] = {}
        telling = [c for c in heard if strength(c) and not self._holders.is_shared(c)]
        for one in telling:
            for entry in self._holders[one]:
                scores[entry] = scores.get(entry, 0) + strength(one)
        if before is not None and self._continues(before, telling, heard):
            scores[before] = scores.get(before, 0) + BINDING
        return scores

    def _continues(self, entry: Entry, telling: Sequence[Claim], heard: Sequence[Claim]) -> bool:
        """Whether what is at a device's place now may be the device: nothing says otherwise."""
        own = {c for c in entry.claims if not self._holders.is_shared(c)}
        return not (own and telling) or not own.isdisjoint(heard)

    def _choose(
        self, scores: dict[Entry, int], heard: Sequence[Claim]
    ) -> tuple[list[Entry], list[Entry]]:
        """Return the devices that are one, best first, and those that must not be and yet seem so.

        A device that shares no more than a MAC with the sighting is no rival: MACs are shared.
        """
        group: list[Entry] = []
        rivals: list[Entry] = []
        for entry in sorted(scores, key=lambda e: (-scores[e], e.seniority)):
            fits = not contradict(entry.claims, heard)
            if fits and all(entry.may_merge(other) for other in group):
                group.append(entry)
            elif fits or any(is_exclusive(c) for c in entry.claims.intersection(heard)):
                rivals.append(entry)
        return group, rivals

    def _absorb(self, kept: Entry, gone: Entry) -> DeviceId:
        claims, places = consistent(gone.claims), gone.places
        self.forget(gone.device)
        self._learn(kept, claims)
        for place in places:
            self._bind(kept, place)
        kept.rank = max(kept.rank, gone.rank)
        return gone.device

    def _learn(self, entry: Entry, heard: Sequence[Claim]) -> None:
        """Take what was heard for the device's own, unless it is another's."""
        housed = bool(kernel_macs(entry.claims))
        for one in heard:
            foreign = is_exclusive(one) and any(e is not entry for e in self._holders[one])
            if not is_kept(one) or foreign or (housed and is_kernel_mac(one)):
                continue
            if len(entry.claims) < MAX_CLAIMS:
                self._add_claim(entry, one)

    def _make(self, place: Place, heard: Sequence[Claim]) -> Entry:
        """Make a device, named by what is its alone; by its place, where nothing is."""
        own = [c for c in heard if strength(c) and not self._holders[c]]
        spare = ids((), *place, self._births)
        possible = chain(ids(own, *place), spare)
        return self._create(next(d for d in possible if d not in self._entries))

    def _create(self, device: DeviceId) -> Entry:
        self._births += 1
        entry = self._entries[device] = Entry(device, self._births)
        return entry

    def _bind(self, entry: Entry, place: Place) -> None:
        before = self._bound.get(place)
        if before is not None:
            before.places = tuple(one for one in before.places if one != place)
        self._bound[place] = entry
        if len(entry.places) == MAX_PLACES:
            del self._bound[entry.places[0]]
        entry.places = (*entry.places, place)[-MAX_PLACES:]

    def _bound_to(self, place: Place) -> Entry | None:
        """Return the device of a place: remembered, or one whose id was made from the place."""
        if place in self._bound:
            return self._bound[place]
        return self._entries.get(next(ids((), *place)))

    def _make_room(self, entry: Entry, rank: int) -> tuple[DeviceId, ...]:
        entry.rank = max(entry.rank, rank)
        if not entry.pinned:
            self._unpinned.put(entry, entry.rank)
        evicted = []
        while len(self._unpinned) > self._limit:
            victim = self._unpinned.lowest()
            self.forget(victim.device)
            evicted.append(victim.device)
        return tuple(evicted)

    def _add_claim(self, entry: Entry, one: Claim) -> None:
        self._holders.add(one, entry)
        entry.claims.add(one)

    def _drop_claim(self, entry: Entry, one: Claim) -> None:
        self._holders.discard(one, entry)
        entry.claims.discard(one)
