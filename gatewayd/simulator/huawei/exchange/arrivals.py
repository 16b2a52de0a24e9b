"""What devices have said, in the order in which it arrived at the platform.  No I/O.

The owner's applications get it in this order, by the rules that forward data; the shadow has only
the newest of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.simulator.huawei import times

MAX_ARRIVALS = 200_000
"""Those of one instance that are kept, of which the oldest make room."""


class ArrivalKind(StrEnum):
    """What a device has said."""

    PROPERTIES = "properties"
    EVENT = "event"
    MESSAGE = "message"
    CUSTOM = "custom"  # on a topic that the platform does not define


@dataclass(frozen=True, slots=True)
class Arrival:
    """One thing that a device has said.

    device_id: the one that it is of, as a gateway's child.
    about: the service of properties; service and type of an event, as "climate.hot"; else the
    topic, "" for that of messages.
    body: properties, or the parameters of an event, that fit the product's model; else bytes.
    event_time: as it was sent; None where it is missing, or of no format that the platform has.
    when: seconds since 1970: that time, or else that of its arrival.
    """

    device_id: str
    kind: ArrivalKind
    about: str
    body: Mapping[str, object] | bytes
    event_time: str | None
    when: float

    def truth(self) -> dict[str, object]:
        """Return it for JSON; bytes that are no UTF-8 are replaced."""
        body = self.body.decode(errors="replace") if isinstance(self.body, bytes) else self.body
        return {
            "kind": self.kind,
            "about": self.about,
            "body": body,
            "event_time": self.event_time,
            "when": self.when,
        }


class Arrivals:
    """The arrivals of an instance.  clock: seconds since 1970.  watchers: called with each."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.watchers: list[Callable[[Arrival], None]] = []
        self._kept: deque[Arrival] = deque(maxlen=MAX_ARRIVALS)

    def add(
        self,
        device_id: str,
        kind: ArrivalKind,
        about: str,
        body: Mapping[str, object] | bytes,
        event_time: object = None,
    ) -> Arrival:
        """Keep what has arrived now."""
        read = times.read(event_time)
        sent = None if read is None else str(event_time)
        when = self._clock() if read is None else read
        arrival = Arrival(device_id, kind, about, body, sent, when)
        self._kept.append(arrival)
        for watcher in self.watchers:
            watcher(arrival)
        return arrival

    def all(self) -> Sequence[Arrival]:
        """Return everything, in its order."""
        return tuple(self._kept)

    def of(self, device_id: str) -> Sequence[Arrival]:
        """Return what one device has said, in its order."""
        return tuple(one for one in self._kept if one.device_id == device_id)

    def forget(self, device_id: str) -> None:
        """Delete what a deleted device has said."""
        self._kept = deque(
            (one for one in self._kept if one.device_id != device_id), maxlen=MAX_ARRIVALS
        )
