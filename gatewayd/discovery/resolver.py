"""Which device a sighting is of.  Pure: no clock, no I/O.

1. Only strong claims merge: certificate, serial, uuid, MAC.  Names and addresses never do.  A
   UUID, and a MAC that a vendor has assigned, merge whatever announces them.
2. Two values of one kind and namespace are two devices, MACs excepted.
3. A MAC in front of several devices (a bridge, a router) distinguishes none of them.
4. An origin stays with its device, unless the device there shows another identity.
5. Two pinned devices are never merged: they conflict, and a person decides.
6. A known identity behind another kernel MAC has moved or was cloned: it stays the same
   device, the MAC is not accepted as its own, and it conflicts.
7. One serial announced with two universal MACs is of two devices in conflict, unless one sighting
   shows both, or both show one UUID or key.
8. A serial or UUID that several devices show identifies none of them, as a factory's default.
   What is on record of a child, or listed, keeps its meaning.  What a stranger has shown counts
   for nothing against others once it has left.
9. What an operator has answered goes before all of these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain

from gatewayd.device.identity import (
    EVERYWHERE,
    KERNEL,
    NO_DEVICE,
    Claim,
    DeviceId,
    are_several,
    consistent,
    contradict,
    held_once,
    is_exclusive,
    is_kept,
    is_kernel_mac,
    kernel_macs,
    key_of,
    may_be_one,
    possible_ids,
    share_key,
    strength,
)
from gatewayd.discovery.common_claims import CommonClaims
from gatewayd.discovery.comparison import OwnClaims
from gatewayd.discovery.discoverer import Origin
from gatewayd.discovery.queues import EvictionQueue, share_of
from gatewayd.discovery.settings import MAX_LISTED

IDENTITY_CONFLICT = "identity-conflict"
MOVED_OR_CLONED = "moved-or-cloned"

BINDING = 50
"""The weight of an origin that was the device's before; less than any strong claim's."""
LEARNED = 20
"""The weight of a serial that a child shows, and that was not on record of it when it was pinned:
less than any that was."""
ANSWERED = 1000
"""The weight of what is a device's by an operator's answer."""
MAX_CLAIMS = 32
MAX_ORIGINS = 16
MAX_HOLDERS = 64
"""How many devices are remembered behind one MAC: more would change nothing."""
MAX_SHARED = 1024
"""How many such MACs are remembered."""

_FACTORY_MADE = frozenset({"serial", "uuid"})
"""Kinds of which many devices may have one value, as the factory sets it."""


@dataclass(slots=True, eq=False)
class KnownDevice:
    """One device: what identifies it, and its origins, oldest first.

    born: its number, in order of creation.  listed: whether an operator has listed it.
    accepted: those of its claims that were on record, or approved, when it was pinned.
    away: whether it is seen nowhere any more.
    """

    device: DeviceId
    born: int
    pinned: bool = False
    listed: bool = False
    away: bool = False
    rank: int = 0
    claims: frozenset[Claim] = frozenset()
    accepted: frozenset[Claim] = frozenset()
    origins: tuple[Origin, ...] = ()

    @property
    def seniority(self) -> tuple[bool, int]:
        """The sort key for which of two is kept in a merger: the pinned, then the older."""
        return not self.pinned, self.born

    def may_merge(self, other: KnownDevice) -> bool:
        """Whether the two may be one device."""
        return not (self.pinned and other.pinned) and not contradict(self.claims, other.claims)

    def is_on_record(self, key: Claim) -> bool:
        """Whether a claim has identified it since it was pinned, or an operator has listed it."""
        return self.listed or (self.pinned and key in self.accepted)


class ClaimIndex:
    """The devices by claim, in the order in which they came to hold it.

    A claim that means the same in all namespaces has the same holders in all of them.
    """

    def __init__(self) -> None:
        self._holders: dict[Claim, tuple[KnownDevice, ...]] = {}
        self._shared: dict[Claim, None] = {}

    def __getitem__(self, one: Claim) -> tuple[KnownDevice, ...]:
        return self._holders.get(key_of(one), ())

    def add(self, one: Claim, holder: KnownDevice) -> None:
        """Add a holder, if there is room for another."""
        held = self._holders.get(key := key_of(one), ())
        if holder not in held and len(held) < MAX_HOLDERS:
            self._holders[key] = (*held, holder)

    def discard(self, one: Claim, holder: KnownDevice) -> None:
        """Remove a holder, unless it holds the same in another namespace."""
        key = key_of(one)
        if any(key_of(other) == key for other in holder.claims if other != one):
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
        key = key_of(one)
        if key not in self._shared and are_several([holder.claims for holder in self[one]]):
            self._shared[key] = None
            if len(self._shared) > MAX_SHARED:
                del self._shared[next(iter(self._shared))]
        return key in self._shared


_NOTHING: frozenset[Claim] = frozenset()


class OperatorAnswers:
    """What operators have answered: whose a claim is, by what it is looked up by.

    NO_DEVICE: it identifies no device.
    """

    def __init__(self) -> None:
        self._whose: dict[Claim, DeviceId] = {}
        self._own: dict[DeviceId, set[Claim]] = {}

    def __len__(self) -> int:
        return len(self._whose)

    def __contains__(self, key: Claim) -> bool:
        return key in self._whose

    def whose(self, key: Claim, default: DeviceId = NO_DEVICE) -> DeviceId:
        """Return whose a claim is; the default where there is no answer."""
        return self._whose.get(key, default)

    def identifies_none(self, key: Claim) -> bool:
        """Whether the answer is that a claim identifies no device."""
        return self._whose.get(key) == NO_DEVICE

    def put(self, key: Claim, device: DeviceId | None) -> DeviceId:
        """Replace the answer for a claim; return the former one.  None: there is none any more."""
        if (former := self._whose.pop(key, None)) is not None:
            self._own[former].discard(key)
            if not self._own[former]:
                del self._own[former]
        if device is not None:
            self._whose[key] = device
            self._own.setdefault(device, set()).add(key)
        return former or NO_DEVICE

    def own(self, device: DeviceId) -> AbstractSet[Claim]:
        """Return all that is a device's by an answer."""
        return self._own.get(device, _NOTHING)

    def is_own(self, one: Claim, device: DeviceId) -> bool:
        """Whether a claim is a device's by an answer.

        The kernel's MAC is where an announced one of the same digits is: it is seen behind it.
        """
        own = self.own(device)
        announced = Claim(one.kind, EVERYWHERE, one.value)
        return key_of(one) in own or (is_kernel_mac(one) and announced in own)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The result of resolving a sighting.

    merged: devices that were found to be `device`; they are gone.
    displaced: the device that this origin belonged to before; it is still known.
    evicted: devices that had to make room, perhaps `device` itself; they are gone.
    conflict: "", "identity-conflict" or "moved-or-cloned".
    rivals: the other devices in the conflict.
    common: what was found to identify none, by what it is looked up by.
    """

    device: DeviceId
    merged: tuple[DeviceId, ...] = ()
    displaced: DeviceId | None = None
    evicted: tuple[DeviceId, ...] = ()
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()
    common: tuple[Claim, ...] = ()


class Resolver:
    """The resolver of sightings: all known devices, by what identifies them.

    limit: how many devices of one source are kept that are neither pinned nor listed.  Of each at
    most 32 claims and 16 origins are kept.  is_listed: whether a rule lists a value.
    """

    def __init__(
        self, *, limit: int = 4096, is_listed: Callable[[Claim], bool] = lambda _: False
    ) -> None:
        self.limit, self._is_listed = limit, is_listed
        self._devices: dict[DeviceId, KnownDevice] = {}
        self._bound: dict[Origin, KnownDevice] = {}
        self._claim_index = ClaimIndex()
        self._witnesses = CommonClaims()
        self._common = self._witnesses.keys
        self._answers = OperatorAnswers()
        self._unpinned: EvictionQueue[KnownDevice] = EvictionQueue()
        self._listed: EvictionQueue[KnownDevice] = EvictionQueue()
        self._created = 0

    def __len__(self) -> int:
        return len(self._devices)

    def claims(self, device: DeviceId) -> frozenset[Claim]:
        """Return what identifies a device; nothing if it is not known."""
        return self._devices[device].claims if device in self._devices else frozenset()

    def own(self, device: DeviceId) -> OwnClaims:
        """Return what identifies a device, and how that is known to be its own."""
        known, answered = self._devices.get(device), self._answers.own(device)
        if known is None:
            return OwnClaims(answered=answered)
        return OwnClaims(known.claims, known.accepted, answered)

    def distinctive(self, device: DeviceId, *, without: Collection[Claim] = ()) -> frozenset[Claim]:
        """Return what identifies a device and no other; by what it is looked up by.

        without: what does not count, by what it is looked up by.
        """
        own = (one for one in self.claims(device) if strength(one))
        keys = {key_of(one) for one in own if not self._claim_index.is_shared(one)}
        return frozenset(keys.difference(without))

    def homes(self, device: DeviceId) -> frozenset[Claim]:
        """Return the kernel's MACs of a device and no other, local ones too."""
        own = kernel_macs(self.claims(device))
        return frozenset(one for one in own if not self._claim_index.is_shared(one))

    def is_pinned(self, device: DeviceId) -> bool:
        """Whether a device is never evicted and never merged into another."""
        return device in self._devices and self._devices[device].pinned

    def is_common(self, one: Claim) -> bool:
        """Whether a claim identifies no device: several show it, or an operator says so."""
        if not self._common and not self._answers:
            return False  # as mostly, and it is asked for each claim
        key = key_of(one)
        common = key in self._common and key not in self._answers and not self._is_listed(one)
        return common or self._answers.identifies_none(key)

    def recognises(self, origin: Origin, claims: Iterable[Claim]) -> bool:
        """Whether a sighting seems to be of a pinned device.  A guess, for ranking only."""
        bound, shown = self._bound_to(origin), [one for one in claims if strength(one)]
        holders = (known for one in shown for known in self._claim_index[one])
        answered = (self._answers.whose(key_of(one)) for one in shown)
        seems = any(known.pinned for known in chain(filter(None, [bound]), holders))
        return seems or any(map(self.is_pinned, answered))

    def answer(self, answers: Mapping[Claim, DeviceId | None]) -> None:
        """Obey an operator who says whose claims are, by what each is looked up by.

        NO_DEVICE: it identifies no device.  None: the answer of before counts no longer.
        """
        for key, device in answers.items():
            former = self._devices.get(self._answers.put(key, device))
            if former is not None and former.device != device and key.kind == "mac":
                self._take(former, Claim(key.kind, KERNEL, key.value))
            self._drop_key(key, but=device or NO_DEVICE)
            known = self._devices.get(device or NO_DEVICE)
            if known is not None and is_kernel_mac(key):
                self._add_claim(known, key)

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device, and accept all these claims as its own: they are on record, or approved.

        Those excepted that are another's, or none's, by an operator's answer.
        """
        known, shown = self._devices.get(device) or self._create(device), frozenset(claims)
        self._discard(known)
        known.pinned = True
        accepted = consistent(
            [c for c in shown if self._answers.whose(key_of(c), device) == device]
        )
        for one in [c for c in known.claims if contradict([c], accepted)]:
            self._drop_claim(known, one)
        own = [*filter(is_kept, (*accepted, *kernel_macs(self._answers.own(device))))]
        for one in own:
            self._claim_index.add(one, known)
        known.claims = held_once(known.claims.union(own), shown)
        known.accepted = held_once(known.accepted.union(map(key_of, own)), known.claims)

    def left(self, device: DeviceId, origin: Origin, *, last: bool = False) -> None:
        """Note that a device is not at an origin any more: another may have its serial alone.

        last: it is seen nowhere else.
        """
        if (known := self._devices.get(device)) is not None:
            self._witnesses.leave(known, origin)
            if last:
                known.away = True
                self._witnesses.forget(known)

    def unpin(self, device: DeviceId) -> None:
        """Let a device be merged and evicted like any other."""
        if (known := self._devices.get(device)) is not None and known.pinned:
            known.pinned = False
            self._put(known)

    def forget(self, device: DeviceId) -> None:
        """Remove a device."""
        if (known := self._devices.pop(device, None)) is None:
            return
        self._discard(known)
        for one in tuple(known.claims):
            self._drop_claim(known, one)
        for origin in known.origins:
            del self._bound[origin]
            self._witnesses.leave(known, origin)
        self._witnesses.forget(known)

    def resolve(
        self, origin: Origin, claims: Iterable[Claim], *, rank: int = 0, listed: bool = False
    ) -> Resolved:
        """Find or create the device of a sighting, and learn its claims.

        rank: how much it matters to keep the device when the table is full; the highest counts.
        listed: whether an operator has listed it; then it takes no room from others.
        """
        shown = frozenset(claims)
        claimed = consistent([one for one in shown if not self.is_common(one)])
        self._release(claimed)
        before, owner = self._bound_to(origin), self._devices.get(self._owner(claimed))
        group, rivals = self._choose(self._score(before, claimed, owner), claimed, owner)
        known = min(group, key=lambda e: e.seniority) if group else self._new(origin, claimed)
        gone = tuple(self._absorb(known, other) for other in group if other is not known)
        strange = self._strange_macs(known, claimed)
        if not strange:
            self._learn(known, claimed)
        self._bind(known, origin)
        known.rank, known.listed, known.away = max(known.rank, rank), known.listed or listed, False
        for key in sorted(key for key in set(map(key_of, shown)) if key in self._common):
            self._witnesses.note(key, known, origin)
        common = self._find_common(known, strange, claimed, origin)
        evicted = self._make_room(known)
        return Resolved(
            known.device,
            merged=gone,
            displaced=before.device if before and before not in (known, *group) else None,
            evicted=evicted,
            conflict=IDENTITY_CONFLICT if rivals else MOVED_OR_CLONED if strange else "",
            rivals=tuple(r.device for r in rivals if r.device not in evicted),
            common=common,
        )

    def _release(self, claimed: Sequence[Claim]) -> None:
        """Take from strangers that have left what is seen now of one that they cannot be."""
        for one in filter(is_exclusive, claimed):
            for holder in self._claim_index[one]:
                stranger = not (holder.pinned or holder.listed or key_of(one) in self._answers)
                if stranger and holder.away and not self._may_be(holder, claimed):
                    self._take(holder, key_of(one))

    def _owner(self, claimed: Iterable[Claim]) -> DeviceId:
        """Return whose a sighting is by an operator's answer; NO_DEVICE where there is none."""
        said = (key_of(one) for one in claimed if not is_kernel_mac(one))
        answers = (self._answers.whose(key) for key in said)
        return next((one for one in answers if one != NO_DEVICE), NO_DEVICE)

    def _strange_macs(self, known: KnownDevice, claimed: Sequence[Claim]) -> frozenset[Claim]:
        """Return the kernel's MACs behind which a device must not be, unless it has moved.

        A device that shows a UUID or a certificate of its own may have several.
        """
        seen = kernel_macs(claimed) - known.claims if kernel_macs(known.claims) else ()
        strange = frozenset(c for c in seen if not self._answers.is_own(c, known.device))
        return strange if strange and not share_key(known.claims, claimed) else frozenset()

    def _find_common(
        self,
        known: KnownDevice,
        strange: frozenset[Claim],
        claimed: Sequence[Claim],
        origin: Origin,
    ) -> tuple[Claim, ...]:
        """Return what turns out to identify none, as this device shows what others show, too."""
        found = []
        for one in claimed:
            key, holders = key_of(one), self._claim_index[one]
            contested = strange or any(holder is not known for holder in holders)
            if one.kind not in _FACTORY_MADE or not contested or key in self._answers:
                continue
            if self._is_listed(one) or any(of.is_on_record(key) for of in (*holders, known)):
                continue
            for holder in holders:
                self._witnesses.note(key, holder, holder.origins[-1] if holder.origins else origin)
            self._witnesses.note(key, min(strange) if strange else known, origin)
            if self._witnesses.learn(key):
                self._drop_key(key)
                found.append(key)
        return tuple(found)

    def _score(
        self, before: KnownDevice | None, claimed: Sequence[Claim], owner: KnownDevice | None
    ) -> dict[KnownDevice, int]:
        """Weigh the devices that a sighting may be of."""
        scores: dict[KnownDevice, int] = {} if owner is None else {owner: ANSWERED}
        distinctive = [c for c in claimed if strength(c) and not self._claim_index.is_shared(c)]
        for one in distinctive:
            for known in self._claim_index[one]:
                learned = known.pinned and key_of(one) not in known.accepted
                weight = min(strength(one), LEARNED) if learned else strength(one)
                scores[known] = scores.get(known, 0) + weight
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
        self,
        scores: dict[KnownDevice, int],
        claimed: Sequence[Claim],
        owner: KnownDevice | None,
    ) -> tuple[list[KnownDevice], list[KnownDevice]]:
        """Return the devices that are one, best first, and its rivals: those that cannot be it.

        A device that shares no more than a MAC with the sighting is no rival: MACs are shared.
        """
        group: list[KnownDevice] = []
        rivals: list[KnownDevice] = []
        for known in sorted(scores, key=lambda e: (-scores[e], e.seniority)):
            fits = known is owner or self._may_be(known, claimed)
            if fits and all(known.may_merge(other) for other in group):
                group.append(known)
            elif fits or any(is_exclusive(c) and known in self._claim_index[c] for c in claimed):
                rivals.append(known)
        return group, rivals

    def _may_be(self, known: KnownDevice, claimed: Sequence[Claim]) -> bool:
        shared = [c for c in (*known.claims, *claimed) if self._claim_index.is_shared(c)]
        return may_be_one(known.claims, claimed, shared)

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
            answered = self._answers.is_own(one, known.device)
            foreign = is_exclusive(one) and any(e is not known for e in self._claim_index[one])
            foreign = foreign or (has_home and is_kernel_mac(one))
            if not is_kept(one) or (foreign and not answered) or contradict([one], known.claims):
                continue
            if len(known.claims) < MAX_CLAIMS:
                self._add_claim(known, one)

    def _new(self, origin: Origin, claimed: Sequence[Claim]) -> KnownDevice:
        """Create a device, named by an answer, by the claims that only it has, or by its origin."""
        answered = filter(None, [self._owner(claimed)])
        own = [c for c in claimed if strength(c) and not self._claim_index[c]]
        spare = possible_ids((), *origin, self._created)
        possible = chain(answered, possible_ids(own, *origin), spare)
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
            while (excess := queue.excess(limit)) is not None:
                evicted.append(excess.device)
                self.forget(excess.device)
        return tuple(evicted)

    def _put(self, known: KnownDevice) -> None:
        self._discard(known)
        shares = {share_of(source) for source, _ in known.origins}
        (self._listed if known.listed else self._unpinned).put(known, known.rank, shares)

    def _discard(self, known: KnownDevice) -> None:
        self._unpinned.discard(known)
        self._listed.discard(known)

    def _add_claim(self, known: KnownDevice, one: Claim) -> None:
        self._claim_index.add(one, known)
        known.claims |= {one}

    def _drop_claim(self, known: KnownDevice, one: Claim) -> None:
        self._claim_index.discard(one, known)
        known.claims -= {one}

    def _drop_key(self, key: Claim, *, but: DeviceId = NO_DEVICE) -> None:
        """Take a claim from all who hold it, in all namespaces.  but: who keeps it."""
        for holder in self._claim_index[key]:
            if holder.device != but:
                self._take(holder, key)

    def _take(self, holder: KnownDevice, key: Claim) -> None:
        holder.accepted -= {key}
        for one in [c for c in holder.claims if key_of(c) == key]:
            self._drop_claim(holder, one)
