"""All devices and where they are seen: what each sighting, loss, answer or silence changes.

No I/O and no clock: `now` is an argument, seconds of the event loop's clock.

Where devices are seen, and who quarrels with whom over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import combinations

from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust
from gatewayd.device.reason import Reason
from gatewayd.discovery.discoverer import Listener, Sighting
from gatewayd.discovery.evidence import are_apart, evidence, same_facts
from gatewayd.discovery.presence import LEFT, REPLACED, Phase, Presence, Reports, Spot
from gatewayd.discovery.probes import Doubts
from gatewayd.discovery.resolver import (
    IDENTITY_CONFLICT,
    MOVED_OR_CLONED,
    Place,
    Resolved,
    Resolver,
    kernel_macs,
)
from gatewayd.discovery.settings import InventorySettings

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


VIEWS, VIEWS_UNPINNED = 16, 4
"""In how many places at once a device is followed."""
CONTESTANTS = 4
"""How many strangers may wait at a place that another device has taken."""
SHORTEST, LONGEST = 60.0, 86_400.0
"""Seconds for which a sighting may be believed."""


class Roster:
    """The devices.  jitter: a number from [0, 1) at each call."""

    def __init__(
        self, settings: InventorySettings, listener: Listener, jitter: Callable[[], float]
    ) -> None:
        self.resolver = Resolver(limit=settings.max_unadmitted)
        self.counters: Counter[str] = Counter()
        self._listener = listener
        self._presences: dict[DeviceId, Presence] = {}
        self._spots = Spots()
        self._doubts = Doubts(settings, jitter)
        self._reports = Reports(listener, settings.flaps)

    def __len__(self) -> int:
        return len(self._presences)

    def presence(self, device: DeviceId) -> Presence:
        """Return where a device is seen; an empty one if it never was."""
        return self._presences.get(device) or Presence(device)

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device; without views, if it is not seen."""
        presence = self.presence(device)
        sightings = (spot.sighting for spot in presence.spots.values())
        return evidence(self.resolver.claims(device), sightings, presence.conflict)

    def know(self, device: DeviceId, claims: Iterable[Claim], now: float) -> None:
        """Pin a device, and take these claims for its own."""
        self.resolver.know(device, claims)
        self._update((device,), now)

    def forget(self, device: DeviceId) -> bool:
        """Know a device no more; False if it was never seen."""
        self.resolver.forget(device)
        presence = self._presences.pop(device, None)
        if presence is None:
            return False
        self._reports.discard(presence)
        for spot in tuple(presence.spots.values()):
            self._drop(presence, spot)
        return True

    def knows(self, place: Place) -> bool:
        """Whether anybody is at a place."""
        return bool(self._spots.at(place))

    def take(self, sighting: Sighting, now: float, *, rank: int) -> Spot | None:
        """Take in a sighting; return its spot, or None if there is no room for it."""
        place = (sighting.source, sighting.key)
        resolved = self.resolver.resolve(*place, sighting.claims, rank=rank)
        self._clear(resolved)
        if resolved.device in resolved.evicted:
            return None
        presence = self._presences.setdefault(resolved.device, Presence(resolved.device))
        presence.last_seen = max(presence.last_seen, min(sighting.at, now))
        before = presence.spots.get(place)
        if before is None and not self._has_room(presence):
            self.counters["views-refused"] += 1
            return None
        facts = before.sighting if before else None
        spot = self._hear(presence, sighting, now)
        concerned = self._spots.concerned(spot)
        self._note(spot, resolved, now)
        changed = facts is None or bool(resolved.merged) or not same_facts(facts, sighting)
        if changed:
            self._doubts.challenge(presence, spot, self.resolver.claims(spot.device), now)
        self._update(
            concerned | self._spots.concerned(spot), now, changed=spot.device if changed else None
        )
        return spot

    def lose(self, place: Place, cause: Reason, now: float) -> None:
        """A place is said to be empty: doubt whoever is there."""
        for spot in self._spots.at(place):
            self._doubts.doubt(spot, cause, now)

    def next(self) -> float | None:
        """Return when something is due; None if nothing ever will be."""
        moments = (self._doubts.next(), self._reports.next())
        return min((moment for moment in moments if moment is not None), default=None)

    def due(self, now: float) -> Spot | None:
        """Do what is due; return the next spot that is to be asked, None if there is none."""
        while (presence := self._reports.due(now)) is not None:
            self._update((presence.device,), now)
        return self._doubts.due(now)

    def is_in_doubt(self, spot: Spot) -> bool:
        """Whether a spot that was to be asked still is: it may be heard or dropped meanwhile."""
        if self._spots.is_live(spot) and spot.phase is Phase.SUSPECT:
            return True
        spot.checking = False
        return False

    def answered(self, spot: Spot, answer: Sighting, now: float, *, rank: int) -> None:
        """A spot was asked; take in the answer, which may be another device's."""
        cause = spot.cause
        if self.take(answer, now, rank=rank) is not spot:
            self.missed(spot, now)
            return
        self.counters["verified"] += 1
        self.counters["goodbyes-refuted"] += cause is LEFT
        spot.checking = False
        spot.answer()
        self._doubts.trust(spot)
        self._update((spot.device,), now)

    def missed(self, spot: Spot, now: float) -> None:
        """A spot was asked, and did not answer."""
        spot.checking = False
        if not self._spots.is_live(spot) or spot.phase is Phase.PRESENT:
            return
        self.counters["unanswered"] += 1
        if self._doubts.missed(spot, now):
            self._remove(spot, spot.cause, now)

    def unclear(self, spot: Spot, now: float) -> None:
        """A spot could not be asked, which says nothing about it."""
        spot.checking = False
        if self._spots.is_live(spot):
            self._doubts.unclear(spot, now)

    def tally(self) -> dict[str, int]:
        """Return the counters, by kebab-case name."""
        held = {
            "devices": len(self._presences),
            "conflicts": self._reports.conflicts,
            "flapping": self._reports.suppressed,
            "spots": len(self._spots),
        }
        return dict(self.counters) | held

    def _has_room(self, presence: Presence) -> bool:
        is_pinned = self.resolver.is_pinned(presence.device)
        return len(presence.spots) < (VIEWS if is_pinned else VIEWS_UNPINNED)

    def _hear(self, presence: Presence, sighting: Sighting, now: float) -> Spot:
        place = (sighting.source, sighting.key)
        until = min(sighting.at, now) + min(max(sighting.valid_for, SHORTEST), LONGEST)
        spot = presence.spots.get(place)
        before = spot.until if spot else 0.0
        if spot is None:
            spot = Spot(presence.device, place, sighting, until)
            self._spots.add(presence, spot)
            self._doubts.trust(spot)
        elif spot.hear(sighting, until) or until < before:
            self._doubts.trust(spot)
        return spot

    def _note(self, spot: Spot, resolved: Resolved, now: float) -> None:
        """Keep what the resolver found out beside the device itself."""
        conflict = resolved.conflict
        if conflict == MOVED_OR_CLONED and spot.sighting.trust is Trust.AUTHENTICATED:
            conflict = ""  # whoever has proven its key may live where it likes
        self._spots.accuse(spot, conflict, resolved.rivals)
        others = [other for other in self._spots.at(spot.place) if other is not spot]
        for other in others:
            self._doubts.doubt(other, REPLACED, now)
        strangers = [o for o in others if not self.resolver.is_pinned(o.device)]
        for oldest in strangers[:-CONTESTANTS]:
            self._remove(oldest, REPLACED, now)

    def _update(
        self, devices: Collection[DeviceId], now: float, *, changed: DeviceId | None = None
    ) -> None:
        """Find out who quarrels now, and tell what is new."""
        for device in sorted(devices):
            if (presence := self._presences.get(device)) is not None:
                conflict = self._spots.conflict(presence, self.resolver.claims(device))
                self._reports.update(presence, conflict, now, changed=device == changed)

    def _clear(self, resolved: Resolved) -> None:
        """Carry out that devices were merged or evicted."""
        for gone in resolved.merged:
            self.counters["merged"] += 1
            self._merge(resolved.device, gone)
            self._listener.merged(resolved.device, gone)
        for gone in resolved.evicted:
            self.counters["devices-evicted"] += 1
            if self.forget(gone):
                self._listener.evicted(gone)

    def _merge(self, kept: DeviceId, gone: DeviceId) -> None:
        """Move the spots of a device that is no more, as far as there is room."""
        old = self._presences.pop(gone, None)
        if old is None:
            return
        self._reports.discard(old)
        presence = self._presences.setdefault(kept, Presence(kept, last_seen=old.last_seen))
        for spot in tuple(old.spots.values()):
            self._spots.remove(old, spot)
            if spot.place not in presence.spots and self._has_room(presence):
                self._spots.add(presence, spot)
            else:
                self._doubts.discard(spot)

    def _remove(self, spot: Spot, cause: Reason, now: float) -> None:
        """A spot is empty: perhaps its device is gone."""
        presence = self._presences[spot.device]
        presence.left = cause
        concerned = self._spots.concerned(spot)
        self._drop(presence, spot)
        self._update(concerned, now, changed=spot.device if presence.spots else None)

    def _drop(self, presence: Presence, spot: Spot) -> None:
        self._doubts.discard(spot)
        self._spots.remove(presence, spot)
