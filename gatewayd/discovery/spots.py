"""Where devices are seen, and who quarrels with whom over it."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.discovery.claims import kernel_macs
from gatewayd.discovery.evidence import are_apart
from gatewayd.discovery.holders import Place
from gatewayd.discovery.presence import Presence, Spot
from gatewayd.discovery.resolver import IDENTITY_CONFLICT, MOVED_OR_CLONED

NAME_CONTESTED = "name-contested"
TWO_CLAIMANTS = "two-claimants"


class Spots:
    """All spots, by place and device."""

    def __init__(self) -> None:
        self._places: dict[Place, tuple[Spot, ...]] = {}
        self._accusers: dict[DeviceId, dict[Spot, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def at(self, place: Place) -> tuple[Spot, ...]:
        """Return who is at a place, oldest first: mostly one, more while it is contested."""
        return self._places.get(place, ())

    def add(self, presence: Presence, spot: Spot) -> None:
        """Add a spot to those of its device."""
        spot.device = presence.device
        presence.spots[spot.place] = spot
        self._places[spot.place] = (*self.at(spot.place), spot)

    def remove(self, presence: Presence, spot: Spot) -> None:
        """Remove a spot."""
        self.accuse(spot, "", ())
        del presence.spots[spot.place]
        left = tuple(other for other in self.at(spot.place) if other is not spot)
        if left:
            self._places[spot.place] = left
        else:
            del self._places[spot.place]

    def is_live(self, spot: Spot) -> bool:
        """Whether a spot has not been removed."""
        return spot in self.at(spot.place)

    def accuse(self, spot: Spot, conflict: str, rivals: tuple[DeviceId, ...]) -> None:
        """Note with whom the device of a spot quarrels, instead of what was noted before."""
        for rival in spot.rivals:
            accusers = self._accusers[rival]
            del accusers[spot]
            if not accusers:
                del self._accusers[rival]
        spot.conflict, spot.rivals = conflict, rivals
        for rival in rivals:
            self._accusers.setdefault(rival, {})[spot] = None

    def concerned(self, spot: Spot) -> frozenset[DeviceId]:
        """Return all devices whose conflict may depend on a spot."""
        there = (other.device for other in self.at(spot.place))
        return frozenset((spot.device, *spot.rivals, *there))

    def conflict(self, presence: Presence, own: Collection[Claim]) -> str:
        """Return why the identity of a device is in question; "" if it is not.

        own: what identifies the device.
        """
        spots = presence.spots.values()
        if presence.device in self._accusers or any(
            spot.conflict == IDENTITY_CONFLICT for spot in spots
        ):
            return IDENTITY_CONFLICT
        if any(_is_elsewhere(spot, own) for spot in spots):
            return MOVED_OR_CLONED
        verified = [spot.sighting for spot in spots if spot.verified]
        if any(are_apart(*pair, own) for pair in combinations(verified, 2)):
            return TWO_CLAIMANTS
        contested = any(len(self.at(spot.place)) > 1 for spot in spots)
        return NAME_CONTESTED if contested else ""


def _is_elsewhere(spot: Spot, own: Collection[Claim]) -> bool:
    """Whether a device is behind a MAC that is not its own, and has not been accepted since."""
    return spot.conflict == MOVED_OR_CLONED and not kernel_macs(spot.sighting.claims).issubset(own)
