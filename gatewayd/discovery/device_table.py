"""The devices on the LAN: what each sighting, loss, answer or silence changes.

No I/O and no clock: `now` is an argument, seconds of the event loop's clock.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import combinations, islice

from gatewayd.device.identity import (
    MODEL_KEYS,
    NAME_CONTESTED,
    UNDISPUTED,
    VENDOR_KEYS,
    Claim,
    DeviceId,
    Evidence,
    Trust,
    is_exclusive,
    is_kernel_mac,
    kernel_macs,
    key_of,
    strength,
)
from gatewayd.device.reason import Reason
from gatewayd.discovery.comparison import OwnClaims, are_apart, are_behind_two, same_facts
from gatewayd.discovery.discoverer import LONGEST, SHORTEST, Listener, Origin, Sighting
from gatewayd.discovery.presence import (
    LEFT,
    REPLACED,
    ChangeNotifier,
    Observation,
    Presence,
    PresenceState,
    SeenBehind,
)
from gatewayd.discovery.probes import ProbeScheduler
from gatewayd.discovery.resolver import (
    IDENTITY_CONFLICT,
    MOVED_OR_CLONED,
    Resolved,
    Resolver,
)
from gatewayd.discovery.settings import InventorySettings

log = logging.getLogger(__name__)

TWO_CLAIMANTS = "two-claimants"

MAX_OBSERVATIONS, MAX_OBSERVATIONS_UNPINNED = 16, 8
"""At how many origins at once a device is followed: a camera is seen by six sources."""
MAX_ADDRESSES = 16
"""Addresses in the evidence of a device."""
MAX_CONTESTANTS = 4
"""How many strangers may wait at an origin that another device has taken."""
MAX_RIVALS = 8
"""Other devices that are named in a conflict."""
NO_VALUES: frozenset[str] = frozenset()
"""One for all devices: each empty set that is made takes 216 bytes."""


class ObservationIndex:
    """The observations by origin, and the conflicts between their devices."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, tuple[Observation, ...]] = {}
        self._accusers: dict[DeviceId, dict[Observation, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_origin.values()))

    def at(self, origin: Origin) -> tuple[Observation, ...]:
        """Return what is at an origin, oldest first: mostly one, more while it is contested."""
        return self._by_origin.get(origin, ())

    def add(self, presence: Presence, observation: Observation) -> None:
        """Add an observation to those of its device."""
        observation.device = presence.device
        presence.observations[observation.origin] = observation
        self._by_origin[observation.origin] = (*self.at(observation.origin), observation)

    def remove(self, presence: Presence, observation: Observation) -> None:
        """Remove an observation."""
        self.accuse(observation, "", ())
        del presence.observations[observation.origin]
        left = tuple(other for other in self.at(observation.origin) if other is not observation)
        if left:
            self._by_origin[observation.origin] = left
        else:
            del self._by_origin[observation.origin]

    def is_live(self, observation: Observation) -> bool:
        """Whether an observation has not been removed."""
        return observation in self.at(observation.origin)

    def accuse(self, observation: Observation, conflict: str, rivals: tuple[DeviceId, ...]) -> None:
        """Replace the conflict of an observation, and the devices it is with."""
        for rival in observation.rivals:
            accusers = self._accusers[rival]
            del accusers[observation]
            if not accusers:
                del self._accusers[rival]
        observation.conflict, observation.rivals = conflict, rivals
        for rival in rivals:
            self._accusers.setdefault(rival, {})[observation] = None

    def concerned(self, observation: Observation) -> frozenset[DeviceId]:
        """Return all devices whose conflict may depend on an observation."""
        there = (other.device for other in self.at(observation.origin))
        return frozenset((observation.device, *observation.rivals, *there))

    def rivals(self, presence: Presence) -> tuple[DeviceId, ...]:
        """Return the other devices in the conflict of a device, as far as they are known apart."""
        observations = tuple(presence.observations.values())
        found = {rival for one in observations for rival in one.rivals}
        found |= {one.device for one in self._accusers.get(presence.device, ())}
        found |= {other.device for one in observations for other in self.at(one.origin)}
        return tuple(sorted(found - {presence.device}))[:MAX_RIVALS]

    def conflict(self, presence: Presence, own: OwnClaims) -> str:
        """Return why the identity of a device is in question; "" if it is not.

        own: what identifies the device.
        """
        observations = presence.observations.values()
        if presence.device in self._accusers or any(
            one.conflict == IDENTITY_CONFLICT for one in observations
        ):
            return IDENTITY_CONFLICT
        if any(_is_elsewhere(one, own.claims) for one in observations):
            return MOVED_OR_CLONED
        if any(not one.behind.at_once.issubset(own.claims) for one in observations):
            return TWO_CLAIMANTS
        verified = [one.sighting for one in observations if one.verified]
        beside = [one.sighting for one in observations]
        if any(are_apart(*pair, own, beside) for pair in combinations(verified, 2)):
            return TWO_CLAIMANTS
        contested = any(len(self.at(one.origin)) > 1 for one in observations)
        return NAME_CONTESTED if contested else ""


def _is_elsewhere(observation: Observation, own: Collection[Claim]) -> bool:
    """Whether a device is behind a MAC that is not its own, and has not been accepted since."""
    seen = kernel_macs(observation.sighting.claims)
    return observation.conflict == MOVED_OR_CLONED and not seen.issubset(own)


def _keys(sighting: Sighting) -> frozenset[Claim]:
    """Return what a sighting shows of an identity, by what it is looked up by."""
    return frozenset(key_of(c) for c in sighting.claims if strength(c) and not is_kernel_mac(c))


def with_facts(attributes: Mapping[str, str], addresses: Collection[str]) -> Mapping[str, str]:
    """Return the attributes of a sighting with what rules call its model, vendor and addresses.

    Addresses that the attributes have already are the only ones that count.
    """
    facts = {
        key: next((attributes[k] for k in keys if attributes.get(k)), "")
        for key, keys in (("model", MODEL_KEYS), ("vendor", VENDOR_KEYS))
    } | {"addresses": " ".join(addresses) if len(addresses) > 1 else ""}
    proven = {key: value for key, value in attributes.items() if key == "addresses"}
    return {**attributes, **{key: value for key, value in facts.items() if value}, **proven}


def join_evidence(
    own: Iterable[Claim],
    sightings: Iterable[Sighting],
    conflict: str,
    rivals: tuple[DeviceId, ...] = (),
    common: Collection[Claim] = (),
) -> Evidence:
    """Return the evidence that the sightings of a device make, the most trusted one first.

    own: what identifies the device.  conflict: "" for none; a conflict lowers trust to the least,
    unless it is about a name, which identifies nothing.
    rivals: the other devices in it.  common: what the sightings show that identifies none.
    """
    ranked = sorted(sightings, key=lambda s: (-s.trust, s.source, s.key))
    shown = (c for s in ranked for c in s.claims if not (is_exclusive(c) or c in common))
    own, beside = frozenset(own), frozenset(shown)
    addresses = dict.fromkeys(address for s in ranked for address in s.addresses)
    views = [{**s.attributes, "trust": s.trust.word} for s in ranked]
    kind = {key: next((v[key] for v in views if v.get(key)), "") for key in ("model", "vendor")}
    kind = {key: value for key, value in kind.items() if value}
    disputed = conflict not in UNDISPUTED
    return Evidence(
        views=tuple(view | kind for view in views),
        claims=own if beside <= own else own | beside,
        trust=ranked[0].trust if ranked and not disputed else Trust.CLAIMED,
        label=next((s.label for s in ranked if s.label), ""),
        addresses=tuple(addresses)[:MAX_ADDRESSES],
        conflict=conflict,
        rivals=rivals,
        common=frozenset(one.value for one in common) if common else NO_VALUES,
    )


class DeviceTable:
    """The table of all devices.

    jitter: a number from [0, 1) at each call.  is_listed: whether a rule lists a value.
    """

    def __init__(
        self,
        settings: InventorySettings,
        listener: Listener,
        jitter: Callable[[], float],
        is_listed: Callable[[Claim], bool] = lambda _: False,
    ) -> None:
        self.resolver = Resolver(limit=settings.max_unadmitted, is_listed=is_listed)
        self.counts: Counter[str] = Counter()
        self._listener = listener
        self._presences: dict[DeviceId, Presence] = {}
        self._observations = ObservationIndex()
        self._scheduler = ProbeScheduler(settings, jitter)
        self._notifier = ChangeNotifier(listener, settings.flaps)

    def __len__(self) -> int:
        return len(self._presences)

    def presence(self, device: DeviceId) -> Presence:
        """Return the presence of a device; an empty one if it was never seen."""
        return self._presences.get(device) or Presence(device)

    def last_seen(self, device: DeviceId) -> float:
        """Return when a device was last seen; 0 for never."""
        presence = self._presences.get(device)
        return presence.last_seen if presence is not None else 0.0

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device; it has no views if it is not seen."""
        if (presence := self._presences.get(device)) is None:
            return Evidence((), self.resolver.claims(device), Trust.CLAIMED)
        sightings = tuple(one.sighting for one in presence.observations.values())
        common = frozenset(c for s in sightings for c in s.claims if self.resolver.is_common(c))
        own, dispute = self.resolver.claims(device), (presence.conflict, presence.rivals)
        facts = own, sightings, *dispute, common
        if presence.evidence is None or presence.facts != facts:
            presence.evidence = join_evidence(own, sightings, *dispute, common)
            presence.facts = facts
        return presence.evidence

    def known_addresses(self, limit: int) -> frozenset[str]:
        """Return where pinned devices are, at most so many addresses."""
        pinned = (one for one in self._presences.values() if self.resolver.is_pinned(one.device))
        seen = (
            address
            for presence in pinned
            for observation in presence.observations.values()
            for address in observation.sighting.addresses
        )
        return frozenset(islice(seen, limit))

    def add_known(self, device: DeviceId, claims: Iterable[Claim], now: float) -> None:
        """Pin a device, and accept these claims as its own."""
        self.resolver.add_known(device, claims)
        self._update((device,), now)

    def forget(self, device: DeviceId) -> bool:
        """Remove a device; False if it was never seen."""
        self.resolver.forget(device)
        presence = self._presences.pop(device, None)
        if presence is None:
            return False
        self._notifier.discard(presence)
        for observation in tuple(presence.observations.values()):
            self._drop(presence, observation)
        return True

    def is_observed(self, origin: Origin) -> bool:
        """Whether a device is at an origin."""
        return bool(self._observations.at(origin))

    def newest(self, origin: Origin) -> Sighting | None:
        """Return the newest sighting at an origin, if that is of a device which is not suspect."""
        there = self._observations.at(origin)
        newest = max(there, key=lambda one: one.sighting.at, default=None)
        is_there = newest is not None and newest.state is PresenceState.PRESENT
        return newest.sighting if newest is not None and is_there else None

    def add_sighting(self, sighting: Sighting, now: float, *, rank: int) -> Observation | None:
        """Process a sighting; return its observation, or None if there is no room for it.

        rank: how much it matters to keep the device when the table is full.
        """
        listed = sighting.trust is Trust.LISTED
        resolved = self.resolver.resolve(sighting.origin, sighting.claims, rank=rank, listed=listed)
        self._clear(resolved)
        if resolved.device in resolved.evicted:
            return None
        presence = self._presences.setdefault(resolved.device, Presence(resolved.device))
        presence.last_seen = max(presence.last_seen, min(sighting.at, now))
        before = presence.observations.get(sighting.origin)
        if before is None and not self._has_room(presence):
            self.counts["observations-refused"] += 1
            return None
        facts = before.sighting if before else None
        observation = self._observe(presence, sighting, now)
        concerned = self._observations.concerned(observation)
        self._note(observation, resolved, now)
        concerned |= self._observations.concerned(observation)
        changed = facts is None or bool(resolved.merged) or not same_facts(facts, sighting)
        if changed:
            self._challenge(observation, now)
        self._update(concerned, now, changed=observation.device if changed else None)
        self._resolve_again(resolved.common, now, lambda _: rank)
        return observation

    def answer(
        self,
        answers: Mapping[Claim, DeviceId | None],
        now: float,
        rank: Callable[[Sighting], int],
    ) -> None:
        """Obey an operator who says whose claims are, as `Resolver.answer` does.

        rank: of a sighting, as for `add_sighting`.
        """
        self.resolver.answer(answers)
        for presence in self._presences.values():
            presence.warned = ""
        self._resolve_again(answers, now, rank)

    def disputed(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        """Return what two devices both show, by what it is looked up by.

        other: None for what one device shows at two places.
        """
        own = self.resolver.distinctive(device)
        if other is not None:
            shown = self._shown(device) & self.resolver.distinctive(other)
            return shown | (self._shown(other) & own)
        sightings = [one.sighting for one in self.presence(device).observations.values()]
        pairs = [
            pair for pair in combinations(sightings, 2)
            if are_apart(*pair) or are_behind_two(*pair)
        ]  # fmt: skip
        both = [_keys(one) & _keys(two) for one, two in pairs]
        both += [
            _keys(one.sighting) for one in self.presence(device).observations.values()
            if one.behind.at_once
        ]  # fmt: skip
        return frozenset().union(*both) & own

    def identity(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        """Return what a device would have that is one with another, by what it is looked up by.

        other: None for the MACs behind which the device is in question, and for what it shows that
        identifies none.
        """
        shown = self._shown(device)
        if other is None:
            observations = self.presence(device).observations.values()
            seen = (kernel_macs(one.sighting.claims) | one.behind.at_once for one in observations)
            found = frozenset().union(*seen) - self.resolver.claims(device)
        else:
            shown, found = shown & self._shown(other), self.resolver.distinctive(other)
            found |= self.resolver.homes(other) - self.resolver.claims(device)
        return found | {key for key in shown if self.resolver.is_common(key)}

    def _shown(self, device: DeviceId) -> frozenset[Claim]:
        observations = self.presence(device).observations.values()
        return frozenset().union(*(_keys(one.sighting) for one in observations))

    def _resolve_again(
        self, keys: Collection[Claim], now: float, rank: Callable[[Sighting], int]
    ) -> None:
        """Find the devices of all that shows these claims: now they mean something else."""
        done: set[Claim] = set()
        while left := set(keys) - done:  # each once: in a full table they could alternate for ever
            done |= left
            concerned: set[DeviceId] = set()
            found: list[Claim] = []
            for observation in self._showing(left):
                if not self._observations.is_live(observation):
                    continue
                concerned |= self._observations.concerned(observation)
                observation.behind = SeenBehind()
                sighting = observation.sighting
                resolved = self.resolver.resolve(
                    sighting.origin,
                    sighting.claims,
                    rank=rank(sighting),
                    listed=sighting.trust is Trust.LISTED,
                )
                found += resolved.common
                self._clear(resolved)
                if resolved.device not in resolved.evicted:
                    self._move(observation, resolved.device)
                if self._observations.is_live(observation):
                    self._note(observation, resolved, now)
                    concerned |= self._observations.concerned(observation)
                    self._challenge(observation, now)
            for device in sorted(concerned):
                self._update((device,), now, changed=device)
            keys = found

    def _showing(self, keys: Collection[Claim]) -> list[Observation]:
        observations = (o for p in self._presences.values() for o in p.observations.values())
        return [o for o in observations if any(key_of(c) in keys for c in o.sighting.claims)]

    def _move(self, observation: Observation, device: DeviceId) -> None:
        """Move an observation to a device, as far as there is room, where it was another's."""
        if not self._observations.is_live(observation) or observation.device == device:
            return
        old = self._presences[observation.device]
        old.left = REPLACED
        self.resolver.left(old.device, observation.origin, last=len(old.observations) == 1)
        presence = self._presences.setdefault(device, Presence(device))
        presence.last_seen = max(presence.last_seen, old.last_seen)
        self._observations.remove(old, observation)
        if observation.origin not in presence.observations and self._has_room(presence):
            self._observations.add(presence, observation)
        else:
            self._scheduler.discard(observation)

    def suspect(self, origin: Origin, cause: Reason, now: float) -> None:
        """Make all at an origin suspect."""
        for observation in self._observations.at(origin):
            self._scheduler.suspect(observation, cause, now)

    def next(self) -> float | None:
        """Return when something is due; None if nothing will be."""
        moments = (self._scheduler.next(), self._notifier.next())
        return min((moment for moment in moments if moment is not None), default=None)

    def due(self, now: float) -> Observation | None:
        """Do what is due; return the next observation to probe, None if there is none."""
        while (presence := self._notifier.due(now)) is not None:
            self._update((presence.device,), now)
        return self._scheduler.due(now)

    def is_suspect(self, observation: Observation) -> bool:
        """Whether an observation is still to be probed: it may be refreshed or removed by now."""
        if self._observations.is_live(observation) and observation.state is PresenceState.SUSPECT:
            return True
        observation.checking = False
        return False

    def probe_answered(
        self, observation: Observation, answer: Sighting, now: float, *, rank: int
    ) -> None:
        """Process the answer to a probe, which may be another device's.  rank: as a sighting's."""
        cause, doubt = observation.cause, observation.doubt
        if self.add_sighting(answer, now, rank=rank) is not observation:
            self.probe_unanswered(observation, now)
            return
        self.counts["probes-answered"] += 1
        self.counts["goodbyes-refuted"] += cause is LEFT
        observation.checking = False
        self._scheduler.probe_answered(observation, doubt, now)
        self._update((observation.device,), now)

    def probe_unanswered(self, observation: Observation, now: float) -> None:
        """Note that a probe was not answered; after several the observation is removed."""
        observation.checking = False
        gone = not self._observations.is_live(observation)
        if gone or observation.state is PresenceState.PRESENT:
            return
        self.counts["probes-unanswered"] += 1
        if self._scheduler.probe_unanswered(observation, now):
            self._remove(observation, observation.cause, now)

    def probe_failed(self, observation: Observation, now: float) -> None:
        """Note that a probe could not be made, which says nothing about the device."""
        self.counts["probes-failed"] += 1
        observation.checking = False
        if self._observations.is_live(observation):
            self._scheduler.probe_failed(observation, now)

    def counters(self) -> dict[str, int]:
        """Return the counters, by kebab-case name."""
        held = {
            "devices": len(self._presences),
            "conflicts": self._notifier.conflicts,
            "flapping": self._notifier.suppressed,
            "observations": len(self._observations),
        }
        return dict(self.counts) | held

    def _has_room(self, presence: Presence) -> bool:
        is_pinned = self.resolver.is_pinned(presence.device)
        limit = MAX_OBSERVATIONS if is_pinned else MAX_OBSERVATIONS_UNPINNED
        return len(presence.observations) < limit

    def _observe(self, presence: Presence, sighting: Sighting, now: float) -> Observation:
        until = min(sighting.at, now) + min(max(sighting.valid_for, SHORTEST), LONGEST)
        observation = presence.observations.get(sighting.origin)
        before = observation.until if observation else 0.0
        if observation is None:
            observation = Observation(presence.device, sighting.origin, sighting, until)
            self._observations.add(presence, observation)
            self._scheduler.trust(observation)
        elif observation.refresh(sighting, until) or until < before:
            self._scheduler.trust(observation)
        observation.behind.note(sighting.claims, now, until)
        return observation

    def _note(self, observation: Observation, resolved: Resolved, now: float) -> None:
        """Note the conflict that the resolver found, and suspect all others at the origin."""
        conflict = resolved.conflict
        if conflict == MOVED_OR_CLONED and observation.sighting.trust is Trust.AUTHENTICATED:
            conflict = ""  # a device that has proven its key may move
        self._observations.accuse(observation, conflict, resolved.rivals)
        there = self._observations.at(observation.origin)
        others = [other for other in there if other is not observation]
        for other in others:
            self._scheduler.suspect(other, REPLACED, now)
        strangers = [o for o in others if not self.resolver.is_pinned(o.device)]
        for oldest in strangers[:-MAX_CONTESTANTS]:
            self._remove(oldest, REPLACED, now)

    def _challenge(self, observation: Observation, now: float) -> None:
        own = self.resolver.own(observation.device)
        self._scheduler.challenge(self._presences[observation.device], observation, own, now)

    def _update(
        self, devices: Collection[DeviceId], now: float, *, changed: DeviceId | None = None
    ) -> None:
        """Update the conflicts of devices, and notify of changes.  changed: by its evidence."""
        for device in sorted(devices):
            if (presence := self._presences.get(device)) is not None:
                conflict = self._observations.conflict(presence, self.resolver.own(device))
                rivals = self._observations.rivals(presence) if conflict else ()
                differs = device == changed or rivals != presence.rivals
                presence.rivals = rivals
                self._notifier.update(presence, conflict, now, changed=differs)
                if conflict not in (UNDISPUTED | {presence.warned}):
                    self._warn(presence)

    def _warn(self, presence: Presence) -> None:
        """Log that a child's identity is in question: once in a run, until that is answered.

        Of strangers it is not logged: any host can make them.
        """
        if not self.resolver.is_pinned(presence.device):
            return
        presence.warned = presence.conflict
        log.warning(
            "The identity of device %s is in question (%s)%s. Run gatewayctl explain %s.",
            presence.device,
            presence.conflict,
            f": {', '.join(presence.rivals)} shows it, too" if presence.rivals else "",
            presence.device,
            extra={"device": presence.device, "message_id": "identity-conflict"},
        )

    def _clear(self, resolved: Resolved) -> None:
        """Remove the devices that the resolver merged or evicted."""
        for gone in resolved.merged:
            self.counts["merged"] += 1
            self._merge(resolved.device, gone)
            self._listener.merged(resolved.device, gone)
        if resolved.evicted and not self.counts["devices-evicted"]:
            log.warning(
                "Dropped devices: %d of one source that are not admitted are kept."
                " Raise max_unadmitted under [discovery], or admit them.",
                self.resolver.limit,
            )
        for gone in resolved.evicted:
            self.counts["devices-evicted"] += 1
            if self.forget(gone):
                self._listener.evicted(gone)

    def _merge(self, kept: DeviceId, gone: DeviceId) -> None:
        """Move the observations of a merged device, as far as there is room."""
        old = self._presences.pop(gone, None)
        if old is None:
            return
        self._notifier.discard(old)
        presence = self._presences.setdefault(kept, Presence(kept, last_seen=old.last_seen))
        for observation in tuple(old.observations.values()):
            self._observations.remove(old, observation)
            if observation.origin not in presence.observations and self._has_room(presence):
                self._observations.add(presence, observation)
            else:
                self._scheduler.discard(observation)

    def _remove(self, observation: Observation, cause: Reason, now: float) -> None:
        """Remove an observation; perhaps its device has left."""
        presence = self._presences[observation.device]
        presence.left = cause
        concerned = self._observations.concerned(observation)
        self._drop(presence, observation)
        self._update(concerned, now, changed=observation.device if presence.observations else None)

    def _drop(self, presence: Presence, observation: Observation) -> None:
        self._scheduler.discard(observation)
        last = len(presence.observations) == 1
        self.resolver.left(presence.device, observation.origin, last=last)
        self._observations.remove(presence, observation)
