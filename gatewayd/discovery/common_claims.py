"""What several devices show, so that it identifies none of them.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol, TypeAlias

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Origin

SEVERAL = 3
"""A serial that so many devices show is a factory's default."""
MAX_WITNESSES = 8
"""How many of them are remembered."""
MAX_WITNESSED = 4096
"""For how many serials that more than one device has shown they are."""


class Shower(Protocol):
    """A device that shows a claim.  pinned: whether it is on record."""

    pinned: bool


Witness: TypeAlias = Shower | Claim
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

    @property
    def keys(self) -> AbstractSet[Claim]:
        """What is common now and later, by what it is looked up by."""
        return self._common

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
        on_record = sum(not isinstance(one, Claim) and one.pinned for one in seen)
        if key in self._common or (len(seen) < SEVERAL and on_record < 2):  # noqa: PLR2004  # two
            return False
        self._common.add(key)
        return True

    def leave(self, device: Shower, origin: Origin) -> None:
        """Note that a device is not at an origin any more."""
        for key in tuple(self._shown_at.get(origin, ())):
            seen = self._witnesses[key]
            for one in [w for w, at in seen.items() if at == origin]:
                if one is device or isinstance(one, Claim):
                    self._discard(key, one)

    def forget(self, device: Shower) -> None:
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
