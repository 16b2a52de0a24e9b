"""What a door publishes: receipts in their order, and one retained status for each topic.  Pure.

Receipts are answers that a publisher waits for a few seconds; where too many wait, the oldest are
dropped, and their publishers send again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gatewayd.messages.doors.packets import MAX_PACKET_ID

MAX_RECEIPTS = 1000
"""Receipts that wait to leave."""
WINDOW = 200
"""Messages of ours in flight at most; the broker may allow fewer."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message of the door's own.  correlation: as the publisher gave it; b"" for none."""

    topic: str
    payload: bytes
    retained: bool = False
    correlation: bytes = b""


class OutgoingMessages:
    """The messages that wait to leave, and those in flight.

    dropped: receipts that were dropped.
    """

    def __init__(self) -> None:
        self._receipts: deque[OutgoingMessage] = deque()
        self._statuses: dict[str, OutgoingMessage] = {}
        self._in_flight: dict[int, OutgoingMessage] = {}
        self._newest = 0  # identifier
        self.dropped = 0

    def add_receipt(self, message: OutgoingMessage) -> None:
        """Queue a receipt."""
        self._receipts.append(message)
        self._bound()

    def set_status(self, message: OutgoingMessage) -> None:
        """Queue a retained message in place of an older one with its topic."""
        self._statuses.pop(message.topic, None)
        self._statuses[message.topic] = message

    def next(self, window: int) -> tuple[int, OutgoingMessage] | None:
        """Return what leaves next, with its identifier; None while there is nothing, or no room.

        window: messages that the broker lets be in flight.
        """
        waiting = self._receipts or self._statuses
        if not waiting or len(self._in_flight) >= min(window, WINDOW):
            return None
        if self._receipts:
            message = self._receipts.popleft()
        else:
            message = self._statuses.pop(next(iter(self._statuses)))
        packet = self._free()
        self._in_flight[packet] = message
        return packet, message

    def acknowledged(self, packet: int) -> None:
        """Note that the broker has a message; an unknown one is of an earlier connection."""
        self._in_flight.pop(packet, None)

    def lost(self) -> None:
        """Put back what was in flight when the connection was lost: it leaves first."""
        lost, self._in_flight = self._in_flight, {}
        for message in reversed(lost.values()):
            if message.retained:
                self._statuses.setdefault(message.topic, message)
            else:
                self._receipts.appendleft(message)
        self._bound()

    def _bound(self) -> None:
        while len(self._receipts) > MAX_RECEIPTS:
            self._receipts.popleft()
            self.dropped += 1

    def _free(self) -> int:
        """Return an identifier that is not in flight; there are far more than WINDOW."""
        while True:
            self._newest = self._newest % MAX_PACKET_ID + 1
            if self._newest not in self._in_flight:
                return self._newest
