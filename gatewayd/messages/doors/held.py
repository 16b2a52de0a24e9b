"""What a door has read and not acknowledged: in order, and bounded.  Pure.

MQTT 5.0, 4.6: a client acknowledges messages in the order in which they came.
"""

from __future__ import annotations

from collections import deque

RECEIVE_MAXIMUM = 200
"""Messages that a broker has in flight to a door.  Not fewer: what has left a broker is not lost
with it."""
MOST_HELD, RESUME_AT = 2 * RECEIVE_MAXIMUM, RECEIVE_MAXIMUM
"""Messages that are not settled: at more than so many reading pauses, and goes on at so few.
mosquitto 2.0.11 sends more than the receive maximum, after a reconnect with a backlog."""
MOST_BYTES = 8 * 1024 * 1024
"""Their bytes at which reading pauses; it goes on at half."""
_OVERHEAD = 512
"""Bytes that a message costs beside its payload."""


class ReadBudget:
    """What a door may read ahead: the messages that are not settled, and their bytes."""

    def __init__(self) -> None:
        self.count = self._bytes = 0

    def add(self, size: int) -> None:
        """Count a message with a payload of so many bytes."""
        self.count += 1
        self._bytes += size + _OVERHEAD

    def remove(self, size: int) -> None:
        """Count it no more: it is settled."""
        self.count -= 1
        self._bytes -= size + _OVERHEAD

    @property
    def is_used_up(self) -> bool:
        """Whether reading has to pause."""
        return self.count > MOST_HELD or self._bytes > MOST_BYTES

    @property
    def has_room(self) -> bool:
        """Whether reading may go on after a pause."""
        return self.count <= RESUME_AT and self._bytes <= MOST_BYTES // 2


class HeldMessage:
    """A message that is not settled.  packet: 0 where it needs no acknowledgement."""

    __slots__ = ("packet", "settled")

    def __init__(self, packet: int) -> None:
        self.packet, self.settled = packet, False


class HeldAcknowledgements:
    """The messages of one connection that are not acknowledged, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[HeldMessage] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, packet: int) -> HeldMessage:
        """Begin to hold a message."""
        held = HeldMessage(packet)
        self._waiting.append(held)
        return held

    def settle(self, held: HeldMessage) -> list[int]:
        """Note that a message is durable or dropped; return the packets to acknowledge now."""
        assert not held.settled, "a message is settled once"
        held.settled = True
        waiting, due = self._waiting, []
        while waiting and waiting[0].settled:
            if packet := waiting.popleft().packet:
                due.append(packet)
        return due
