"""Who is doubted, and when it is to be asked.  Pure: moments are arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection

from gatewayd.device.identity import Claim
from gatewayd.device.reason import Reason
from gatewayd.discovery.evidence import are_apart
from gatewayd.discovery.presence import SILENT, Phase, Presence, Spot
from gatewayd.discovery.queues import Agenda
from gatewayd.discovery.settings import InventorySettings

UNCLEAR = 60.0
"""Seconds until a spot is asked again when it could not be asked."""


class Doubts:
    """The next moment of every spot: when silence makes it suspect, or when it is asked.

    jitter: a number from [0, 1) at each call.
    """

    def __init__(self, settings: InventorySettings, jitter: Callable[[], float]) -> None:
        self._settings, self._jitter = settings, jitter
        self._agenda: Agenda[Spot] = Agenda()

    def next(self) -> float | None:
        """Return the earliest moment; None where there is none."""
        return self._agenda.next()

    def due(self, now: float) -> Spot | None:
        """Return the next spot that is to be asked now; None where there is none."""
        while (spot := self._agenda.pop(now)) is not None:
            if spot.checking:
                self._agenda.put(spot, now + self._settings.verify_gap)
            elif spot.phase is Phase.SUSPECT:
                spot.checking = True
                return spot
            elif spot.until > now:
                self._agenda.put(spot, spot.until)
            else:
                self.doubt(spot, SILENT, now)
        return None

    def trust(self, spot: Spot) -> None:
        """Leave a spot alone for as long as its sighting is valid."""
        self._agenda.put(spot, spot.until)

    def doubt(self, spot: Spot, cause: Reason, now: float) -> None:
        """Have a spot asked soon, unless it is suspect already."""
        if spot.doubt(cause):
            self._ask_soon(spot, now)

    def challenge(self, presence: Presence, spot: Spot, own: Collection[Claim], now: float) -> None:
        """Where a device seems to be at this spot and elsewhere at once, let both answer."""
        for other in presence.spots.values():
            if other is not spot and are_apart(other.sighting, spot.sighting, own):
                for one in (spot, other):
                    if one.challenge():
                        self._ask_soon(one, now)

    def missed(self, spot: Spot, now: float) -> bool:
        """Note that a suspect did not answer; return whether it is gone."""
        if spot.miss() >= self._settings.verify_tries:
            return True
        self._agenda.put(spot, now + self._settings.verify_gap)
        return False

    def unclear(self, spot: Spot, now: float) -> None:
        """Ask later: it could not be asked."""
        self._agenda.put(spot, now + UNCLEAR)

    def discard(self, spot: Spot) -> None:
        """Forget a spot."""
        self._agenda.discard(spot)

    def _ask_soon(self, spot: Spot, now: float) -> None:
        wait = self._settings.verify_wait + self._settings.verify_spread * self._jitter()
        self._agenda.put(spot, now + wait)
