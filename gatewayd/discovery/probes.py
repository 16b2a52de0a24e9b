"""When a suspect device is probed.  Pure: moments are arguments."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.device.reason import NONE, Reason
from gatewayd.discovery.comparison import OwnClaims, are_apart
from gatewayd.discovery.presence import SILENT, Observation, Presence, PresenceState
from gatewayd.discovery.queues import DeadlineQueue
from gatewayd.discovery.settings import InventorySettings

RETRY_AFTER_FAULT = 60.0
"""Seconds until a device that could not be asked is probed again."""


class ProbeScheduler:
    """The scheduler of probes: the next moment of every observation.

    Until that moment its sighting is valid; then it becomes suspect, and is probed.

    jitter: a number from [0, 1) at each call.
    """

    def __init__(self, settings: InventorySettings, jitter: Callable[[], float]) -> None:
        self._settings, self._jitter = settings, jitter
        self._deadlines: DeadlineQueue[Observation] = DeadlineQueue()

    def next(self) -> float | None:
        """Return the earliest moment; None if there is none."""
        return self._deadlines.next()

    def due(self, now: float) -> Observation | None:
        """Return the next observation to probe now; None if there is none."""
        while (observation := self._deadlines.pop(now)) is not None:
            if observation.checking:
                self._deadlines.put(observation, now + self._settings.probe_gap)
            elif observation.state is PresenceState.SUSPECT:
                observation.checking, observation.doubt = True, NONE
                return observation
            elif observation.until > now:
                self._deadlines.put(observation, observation.until)
            else:
                self.suspect(observation, SILENT, now)
        return None

    def trust(self, observation: Observation) -> None:
        """Do not probe an observation while its sighting is valid."""
        self._deadlines.put(observation, observation.until)

    def suspect(self, observation: Observation, cause: Reason, now: float) -> None:
        """Make an observation suspect, and probe it soon, unless it is suspect already."""
        if observation.suspect(cause):
            self._probe_soon(observation, now)

    def challenge(
        self, presence: Presence, observation: Observation, own: OwnClaims, now: float
    ) -> None:
        """Challenge each pair of observations in which one device seems to be at two places.

        presence: of the device.  own: what identifies it.
        """
        beside = [one.sighting for one in presence.observations.values()]
        for other in presence.observations.values():
            pair = other.sighting, observation.sighting
            if other is not observation and are_apart(*pair, own, beside):
                for one in (observation, other):
                    if one.challenge():
                        self._probe_soon(one, now)

    def probe_answered(self, observation: Observation, doubt: Reason, now: float) -> None:
        """Note that a probe was answered.  doubt: one that came since; then probe once more."""
        observation.confirm(doubt)
        if doubt is NONE:
            self.trust(observation)
        else:
            self._probe_soon(observation, now)

    def probe_unanswered(self, observation: Observation, now: float) -> bool:
        """Note that a probe was not answered; return whether it was the last try."""
        if observation.miss() >= self._settings.probe_tries:
            return True
        self._deadlines.put(observation, now + self._settings.probe_gap)
        return False

    def probe_failed(self, observation: Observation, now: float) -> None:
        """Probe later, as this probe could not be made."""
        self._deadlines.put(observation, now + RETRY_AFTER_FAULT)

    def discard(self, observation: Observation) -> None:
        """Forget an observation."""
        self._deadlines.discard(observation)

    def _probe_soon(self, observation: Observation, now: float) -> None:
        wait = self._settings.probe_wait + self._settings.probe_spread * self._jitter()
        self._deadlines.put(observation, now + wait)
