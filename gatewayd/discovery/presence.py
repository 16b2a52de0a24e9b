"""Whether a device is on the LAN, and who is notified of it.

The states are those of SWIM (A. Das et al., 2002).  A goodbye or silence only makes an
observation suspect: a suspect is asked, and it is removed only if it does not answer.  A device
is present while it has an observation.  A device that comes and goes too often is flapping: its
presence is not reported until it is stable (route flap damping, RFC 2439, 4).

Moments are arguments, in seconds of any one clock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from gatewayd.device.identity import Claim, DeviceId, Evidence, kernel_macs
from gatewayd.device.reason import NONE, Reason
from gatewayd.discovery.discoverer import Listener, Origin, Sighting
from gatewayd.discovery.queues import DeadlineQueue

log = logging.getLogger(__name__)

LEFT = Reason("left", "It said goodbye, and did not answer when asked.")
SILENT = Reason("silent", "It was silent for too long, and did not answer when asked.")
REPLACED = Reason("replaced", "Another device answers in its place.")
CHALLENGED = Reason("moved", "It was seen elsewhere, and did not answer here when asked.")

_ROUNDING = 1.0  # seconds; by then it is below the threshold, however the sum was rounded


TURN = 3600.0
"""Seconds in which a device behind one MAC has to be seen again after it was seen behind another,
so that it is at two places at once."""
MAX_TURNS = 4
"""MACs that are remembered of one origin."""


class PresenceState(StrEnum):
    """How sure it is that a device is there."""

    PRESENT = "present"
    SUSPECT = "suspect"  # it is being asked, and still counts as present
    ABSENT = "absent"


class SeenBehind:
    """The MACs of the kernel behind which one origin was seen lately.

    After one has followed another, the device may have moved.  Once one comes back while another
    is still believed, two devices show the same at once, or one of two ports.
    """

    def __init__(self) -> None:
        self._until: dict[Claim, float] = {}
        self._has_returned = False

    @property
    def at_once(self) -> frozenset[Claim]:
        """The MACs that take turns; none while there is no more than one."""
        return frozenset(self._until if self._has_returned else ())

    def note(self, claims: Collection[Claim], now: float, until: float) -> None:
        """Note a sighting.  until: how long it may be believed; here an hour at most."""
        found = kernel_macs(claims)
        if len(found) != 1:
            return
        (mac,) = found
        self._until = {one: end for one, end in self._until.items() if end > now}
        is_newest = next(reversed(self._until), mac) == mac
        self._has_returned &= len(self._until) > 1
        self._has_returned |= mac in self._until and not is_newest
        self._until.pop(mac, None)
        self._until[mac] = min(until, now + TURN)
        if len(self._until) > MAX_TURNS:
            del self._until[next(iter(self._until))]


@dataclass(slots=True, eq=False)
class Observation:
    """One device as seen at one origin.

    until: when it becomes suspect if no sighting comes.
    cause: why it is suspect; NONE while it is not.
    challenged: it must answer, as the device is seen elsewhere too: a sighting is not enough.
    verified: it has answered since it was last challenged.
    checking: it waits to be asked, or is being asked.
    doubt: why it would be suspect, of what came since then: an answer may be older.
    conflict, rivals: what the resolver said of the newest sighting.
    behind: the MACs behind which the device was seen here.
    """

    device: DeviceId
    origin: Origin
    sighting: Sighting
    until: float
    cause: Reason = NONE
    unanswered: int = 0
    challenged: bool = False
    verified: bool = False
    checking: bool = False
    doubt: Reason = NONE
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()
    behind: SeenBehind = field(default_factory=SeenBehind)

    @property
    def state(self) -> PresenceState:
        """PRESENT or SUSPECT: an absent observation does not exist."""
        return PresenceState.SUSPECT if self.cause is not NONE else PresenceState.PRESENT

    def refresh(self, sighting: Sighting, until: float) -> bool:
        """Replace the sighting; return whether that ended a suspicion.  A challenge stays."""
        self.sighting, self.until = sighting, until
        if self.state is PresenceState.PRESENT or self.challenged:
            return False
        self.cause, self.unanswered = NONE, 0
        return True

    def suspect(self, cause: Reason) -> bool:
        """Make it suspect; False if it was already."""
        if self.checking:
            self.doubt = cause
        if self.state is PresenceState.SUSPECT:
            return False
        self.cause, self.unanswered = cause, 0
        return True

    def challenge(self) -> bool:
        """Demand an answer; False if one was demanded already."""
        if self.challenged:
            return False
        self.challenged, self.verified = True, False
        self.cause, self.unanswered = CHALLENGED, 0
        return True

    def confirm(self, doubt: Reason) -> None:
        """Note an answer: the device is there.  doubt: as there was one before the answer came."""
        self.cause, self.unanswered = doubt, 0
        self.challenged, self.verified = False, True

    def miss(self) -> int:
        """Note a missing answer; return how many are missing in a row."""
        self.unanswered += 1
        return self.unanswered


@dataclass(frozen=True, slots=True)
class FlapRules:
    """When a device is flapping.

    penalty: added at each change.  half_life: seconds in which the sum decays to its half.
    suppress: above it presence is not reported.  release: below it presence is reported again.
    """

    penalty: float = 1000.0
    half_life: float = 900.0
    suppress: float = 3000.0
    release: float = 1000.0

    @property
    def ceiling(self) -> float:
        """The largest sum, so that a device is released some time after its last change."""
        return 4 * self.suppress


@dataclass(slots=True)
class FlapDamper:
    """The penalty of one device: RFC 2439's figure of merit."""

    sum: float = 0.0
    since: float = 0.0
    suppressed: bool = False

    def strike(self, now: float, rules: FlapRules) -> None:
        """Count one change."""
        self._decay(now, rules)
        self.sum = min(self.sum + rules.penalty, rules.ceiling)

    def settle(self, now: float, rules: FlapRules) -> None:
        """Update whether changes are suppressed."""
        self._decay(now, rules)
        threshold = rules.release if self.suppressed else rules.suppress
        self.suppressed = self.sum > threshold

    def release_at(self, rules: FlapRules) -> float:
        """Return a moment when a suppressed device is released, if nothing more happens."""
        excess = max(self.sum / rules.release, 1.0)
        return self.since + rules.half_life * math.log2(excess) + _ROUNDING

    def _decay(self, now: float, rules: FlapRules) -> None:
        self.sum *= 0.5 ** ((now - self.since) / rules.half_life)
        self.since = now


class PresenceChange(Enum):
    """What there is to report of a device's presence."""

    NOTHING = auto()
    SEEN = auto()
    LOST = auto()
    FLAPPING = auto()  # reported once; the last report holds until it is stable
    STABLE = auto()  # no longer flapping, and as last reported


@dataclass(slots=True, eq=False)
class Presence:
    """The presence of one device, at all its origins.

    reported: whether it was last reported as present; None before the first report.
    last_seen, changed_at: seconds; 0 for never.
    left: why its last observation was removed.
    rivals: the other devices in its conflict.  warned: of which conflict the log warns.
    evidence: what these facts make together: its claims, its sightings and its conflict.
    """

    device: DeviceId
    observations: dict[Origin, Observation] = field(default_factory=dict)
    damper: FlapDamper = field(default_factory=FlapDamper)
    here: bool = False
    reported: bool | None = None
    last_seen: float = 0.0
    changed_at: float = 0.0
    left: Reason = NONE
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()
    warned: str = ""
    facts: tuple[object, ...] | None = None
    evidence: Evidence | None = None

    @property
    def state(self) -> PresenceState:
        """The best of its observations."""
        states = {observation.state for observation in self.observations.values()}
        ranked = (PresenceState.PRESENT, PresenceState.SUSPECT)
        return next((state for state in ranked if state in states), PresenceState.ABSENT)

    @property
    def flapping(self) -> bool:
        """Whether it comes and goes too often to be reported."""
        return self.damper.suppressed

    def update(self, now: float, rules: FlapRules) -> PresenceChange:
        """Return the change to report now; each is returned once."""
        before = self.damper.suppressed
        if self.here != bool(self.observations):
            self.here = bool(self.observations)
            if self.reported is not None:
                self.damper.strike(now, rules)
        self.damper.settle(now, rules)
        if self.damper.suppressed:
            return PresenceChange.NOTHING if before else PresenceChange.FLAPPING
        if self.here != bool(self.reported):
            self.reported = self.here
            return PresenceChange.SEEN if self.here else PresenceChange.LOST
        return PresenceChange.STABLE if before else PresenceChange.NOTHING


class ChangeNotifier:
    """The notifier of a listener: of each change once, and not of presence while it flaps."""

    def __init__(self, listener: Listener, flaps: FlapRules) -> None:
        self._listener, self._flaps = listener, flaps
        self._flapping: DeadlineQueue[Presence] = DeadlineQueue()
        self.suppressed = self.conflicts = 0

    def next(self) -> float | None:
        """Return when the next flapping device may be stable; None if there is none."""
        return self._flapping.next()

    def due(self, now: float) -> Presence | None:
        """Return a flapping device that may be stable by now; None if there is none."""
        return self._flapping.pop(now)

    def discard(self, presence: Presence) -> None:
        """Forget a device."""
        self._flapping.discard(presence)

    def update(self, presence: Presence, conflict: str, now: float, *, changed: bool) -> None:
        """Notify the listener of what is new.  changed: whether the device's evidence changed."""
        self.conflicts += conflict not in ("", presence.conflict)
        changed = changed or conflict != presence.conflict
        presence.conflict = conflict
        change = presence.update(now, self._flaps)
        if changed or change is not PresenceChange.NOTHING:
            presence.changed_at = now
        if presence.flapping:
            self._flapping.put(presence, presence.damper.release_at(self._flaps))
        self._notify(presence, change, changed=changed)

    def _notify(self, presence: Presence, change: PresenceChange, *, changed: bool) -> None:
        match change:
            case PresenceChange.SEEN:
                self._listener.seen(presence.device)
            case PresenceChange.LOST:
                self._listener.lost(presence.device, presence.left)
            case PresenceChange.FLAPPING:
                self.suppressed += 1
                log.warning(
                    "Device %s is flapping; presence changes are suppressed until it is stable.",
                    presence.device,
                    extra={"device": presence.device, "message_id": "device-flapping"},
                )
                self._listener.changed(presence.device)
            case PresenceChange.STABLE:
                self._listener.changed(presence.device)
            case PresenceChange.NOTHING if changed and not presence.flapping:
                self._listener.changed(presence.device)
