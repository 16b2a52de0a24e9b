"""What takes the place of the outbox in tests of a door, and of the children on record."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.intake import IncomingMessage, Settled

PATIENCE = 60.0
CHILD, OTHER = DeviceId("child-0123456789ab"), DeviceId("child-ba9876543210")


class Intake:
    """An intake that settles at once, or when a test says so.

    by_hand: whether messages wait for `settle`.  reasons: why to drop messages, by topic.
    gathering: whether what comes may wait for `gather`.
    """

    def __init__(self, *, by_hand: bool = False) -> None:
        self.by_hand, self.blocked, self.gathering = by_hand, False, False
        self.received: list[IncomingMessage] = []
        self.waiting: deque[Settled] = deque()
        self.sessions: list[str] = []
        self.absences: list[float] = []
        self.reasons: dict[str, DropReason] = {}
        self._resume: list[Callable[[], None]] = []
        self._due: list[Callable[[], None]] = []
        self._arrived = asyncio.Condition()

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        self.received.append(message)
        if self.by_hand:
            self.waiting.append(settled)
        else:
            reason = self.reasons.get(message.topic)
            asyncio.get_running_loop().call_soon(settled, reason)

    def session_begun(self, door: str) -> None:
        self.sessions.append(door)

    def was_away(self, door: str, seconds: float) -> None:
        self.absences.append(seconds)

    def on_ready(self, resume: Callable[[], None]) -> None:
        self._resume.append(resume)

    @property
    def gathers(self) -> bool:
        return self.gathering

    def on_due(self, gather: Callable[[], None]) -> None:
        self._due.append(gather)

    def gather(self) -> None:
        """Have the door read what has come."""
        self.gathering = False
        for gather in self._due:
            gather()

    def settle(self, count: int, reason: DropReason | None = None) -> None:
        """Settle so many of the oldest."""
        for _ in range(count):
            self.waiting.popleft()(reason)

    def unblock(self) -> None:
        self.blocked = False
        for resume in self._resume:
            resume()

    async def until(self, count: int) -> list[IncomingMessage]:
        """Return what was received, once that is so much."""
        await until(lambda: len(self.received) >= count, lambda: f"{len(self.received)} of {count}")
        return self.received


async def until(condition: Callable[[], object], state: Callable[[], object] = str) -> None:
    """Return once something is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"still not: {state()}") from None


@dataclass
class Children:
    """Children on record: by key and text."""

    known: Mapping[tuple[ChildKey, str], DeviceId] = field(
        default_factory=lambda: {(ChildKey.ID, one): one for one in (CHILD, OTHER)}
    )

    def find(self, key: ChildKey, text: str) -> DeviceId | None:
        return self.known.get((key, text))
