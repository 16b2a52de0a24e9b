"""The devices by claim: who holds one, who shows one, and whose one is by an operator's answer.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.device.identity import (
    EVERYWHERE,
    NO_DEVICE,
    Claim,
    DeviceId,
    are_several,
    contradict,
    is_kernel_mac,
    key_of,
)
from gatewayd.discovery.discoverer import Origin

MAX_HOLDERS = 64
"""How many devices are remembered behind one MAC: more would change nothing."""
MAX_SHARED = 1024
"""How many such MACs are remembered."""

SEVERAL = 3
"""A serial that so many devices show is a factory's default."""
MAX_WITNESSES = 8
"""How many of them are remembered."""
MAX_WITNESSED = 4096
"""For how many serials that more than one device has shown they are."""


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


Witness: TypeAlias = KnownDevice | Claim
"""Who shows a claim: a device, or the one behind a MAC that is not the device's own."""


class CommonClaims:
    """What several devices show, so that it identifies none of them: a default of the factory.

    A claim is common once SEVERAL show it, or two that are on record as two; and until no more than
    one of them is left.
    """

    def __init__(self) -> None:
        self._witnesses: dict[Claim, dict[Witness, Origin]] = {}
        self._shown_at: dict[Origin, set[Claim]] = {}
        self._shown_by: dict[Witness, set[Claim]] = {}
        self._common: set[Claim] = set()

    def __len__(self) -> int:
        return len(self._common)

    def __contains__(self, key: Claim) -> bool:
        return key in self._common

    def note(self, key: Claim, witness: Witness, origin: Origin) -> None:
        """Note who shows a claim, and where.

        At one origin a device may have had several MACs, one after the other.
        """
        seen = self._witnesses.setdefault(key, {})
        former = [w for w, at in seen.items() if at == origin and isinstance(w, Claim)]
        if witness not in seen and len(seen) - len(former) >= MAX_WITNESSES:
            return
        before, seen[witness] = seen.get(witness, origin), origin
        self._shown_at.setdefault(origin, set()).add(key)
        self._shown_by.setdefault(witness, set()).add(key)
        self._unlist(key, before)
        for one in former:
            if one != witness:
                self._discard(key, one)
        if len(self._witnesses) > MAX_WITNESSED:
            self._forget(next(iter(self._witnesses)))

    def learn(self, key: Claim) -> bool:
        """Whether a claim is common from now on, and was not before."""
        seen = self._witnesses.get(key, {})
        on_record = sum(isinstance(one, KnownDevice) and one.pinned for one in seen)
        if key in self._common or (len(seen) < SEVERAL and on_record < 2):  # noqa: PLR2004  # two
            return False
        self._common.add(key)
        return True

    def leave(self, device: KnownDevice, origin: Origin) -> None:
        """Note that a device is not at an origin any more."""
        for key in tuple(self._shown_at.get(origin, ())):
            seen = self._witnesses[key]
            for one in [w for w, at in seen.items() if at == origin]:
                if one is device or isinstance(one, Claim):
                    self._discard(key, one)

    def forget(self, device: KnownDevice) -> None:
        """Note that a device is seen nowhere any more."""
        for key in tuple(self._shown_by.get(device, ())):
            self._discard(key, device)

    def _discard(self, key: Claim, witness: Witness) -> None:
        seen = self._witnesses[key]
        self._unlist(key, seen.pop(witness))
        self._shown_by[witness].discard(key)
        if not self._shown_by[witness]:
            del self._shown_by[witness]
        if len(seen) < 2:  # noqa: PLR2004  # one alone has it for itself
            self._common.discard(key)
        if not seen:
            del self._witnesses[key]

    def _unlist(self, key: Claim, origin: Origin) -> None:
        """Note that a claim is not shown at an origin, if so."""
        if origin not in self._witnesses[key].values():
            self._shown_at[origin].discard(key)
            if not self._shown_at[origin]:
                del self._shown_at[origin]

    def _forget(self, key: Claim) -> None:
        for witness in tuple(self._witnesses[key]):
            self._discard(key, witness)


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
