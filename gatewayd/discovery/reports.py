"""Tells the listener what has become of a device, each thing once, and not while it flaps."""

from __future__ import annotations

import logging

from gatewayd.discovery.agenda import Agenda
from gatewayd.discovery.listener import Listener
from gatewayd.discovery.presence import FlapRules, News, Presence

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
