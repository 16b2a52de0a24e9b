"""Which device a sighting is of.  Pure: no clock, no I/O.

1. Only strong claims merge: certificate, serial, uuid, MAC.  Names and addresses never do.  A
   UUID, and a MAC that a vendor has assigned, merge whatever announces them.
2. Two values of one kind and namespace are two devices, MACs excepted.
3. A MAC in front of several devices (a bridge, a router) distinguishes none of them.
4. An origin stays with its device, unless the device there shows another identity.
5. Two pinned devices are never merged: they conflict, and a person decides.
6. A known identity behind another kernel MAC has moved or was cloned: it stays the same
   device, the MAC is not accepted as its own, and it conflicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations

from gatewayd.device.identity import KERNEL, Claim, DeviceId, device_id, strength, universal
from gatewayd.discovery.discoverer import Origin
from gatewayd.discovery.queues import EvictionQueue
from gatewayd.discovery.settings import MAX_LISTED

DIGITS = (12, 20, 40, 64)
"""How many hex digits an id may have: more than the first only where the id is another's."""

IDENTITY_CONFLICT = "identity-conflict"
MOVED_OR_CLONED = "moved-or-cloned"

SHARED = 4
"""A MAC in front of so many devices with serials or uuids is a bridge's or a router's."""
MAX_HOLDERS = 64
"""How many devices are remembered behind one MAC: more would change nothing."""
MAX_SHARED = 1024
"""How many such MACs are remembered."""

BINDING = 50
"""The weight of an origin that was the device's before; less than any strong claim's."""
MAX_CLAIMS = 32
MAX_ORIGINS = 16

_EXCLUSIVE = frozenset({"cert", "serial", "uuid"})
"""Kinds of which a device has one value in a namespace.  Of MACs it may have several."""


def is_exclusive(one: Claim) -> bool:
    """Whether a device can have no other value of this kind in this namespace."""
    return one.kind in _EXCLUSIVE


def is_kernel_mac(one: Claim) -> bool:
    """Whether the kernel saw this MAC itself.  No announcement can write such a claim."""
    return one.kind == "mac" and one.namespace == KERNEL


def consistent(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return the claims strongest first, without those that contradict one another."""
    distinct = set(claims)
    values = Counter((c.kind, c.namespace) for c in distinct if is_exclusive(c))
    kept = (c for c in distinct if values[c.kind, c.namespace] < 2)  # noqa: PLR2004  # two contradict
    return tuple(sorted(kept, key=lambda c: (-strength(c), c)))


def contradict(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims cannot be of one device: two values where only one can be."""
    ours = {(c.kind, c.namespace): c.value for c in some if is_exclusive(c)}
    return any(
        ours.get((c.kind, c.namespace), c.value) != c.value for c in others if is_exclusive(c)
    )


def is_kept(one: Claim) -> bool:
    """Whether a claim identifies a device, or is the kernel's MAC of it."""
    return strength(one) > 0 or is_kernel_mac(one)


def kernel_macs(claims: Iterable[Claim]) -> frozenset[Claim]:
    """Return the MACs that the kernel saw itself."""
    return frozenset(c for c in claims if is_kernel_mac(c))


def possible_ids(claims: Iterable[Claim], *origin: object) -> Iterator[DeviceId]:
    """Yield the ids a device may have, shortest first: of its claims, or else of its origin."""
    own, fallback = tuple(claims), "|".join(map(str, origin))
    return (device_id(own, fallback, digits=digits) for digits in DIGITS)


@dataclass(slots=True, eq=False)
class KnownDevice:
    """One device: what identifies it, and its origins, oldest first.

    born: its number, in order of creation.  listed: whether an operator has listed it.
    """

    device: DeviceId
    born: int
    pinned: bool = False
    listed: bool = False
    rank: int = 0
    claims: set[Claim] = field(default_factory=set)
    origins: tuple[Origin, ...] = ()

    @property
    def seniority(self) -> tuple[bool, int]:
        """The sort key for which of two is kept in a merger: the pinned, then the older."""
        return not self.pinned, self.born

    def may_merge(self, other: KnownDevice) -> bool:
        """Whether the two may be one device."""
        return not (self.pinned and other.pinned) and not contradict(self.claims, other.claims)


def _key(one: Claim) -> Claim:
    """Return what a claim is looked up by."""
    return universal(one) or one


class ClaimIndex:
    """The devices by claim, in the order in which they came to hold it.

    A claim that means the same in all namespaces has the same holders in all of them.
    """

    def __init__(self) -> None:
        self._holders: dict[Claim, tuple[KnownDevice, ...]] = {}
        self._shared: dict[Claim, None] = {}

    def __getitem__(self, one: Claim) -> tuple[KnownDevice, ...]:
        return self._holders.get(_key(one), ())

    def add(self, one: Claim, holder: KnownDevice) -> None:
        """Add a holder, if there is room for another."""
        held = self[one]
        if holder not in held and len(held) < MAX_HOLDERS:
            self._holders[_key(one)] = (*held, holder)

    def discard(self, one: Claim, holder: KnownDevice) -> None:
        """Remove a holder, unless it holds the same in another namespace."""
        key = _key(one)
        if any(_key(other) == key for other in holder.claims if other != one):
            return
        left = tuple(other for other in self[one] if other is not holder)
        if left:
            self._holders[key] = left
        else:
            self._holders.pop(key, None)

    def is_shared(self, one: Claim) -> bool:
        """Whether a MAC distinguishes no device: many are behind it, or two that cannot be one.

        A shared MAC is remembered, as one of those devices may be forgotten before the others.
        """
        if one.kind != "mac":
            return False
        key = _key(one)
        if key not in self._shared and self._is_held_by_several(one):
            self._shared[key] = None
            if len(self._shared) > MAX_SHARED:
                del self._shared[next(iter(self._shared))]
        return key in self._shared

    def _is_held_by_several(self, one: Claim) -> bool:
        named = []
        for holder in self[one]:
            if any(is_exclusive(c) for c in holder.claims):
                named.append(holder.claims)
            if len(named) == SHARED:
                return True
        return any(contradict(*pair) for pair in combinations(named, 2))


@dataclass(frozen=True, slots=True)
class Resolved:
    """The result of resolving a sighting.

    merged: devices that were found to be `device`; they are gone.
    displaced: the device that this origin belonged to before; it is still known.
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
    """The resolver of sightings: all known devices, by what identifies them.

    limit: how many devices are kept that are neither pinned nor listed by an operator.  Of each
    device at most 32 claims and 16 origins are kept.
    """

    def __init__(self, *, limit: int = 4096) -> None:
        self.limit = limit
        self._devices: dict[DeviceId, KnownDevice] = {}
        self._bound: dict[Origin, KnownDevice] = {}
        self._claim_index = ClaimIndex()
        self._unpinned: EvictionQueue[KnownDevice] = EvictionQueue()
        self._listed: EvictionQueue[KnownDevice] = EvictionQueue()
        self._created = 0

    def __len__(self) -> int:
        return len(self._devices)

    def claims(self, device: DeviceId) -> frozenset[Claim]:
        """Return what identifies a device; nothing if it is not known."""
        return frozenset(self._devices[device].claims if device in self._devices else ())

    def is_pinned(self, device: DeviceId) -> bool:
        """Whether a device is never evicted and never merged into another."""
        return device in self._devices and self._devices[device].pinned

    def recognises(self, origin: Origin, claims: Iterable[Claim]) -> bool:
        """Whether a sighting seems to be of a pinned device.  A guess, for ranking only."""
        bound = self._bound_to(origin)
        holders = (known for one in claims if strength(one) for known in self._claim_index[one])
        return (bound is not None and bound.pinned) or any(known.pinned for known in holders)

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device, and accept all these claims as its own: they are on record, or approved."""
        known = self._devices.get(device) or self._create(device)
        self._discard(known)
        known.pinned = True
        accepted = consistent(claims)
        for one in [c for c in known.claims if contradict([c], accepted)]:
            self._drop_claim(known, one)
        for one in accepted:
            if is_kept(one):
                self._add_claim(known, one)

    def unpin(self, device: DeviceId) -> None:
        """Let a device be merged and evicted like any other."""
        known = self._devices.get(device)
        if known is not None and known.pinned:
            known.pinned = False
            self._put(known)

    def forget(self, device: DeviceId) -> None:
        """Remove a device."""
        known = self._devices.pop(device, None)
        if known is None:
            return
        self._discard(known)
        for one in tuple(known.claims):
            self._drop_claim(known, one)
        for origin in known.origins:
            del self._bound[origin]

    def resolve(
        self, origin: Origin, claims: Iterable[Claim], *, rank: int = 0, listed: bool = False
    ) -> Resolved:
        """Find or create the device of a sighting, and learn its claims.

        rank: how much it matters to keep the device when the table is full; the highest counts.
        listed: whether an operator has listed it; then it takes no room from others.
        """
        claimed = consistent(claims)
        before = self._bound_to(origin)
        group, rivals = self._choose(self._score(before, claimed), claimed)
        known = min(group, key=lambda e: e.seniority) if group else self._new(origin, claimed)
        gone = tuple(self._absorb(known, other) for other in group if other is not known)
        self._learn(known, claimed)
        self._bind(known, origin)
        known.rank, known.listed = max(known.rank, rank), known.listed or listed
        evicted = self._make_room(known)
        moved = not kernel_macs(claimed) <= known.claims
        return Resolved(
            known.device,
            merged=gone,
            displaced=before.device if before and before not in (known, *group) else None,
            evicted=evicted,
            conflict=IDENTITY_CONFLICT if rivals else MOVED_OR_CLONED if moved else "",
            rivals=tuple(r.device for r in rivals if r.device not in evicted),
        )

    def _score(
        self, before: KnownDevice | None, claimed: Sequence[Claim]
    ) -> dict[KnownDevice, int]:
        """Weigh the devices that a sighting may be of."""
        scores: dict[KnownDevice, int] = {}
        distinctive = [c for c in claimed if strength(c) and not self._claim_index.is_shared(c)]
        for one in distinctive:
            for known in self._claim_index[one]:
                scores[known] = scores.get(known, 0) + strength(one)
        if before is not None and self._continues(before, distinctive, claimed):
            scores[before] = scores.get(before, 0) + BINDING
        return scores

    def _continues(
        self, known: KnownDevice, distinctive: Sequence[Claim], claimed: Sequence[Claim]
    ) -> bool:
        """Whether the claims do not rule out that an origin's device is still there."""
        own = {c for c in known.claims if not self._claim_index.is_shared(c)}
        return not (own and distinctive) or not own.isdisjoint(claimed)

    def _choose(
        self, scores: dict[KnownDevice, int], claimed: Sequence[Claim]
    ) -> tuple[list[KnownDevice], list[KnownDevice]]:
        """Return the devices that are one, best first, and its rivals: those that cannot be it.

        A device that shares no more than a MAC with the sighting is no rival: MACs are shared.
        """
        group: list[KnownDevice] = []
        rivals: list[KnownDevice] = []
        for known in sorted(scores, key=lambda e: (-scores[e], e.seniority)):
            fits = not contradict(known.claims, claimed)
            if fits and all(known.may_merge(other) for other in group):
                group.append(known)
            elif fits or any(is_exclusive(c) and known in self._claim_index[c] for c in claimed):
                rivals.append(known)
        return group, rivals

    def _absorb(self, kept: KnownDevice, gone: KnownDevice) -> DeviceId:
        claims, origins = consistent(gone.claims), gone.origins
        self.forget(gone.device)
        self._learn(kept, claims)
        for origin in origins:
            self._bind(kept, origin)
        kept.rank, kept.listed = max(kept.rank, gone.rank), kept.listed or gone.listed
        return gone.device

    def _learn(self, known: KnownDevice, claimed: Sequence[Claim]) -> None:
        """Accept claims as a device's own, unless they are another's."""
        has_home = bool(kernel_macs(known.claims))
        for one in claimed:
            foreign = is_exclusive(one) and any(e is not known for e in self._claim_index[one])
            if not is_kept(one) or foreign or (has_home and is_kernel_mac(one)):
                continue
            if len(known.claims) < MAX_CLAIMS:
                self._add_claim(known, one)

    def _new(self, origin: Origin, claimed: Sequence[Claim]) -> KnownDevice:
        """Create a device, named by the claims that only it has, or else by its origin."""
        own = [c for c in claimed if strength(c) and not self._claim_index[c]]
        spare = possible_ids((), *origin, self._created)
        possible = chain(possible_ids(own, *origin), spare)
        return self._create(next(d for d in possible if d not in self._devices))

    def _create(self, device: DeviceId) -> KnownDevice:
        self._created += 1
        known = self._devices[device] = KnownDevice(device, self._created)
        return known

    def _bind(self, known: KnownDevice, origin: Origin) -> None:
        before = self._bound.get(origin)
        if before is not None:
            before.origins = tuple(one for one in before.origins if one != origin)
        self._bound[origin] = known
        if len(known.origins) == MAX_ORIGINS:
            del self._bound[known.origins[0]]
        known.origins = (*known.origins, origin)[-MAX_ORIGINS:]

    def _bound_to(self, origin: Origin) -> KnownDevice | None:
        """Return the device of an origin: remembered, or one whose id was made from the origin."""
        if origin in self._bound:
            return self._bound[origin]
        return self._devices.get(next(possible_ids((), *origin)))

    def _make_room(self, known: KnownDevice) -> tuple[DeviceId, ...]:
        if not known.pinned:
            self._put(known)
        evicted = []
        for queue, limit in ((self._unpinned, self.limit), (self._listed, MAX_LISTED)):
            while len(queue) > limit:
                victim = queue.lowest()
                self.forget(victim.device)
                evicted.append(victim.device)
        return tuple(evicted)

    def _put(self, known: KnownDevice) -> None:
        self._discard(known)
        (self._listed if known.listed else self._unpinned).put(known, known.rank)

    def _discard(self, known: KnownDevice) -> None:
        self._unpinned.discard(known)
        self._listed.discard(known)

    def _add_claim(self, known: KnownDevice, one: Claim) -> None:
        self._claim_index.add(one, known)
        known.claims.add(one)

    def _drop_claim(self, known: KnownDevice, one: Claim) -> None:
        self._claim_index.discard(one, known)
        known.claims.discard(one)
