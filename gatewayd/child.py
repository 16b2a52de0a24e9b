"""One child as the gateway holds it in memory: what is not durable, and who works on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.status.snapshot import Step

HISTORY = 24
"""How many of its newest steps a child remembers."""


@dataclass(slots=True)
class Child:
    """The state of one child, and the task that works for it.

    present: whether it is on the LAN.
    until: when something is tried again, seconds of the event loop's clock; 0 where nothing is.
    task: works for it; the newest.  hands: held by whoever works for it, so that nobody begins
    while another, who was told to end, still closes a session.
    changed, first_seen: when the state was entered, and when the child was first seen,
    microseconds since the epoch.
    """

    id: DeviceId
    state: State = State.FORGOTTEN
    reason: Reason = NONE
    present: bool = False
    until: float = 0.0
    changed: int = 0
    first_seen: int = 0
    label: str = ""
    task: asyncio.Task[None] | None = None
    hands: asyncio.Lock = field(default_factory=asyncio.Lock)
    history: tuple[Step, ...] = ()

    def remember(self, step: Step) -> None:
        """Add a step to the history."""
        self.history = (*self.history, step)[-HISTORY:]
