"""Whether a device is on the LAN.  Pure: moments are arguments, seconds of any one clock.

A goodbye or silence only makes a spot suspect: whoever is suspected is asked, and only who does
not answer is gone.  A device is present while any of its spots is.  One that comes and goes too
often is no longer reported until it has calmed down.

Tells the listener what has become of a device, each thing once, and not while it flaps.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.discovery.discoverer import Listener, Sighting
from gatewayd.discovery.queues import Agenda
from gatewayd.discovery.resolver import Place

LEFT = Reason("left", "It said goodbye, and did not answer when asked.")
SILENT = Reason("silent", "It was not heard for too long, and did not answer when asked.")
REPLACED = Reason("replaced", "Another device answers in its place.")
CHALLENGED = Reason("moved", "It was seen elsewhere, and did not answer here when asked.")

_ROUNDING = 1.0  # seconds; by then it is below the threshold, however the sum was rounded


class Phase(StrEnum):
    """How sure we are that something is there."""

    PRESENT = "present"
    SUSPECT = "suspect"  # there is doubt; it is being asked, and still counts as present
    ABSENT = "absent"


@dataclass(slots=True, eq=False)
class Spot:
    """A device at one place (source, key).

    until: when it is to be doubted if nothing more is heard.
    cause: why it is suspect; NONE while it is not.
    challenged: it must answer, as it is seen elsewhere too: what is only heard does not clear it.
    verified: it has answered since it was last challenged.
    checking: it is about to be asked, or is being asked.
    conflict, rivals: what the resolver said of the newest sighting.
    """

    device: DeviceId
    place: Place
    sighting: Sighting
    until: float
    cause: Reason = NONE
    unanswered: int = 0
    challenged: bool = False
    verified: bool = False
    checking: bool = False
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()

    @property
    def phase(self) -> Phase:
        """PRESENT or SUSPECT: an absent spot is no more."""
        return Phase.SUSPECT if self.cause is not NONE else Phase.PRESENT

    def hear(self, sighting: Sighting, until: float) -> bool:
        """It was heard; return whether that ended a suspicion.  A challenge wants an answer."""
        self.sighting, self.until = sighting, until
        if self.phase is Phase.PRESENT or self.challenged:
            return False
        self.cause, self.unanswered = NONE, 0
        return True

    def doubt(self, cause: Reason) -> bool:
        """Make it suspect; False if it was already."""
        if self.phase is Phase.SUSPECT:
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

    def answer(self) -> None:
        """It answered: it is there."""
        self.cause, self.unanswered = NONE, 0
        self.challenged, self.verified = False, True

    def miss(self) -> int:
        """It did not answer; return how often in a row."""
        self.unanswered += 1
        return self.unanswered


@dataclass(frozen=True, slots=True)
class FlapRules:
    """When a device comes and goes too often.

    penalty: added at each change.  half_life: seconds in which the sum decays to its half.
    suppress: above it nothing is reported.  release: below it all is reported again.
    """

    penalty: float = 1000.0
    half_life: float = 900.0
    suppress: float = 3000.0
    release: float = 1000.0

    @property
    def ceiling(self) -> float:
        """What the sum never exceeds, so that a device is released some time after the last."""
        return 4 * self.suppress


@dataclass(slots=True)
class Damper:
    """The penalty of one device."""

    sum: float = 0.0
    since: float = 0.0
    suppressed: bool = False

    def strike(self, now: float, rules: FlapRules) -> None:
        """Count one change."""
        self._decay(now, rules)
        self.sum = min(self.sum + rules.penalty, rules.ceiling)

    def settle(self, now: float, rules: FlapRules) -> None:
        """Find out whether changes are suppressed now."""
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


class News(Enum):
    """What there is to report of a device."""

    NOTHING = auto()
    SEEN = auto()
    LOST = auto()
    FLAPPING = auto()  # reported once; the last report holds until it has calmed down
    STEADY = auto()  # calmed down, and as last reported


@dataclass(slots=True, eq=False)
class Presence:
    """One device, wherever it is seen.

    reported: what was last told to others; None before the first time.
    last_seen, changed_at: seconds; 0 for never.
    left: why it left its last spot.
    """

    device: DeviceId
    spots: dict[Place, Spot] = field(default_factory=dict)
    damper: Damper = field(default_factory=Damper)
    here: bool = False
    reported: bool | None = None
    last_seen: float = 0.0
    changed_at: float = 0.0
    left: Reason = NONE
    conflict: str = ""

    @property
    def phase(self) -> Phase:
        """The best of its spots."""
        phases = {spot.phase for spot in self.spots.values()}
        ranked = (Phase.PRESENT, Phase.SUSPECT)
        return next((phase for phase in ranked if phase in phases), Phase.ABSENT)

    @property
    def flapping(self) -> bool:
        """Whether it comes and goes too often to be reported."""
        return self.damper.suppressed

    def news(self, now: float, rules: FlapRules) -> News:
        """Return what is to be reported now, once."""
        before = self.damper.suppressed
        if self.here != bool(self.spots):
            self.here = bool(self.spots)
            if self.reported is not None:
                self.damper.strike(now, rules)
        self.damper.settle(now, rules)
        if self.damper.suppressed:
            return News.NOTHING if before else News.FLAPPING
        if self.here != bool(self.reported):
            self.reported = self.here
            return News.SEEN if self.here else News.LOST
        return News.STEADY if before else News.NOTHING


log = logging.getLogger(__name__)


class Reports:
    """Compares devices with what was last told of them."""

    def __init__(self, listener: Listener, flaps: FlapRules) -> None:
        self._listener, self._flaps = listener, flaps
        self._flapping: Agenda[Presence] = Agenda()
        self.suppressed = self.conflicts = 0

    def next(self) -> float | None:
        """Return when the next flapping device may have calmed down; None where there is none."""
        return self._flapping.next()

    def due(self, now: float) -> Presence | None:
        """Return a flapping device that may have calmed down by now; None where there is none."""
        return self._flapping.pop(now)

    def discard(self, presence: Presence) -> None:
        """Forget a device."""
        self._flapping.discard(presence)

    def update(self, presence: Presence, conflict: str, now: float, *, changed: bool) -> None:
        """Tell what is new.  changed: whether its evidence is another than before."""
        self.conflicts += conflict not in ("", presence.conflict)
        changed = changed or conflict != presence.conflict
        presence.conflict = conflict
        news = presence.news(now, self._flaps)
        if changed or news is not News.NOTHING:
            presence.changed_at = now
        if presence.flapping:
            self._flapping.put(presence, presence.damper.release_at(self._flaps))
        self._tell(presence, news, changed=changed)

    def _tell(self, presence: Presence, news: News, *, changed: bool) -> None:
        match news:
            case News.SEEN:
                self._listener.seen(presence.device)
            case News.LOST:
                self._listener.lost(presence.device, presence.left)
            case News.FLAPPING:
                self.suppressed += 1
                about = {"device": presence.device, "message_id": "device-flapping"}
                log.warning("It comes and goes too often.", extra=about)
                self._listener.changed(presence.device)
            case News.STEADY:
                self._listener.changed(presence.device)
            case News.NOTHING if changed and not presence.flapping:
                self._listener.changed(presence.device)
