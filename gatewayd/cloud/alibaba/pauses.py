"""Children that the cloud is not to be asked about for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewayd.cloud.alibaba.codes import UNKNOWN_WAIT, Kind
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.device.reason import Reason

TOO_FAST = 429
_TOO_FAST_PAUSE = 60.0
_PAUSES: Mapping[Kind, float] = {
    Kind.CONFLICT: 300.0,  # two gateways would take the child from each other for ever
    Kind.UNKNOWN: UNKNOWN_WAIT,
}
"""Seconds after an answer of this kind."""


class Pauses:
    """now: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[SubName, tuple[float, Reason]] = {}

    def note(self, name: SubName, code: int, kind: Kind, reason: Reason) -> None:
        """Begin a pause, if one follows from this answer."""
        seconds = _TOO_FAST_PAUSE if code == TOO_FAST else _PAUSES.get(kind)
        if seconds is not None:
            self._forget_old()
            self._until[name] = self._now() + seconds, reason

    def reason(self, name: SubName) -> Reason | None:
        """Return why the cloud is not to be asked yet; None if it may be."""
        until, reason = self._until.get(name, (0.0, None))
        return reason if until > self._now() else None

    def end(self, name: SubName) -> None:
        """Ask again at once."""
        self._until.pop(name, None)

    def _forget_old(self) -> None:
        """Keep the table as small as what is paused now, which the gateway's limit bounds."""
        now = self._now()
        self._until = {name: one for name, one in self._until.items() if one[0] > now}
