"""How fast a gateway may ask: the platform's limits, kept on our side.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewayd.backoff import Lane
from gatewayd.cloud.huawei.events import Event

MESSAGES = 40
"""In a second, of one device: the platform takes 50 ("Limitations" of the documentation)."""

REQUESTS: Mapping[Event, float] = {
    Event.ADD: 5,
    Event.DELETE: 5,
    Event.SYNC: 1,
}
"""In a second, each with all the children that it may have; the vendor gives no limits."""


class Pace:
    """status_per_second: children reported in a second.  now: seconds of a steady clock.

    There are two waits, one after the other: who waits for a busy event takes no moment away from
    the others meanwhile.
    """

    def __init__(self, status_per_second: int, now: Callable[[], float]) -> None:
        self._now = now
        self._all, self._reports = Lane(MESSAGES), Lane(status_per_second)
        self._requests = {event: Lane(rate) for event, rate in REQUESTS.items()}

    def for_event(self, event: Event, children: int) -> float:
        """Take the next free moment of this event; return the seconds until it comes."""
        if event is Event.STATUS:
            return self._reports.take(self._now(), children)
        return self._requests[event].take(self._now())

    def for_device(self) -> float:
        """Take the next free moment of the gateway for any message; return the same."""
        return self._all.take(self._now())
