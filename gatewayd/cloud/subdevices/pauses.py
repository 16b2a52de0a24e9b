"""Children that the cloud is not to be asked about for a while."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gatewayd.cloud.subdevices.coded import Coded
from gatewayd.device.reason import Reason

Key = TypeVar("Key", bound=Hashable)


class Pauses(Generic[Key]):
    """now: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[Key, tuple[float, Reason]] = {}

    def note(self, name: Key, coded: Coded) -> None:
        """Begin a pause, if one follows from this answer."""
        if coded.pause:
            self._forget_old()
            self._until[name] = self._now() + coded.pause, coded.reason

    def reason(self, name: Key) -> Reason | None:
        """Return why the cloud is not to be asked yet; None if it may be."""
        until, reason = self._until.get(name, (0.0, None))
        return reason if until > self._now() else None

    def end(self, name: Key) -> None:
        """Ask again at once."""
        self._until.pop(name, None)

    def _forget_old(self) -> None:
        """Keep the table as small as what is paused now, which the gateway's limit bounds."""
        now = self._now()
        self._until = {name: one for name, one in self._until.items() if one[0] > now}
