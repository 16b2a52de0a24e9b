"""What children go through, counted: logins, refusals, and how long each takes to come online."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.record import RecordStore
from gatewayd.device.views import HistoryEntry
from gatewayd.monitoring.histogram import DurationHistogram, Durations

ONBOARDING_BOUNDS = (2.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1_800.0, 14_400.0, 86_400.0)
"""Seconds.  A child that a rule admits takes 2 to 10, with the wait in which its announcements
settle; hundreds that come together share the rate of the cloud, and take a minute or some; half an
hour and four hours are outages, and a day is an operator's."""

MAX_REASONS = 128
"""Reasons of refusals that are kept apart; codes are few, and a plug-in may add some."""
OTHER = "other"

_REFUSALS: Mapping[str, str] = {
    "RegistrationRefused": "registration",
    "RegistrationDelayed": "registration",
    "RegistrationUnknown": "registration",
    "SessionDelayed": "login",
    "SecretStale": "login",
    "ProofDelayed": "proof",
    "Frozen": "proof",
}
"""What was refused by an event, or could not be done."""

_ARRIVED = {State.ONLINE.shown, State.HANDED_OVER.shown}


class StepCounts:
    """The counts of what children go through since the daemon was started.

    now: seconds of a steady clock.
    logins, endings: by cloud.  refusals: by step and the code of the reason.
    """

    def __init__(self, records: RecordStore, now: Callable[[], float]) -> None:
        self._records, self._now = records, now
        self.logins: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self._newcomers: dict[DeviceId, float] = {}  # some of the children
        self._waited: set[DeviceId] = set()  # some of the newcomers
        self._times = {waited: DurationHistogram(ONBOARDING_BOUNDS) for waited in (False, True)}

    def note(self, device: DeviceId, before: State, entry: HistoryEntry) -> None:
        """Note the newest entry in the history of a child.  before: the state until then."""
        if entry.event == "SessionOpened":
            self.logins[self._cloud(device)] += 1
        elif entry.event == "SessionClosed":
            self.endings[self._cloud(device)] += 1
        elif step := _REFUSALS.get(entry.event):
            self._refused(step, entry.reason.code)
        self._follow(device, before, entry)

    def times(self) -> Mapping[bool, Durations]:
        """Return how long children took from the first sighting to online.

        By whether the child was pending in between.
        """
        return {waited: one.observed() for waited, one in self._times.items()}

    def _follow(self, device: DeviceId, before: State, entry: HistoryEntry) -> None:
        if entry.event == "Seen" and before is State.FORGOTTEN:
            self._newcomers[device] = self._now()
        elif device not in self._newcomers:
            return
        elif entry.state == State.PENDING.shown:
            self._waited.add(device)
        elif entry.state in _ARRIVED:
            took = self._now() - self._newcomers[device]
            self._times[device in self._waited].observe(took)
            self._leave(device)
        elif entry.state == State.FORGOTTEN.shown:
            self._leave(device)

    def _leave(self, device: DeviceId) -> None:
        del self._newcomers[device]
        self._waited.discard(device)

    def _refused(self, step: str, code: str) -> None:
        known = (step, code) in self.refusals or len(self.refusals) < MAX_REASONS
        self.refusals[step, code if known else OTHER] += 1

    def _cloud(self, device: DeviceId) -> str:
        record = self._records.get(device)
        return record.cloud.provider if record is not None and record.cloud is not None else ""
