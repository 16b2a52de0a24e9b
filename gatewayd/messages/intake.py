"""The way from a door into the outbox: what a door hands over, and how it learns the outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason


class IncomingMessage(NamedTuple):
    """One message as a door received it.

    door: its name; the outbox knows repeats by door, packet and digest.
    topic: as in `Message`.
    packet: the identifier of the MQTT packet, 1 to 65535; 0 where it needs no acknowledgement.
    repeated: whether the broker says that it may have sent this packet before (DUP).
    """

    door: str
    child: DeviceId
    topic: str
    payload: bytes
    packet: int = 0
    repeated: bool = False


Settled: TypeAlias = Callable[[DropReason | None], None]
"""Called once, in order of arrival: when a message is durable (None), or why it was dropped.  Then
the door acknowledges it: a message that is dropped is never sent again by the broker."""


class MessageIntake(Protocol):
    """What accepts the messages of all doors."""

    @property
    def blocked(self) -> bool:
        """Whether nothing can be stored now: a door then stops reading, until `on_ready`."""

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        """Accept a message, and have `settled` called later, on the event loop.  Never blocks.

        A door bounds how many it has offered that are not settled.
        """

    def session_begun(self, door: str) -> None:
        """Note that a door's broker has begun a new session: none of its packets was sent before.

        Called before messages of that session are offered.
        """

    def was_away(self, door: str, seconds: float) -> None:
        """Note that a door has read nothing for some seconds, and reads again from now on.

        What its broker has kept of children meanwhile comes at once.  seconds: inf if not known.
        """

    def on_ready(self, resume: Callable[[], None]) -> None:
        """Have `resume` called, each time that `blocked` ends."""

    @property
    def gathers(self) -> bool:
        """Whether what comes now is stored a moment later, with what was offered before.

        Until then a door may leave it with its broker.
        """

    def on_due(self, gather: Callable[[], None]) -> None:
        """Have `gather` called, each time that what has come is about to be stored."""
