"""The recorder: what comes from the LAN and the kernel, event by event, within bounds.

It runs where the events are, which is the discovery helper, and is nowhere on their way while
nothing is recorded.  gatewayd-recording(5) describes what becomes of the events.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from gatewayd.discovery.discoverer import EventHook

MAX_SECONDS: Final = 3600
MAX_BYTES: Final = 64 << 20
USUAL_BYTES: Final = 8 << 20
"""Of a recording for which no number is named."""
MAX_DATA: Final = 16 << 10
"""Bytes that are kept of one datagram; mDNS has none of more than 9,000 (RFC 6762, 17)."""
MAX_FIELDS: Final = 16
MAX_TEXT: Final = 1024
"""Fields of an event, and characters of a text in it."""
EVENT: Final = 128
"""Bytes that an event counts for besides its data and texts."""
END: Final = "end"
"""The kind of the last event."""

KIND: Final = re.compile(r"[a-z][a-z-]{0,31}")
FIELD: Final = re.compile(r"[a-z][a-z_]{0,31}")

EventData: TypeAlias = Mapping[str, str | int | bytes]


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event: a datagram, a change of the kernel's, or the end.

    kind: as "datagram".  at: seconds of the event loop's clock.
    data: what is known of it; bytes only under the name "data".
    """

    kind: str
    at: float
    data: EventData

    @property
    def size(self) -> int:
        """How many bytes it counts for."""
        texts = (len(one) for one in self.data.values() if not isinstance(one, int))
        return EVENT + sum(texts)


class Recorder:
    """The recorder of one hook, on the event loop.

    send: called with each event.  is_full: whether so much waits to be sent that events are lost.
    now: the event loop's clock, seconds.
    """

    def __init__(
        self,
        hook: EventHook,
        send: Callable[[RecordedEvent], None],
        is_full: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._hook, self._send, self._is_full, self._now = hook, send, is_full, now
        self._left = self._lost = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float, most: int) -> None:
        """Record for so many seconds, and at most so many bytes, in place of what is recorded."""
        self.close()
        self._left, self._lost = min(most, MAX_BYTES), 0
        self._hook.observe = self._observe
        later = asyncio.get_running_loop().call_later
        self._timer = later(min(seconds, MAX_SECONDS), self._end, "time")
        for show in tuple(self._hook.states.values()):
            show()

    def close(self) -> None:
        """Record nothing more."""
        self._hook.observe = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _observe(self, kind: str, at: float, data: EventData) -> None:
        event = RecordedEvent(kind, at, cut(data))
        if event.size > self._left:
            self._end("size")
        elif self._is_full():
            self._lost += 1
        else:
            self._left -= event.size
            self._send(event)

    def _end(self, reason: str) -> None:
        self.close()
        self._send(RecordedEvent(END, self._now(), {"reason": reason, "lost": self._lost}))


def cut(data: EventData) -> EventData:
    """Return what is known of an event with no more of a datagram than is kept.

    "cut": how many bytes are missing at the end.
    """
    raw = data.get("data", b"")
    if isinstance(raw, bytes) and len(raw) > MAX_DATA:
        return {**data, "data": raw[:MAX_DATA], "cut": len(raw) - MAX_DATA}
    return data
