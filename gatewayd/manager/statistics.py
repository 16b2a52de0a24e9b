"""Counts of the children of each cloud, kept up to date as each child is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import IntEnum, auto
from typing import NamedTuple

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.views import ALL, DeviceView, Reporter, ShowChanges

MAX_REASONS = 256
"""Reasons whose sentences are kept; codes are few."""

THROTTLED = frozenset({"throttled", "cloud-throttled"})


class CloudPhase(IntEnum):
    """The phase of a child at its cloud."""

    ONLINE = auto()
    MOVING = auto()  # on its way
    WAITING = auto()  # something failed, and is tried again
    FAILED = auto()
    AWAY = auto()  # not on the LAN
    OUT = auto()  # belongs to no cloud, or was taken from it


OUT = CloudPhase.OUT
_UNDER_WAY = {"admitted", "registering", "securing", "registered", "activating", "offline"}
_WITHOUT_SECRET = {"admitted", "registering", "securing"}
_LAST: Mapping[str, CloudPhase] = {
    "online": CloudPhase.ONLINE,
    "failed": CloudPhase.FAILED,
    "frozen": CloudPhase.FAILED,
}


class CountKey(NamedTuple):
    """The group in which a child is counted.

    reason: why it waits or has failed; "" otherwise.
    queued: whether it still has to get a secret.  secret: whether one is stored.
    """

    provider: str
    phase: CloudPhase
    reason: str
    queued: bool
    secret: bool


class CloudStatistics(NamedTuple):
    """The counts of one cloud.

    state, reason: as org.gatewayd1.Provider shows them.
    """

    devices: int
    queued: int
    state: str
    reason: Reason


class DeviceStatistics:
    """A `Reporter` that counts the children, and passes every view on."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._keys: dict[DeviceId, CountKey] = {}
        self._shared: dict[CountKey, CountKey] = {}  # one object for all children that are alike
        self._counts: dict[str, Counter[CountKey]] = {}
        self._reasons: dict[str, Reason] = {}
        self._show_changes: ShowChanges | None = None

    @property
    def secrets(self) -> int:
        """The number of children that have a secret."""
        self._gather()
        counts = (counter.items() for counter in self._counts.values())
        return sum(n for items in counts for key, n in items if key.secret)

    def gather(self, show_changes: ShowChanges) -> None:
        """Have children counted that have changed, before counts are read, and pass it on."""
        self._show_changes = show_changes
        self._reporter.gather(show_changes)

    def show(self, view: DeviceView) -> None:
        """Count a child in its group of now."""
        self._forget(view.id)
        if view.provider:
            key = self._key(view)
            self._keys[view.id] = self._shared.setdefault(key, key)
            self._counts.setdefault(view.provider, Counter())[key] += 1
        self._reporter.show(view)

    def remove(self, device: DeviceId) -> None:
        """Count a child no more."""
        self._forget(device)
        self._reporter.remove(device)

    def of(self, provider: str) -> CloudStatistics:
        """Return the counts of a cloud."""
        self._gather()
        counts = {k: n for k, n in self._counts.get(provider, {}).items() if k.phase is not OUT}
        state = state_of(counts)
        code = _most_common(counts, CloudPhase.FAILED if state == "failed" else CloudPhase.WAITING)
        return CloudStatistics(
            sum(counts.values()),
            sum(n for key, n in counts.items() if key.queued),
            state,
            self._reasons.get(code, NONE) if state not in ("idle", "ready") else NONE,
        )

    def _gather(self) -> None:
        if self._show_changes is not None:
            self._show_changes(ALL)

    def _key(self, view: DeviceView) -> CountKey:
        phase, reason = phase_of(view), ""
        if phase in (CloudPhase.WAITING, CloudPhase.FAILED):
            reason = self._kept_reason(view)
        secret = view.secret_state == "stored"  # noqa: S105  # a word, no password
        return CountKey(view.provider, phase, reason, view.state in _WITHOUT_SECRET, secret)

    def _kept_reason(self, view: DeviceView) -> str:
        """Keep the sentences of a reason; return its code, "" if too many are kept."""
        if view.reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return ""
        self._reasons[view.reason] = Reason(view.reason, view.explanation, view.remedy)
        return view.reason

    def _forget(self, device: DeviceId) -> None:
        if (key := self._keys.pop(device, None)) is not None:
            counts = self._counts[key.provider]
            counts[key] -= 1
            if not counts[key]:
                del counts[key], self._shared[key]


def phase_of(view: DeviceView) -> CloudPhase:
    """Return the phase of a child."""
    if view.state in _UNDER_WAY:
        if view.substate == "absent":
            return CloudPhase.AWAY
        return CloudPhase.WAITING if view.next_attempt else CloudPhase.MOVING
    return _LAST.get(view.state, OUT)


def state_of(counts: Mapping[CountKey, int]) -> str:
    """Return the state of a cloud, from the phases of its children."""
    phases = {key.phase for key in counts} - {CloudPhase.AWAY}
    if not phases:
        return "idle"
    waiting = {key.reason for key in counts if key.phase is CloudPhase.WAITING}
    if waiting and waiting <= THROTTLED:
        return "throttled"
    if CloudPhase.ONLINE in phases:
        return "degraded" if waiting else "ready"
    return "connecting" if CloudPhase.MOVING in phases else "failed"


def _most_common(counts: Mapping[CountKey, int], phase: CloudPhase) -> str:
    """Return the most common reason of the children in this phase, or of those that wait."""
    for wanted in (phase, CloudPhase.WAITING):
        reasons: Counter[str] = Counter()
        for key, number in counts.items():
            if key.phase is wanted:
                reasons[key.reason] += number
        if reasons:
            return reasons.most_common(1)[0][0]
    return ""
