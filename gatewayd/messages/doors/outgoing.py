"""What a door publishes: commands, then receipts, then one retained status for each topic.  Pure.

A cloud waits for the answer to a command for seconds, so commands leave first, each while it is of
use, and once: what was in flight when the connection was lost may have reached the child.  Receipts
are answers that a publisher waits for a few seconds; where too many wait, the oldest are dropped,
and their publishers send again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from gatewayd.messages.doors.packets import (
    MAX_PACKET_ID,
    NO_MATCH,
    NO_PROPERTIES,
    REFUSED,
    PublishProperties,
)

MAX_RECEIPTS = 1000
"""Receipts that wait to leave."""
LEAST = 2.0
"""Seconds that a command has left when it leaves: 1 is the least expiry that can be said."""
WINDOW = 200
"""Messages of ours in flight at most; the broker may allow fewer."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message of the door's own."""

    topic: str
    payload: bytes
    retained: bool = False
    properties: PublishProperties = NO_PROPERTIES


class Passage(StrEnum):
    """What became of a command at the broker."""

    PASSED = "passed"  # the broker has it, for a session that subscribes
    NO_LISTENER = "no-listener"  # none does, or the broker refuses it, or the door is closed
    UNKNOWN = "unknown"  # the connection was lost before the broker said so


Passed: TypeAlias = Callable[[Passage], None]


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingCommand:
    """A command that leaves.

    deadline: seconds of a steady clock, at which it must not reach its child any more.
    passed: called once, unless it is withdrawn.
    """

    message: OutgoingMessage
    deadline: float
    passed: Passed

    def message_at(self, now: float) -> OutgoingMessage:
        """Return what is sent now: the broker is not to deliver it after the deadline."""
        expiry = expiry_of(self.deadline - now)
        return replace(self.message, properties=self.message.properties._replace(expiry=expiry))


def expiry_of(left: float) -> int:
    """Return after how many seconds a broker is to expire a message that has so many left.

    mosquitto counts whole seconds, and delivers within the last one, too.  left: LEAST or more.
    """
    return int(left) - 1


class OutgoingMessages:
    """The messages that wait to leave, and those in flight.

    dropped: receipts that were dropped.
    """

    def __init__(self) -> None:
        self._commands: dict[OutgoingCommand, None] = {}  # in order
        self._receipts: deque[OutgoingMessage] = deque()
        self._statuses: dict[str, OutgoingMessage] = {}
        self._in_flight: dict[int, OutgoingMessage | OutgoingCommand] = {}
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

    def add_command(self, command: OutgoingCommand) -> None:
        """Queue a command; those that may wait are bounded where they come from."""
        self._commands[command] = None

    def withdraw(self, command: OutgoingCommand) -> None:
        """Do not send a command, if it has not left."""
        self._commands.pop(command, None)

    def next(self, window: int, now: float) -> tuple[int, OutgoingMessage] | None:
        """Return what leaves next, with its identifier; None while there is nothing, or no room.

        window: messages that the broker lets be in flight.  now: of the clock of deadlines.
        """
        if len(self._in_flight) >= min(window, WINDOW):
            return None
        taken = self._take(now)
        if taken is None:
            return None
        packet = self._free()
        self._in_flight[packet] = taken
        if isinstance(taken, OutgoingCommand):
            return packet, taken.message_at(now)
        return packet, taken

    def _take(self, now: float) -> OutgoingMessage | OutgoingCommand | None:
        while self._commands:
            command = next(iter(self._commands))
            del self._commands[command]
            if command.deadline - now >= LEAST:  # else it ends without an answer in a moment
                return command
        if self._receipts:
            return self._receipts.popleft()
        if self._statuses:
            return self._statuses.pop(next(iter(self._statuses)))
        return None

    def acknowledged(self, packet: int, code: int = 0) -> None:
        """Note that the broker has a message; an unknown one is of an earlier connection.

        code: of its PUBACK.
        """
        sent = self._in_flight.pop(packet, None)
        if isinstance(sent, OutgoingCommand):
            missed = code == NO_MATCH or code >= REFUSED
            sent.passed(Passage.NO_LISTENER if missed else Passage.PASSED)

    def lost(self) -> None:
        """Put back what was in flight when the connection was lost: it leaves first.

        Commands do not: they are passed on by another door, or have no listener.
        """
        lost, self._in_flight = self._in_flight, {}
        waiting, self._commands = self._commands, {}
        for one in reversed(lost.values()):
            if isinstance(one, OutgoingCommand):
                continue
            if one.retained:
                self._statuses.setdefault(one.topic, one)
            else:
                self._receipts.appendleft(one)
        self._bound()
        for command in [one for one in lost.values() if isinstance(one, OutgoingCommand)]:
            command.passed(Passage.UNKNOWN)
        for command in waiting:
            command.passed(Passage.NO_LISTENER)

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
