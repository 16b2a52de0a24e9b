"""The story of gatewayd, performed on fakes, on real parts, and in the demo, in the same words.

The world makes things happen; the story checks what must follow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class StoryWorld(Protocol):
    """A LAN, a gateway and a cloud.  Children are named by the name they announce."""

    admitted: str
    """The name of a child that a rule admits."""
    held: str
    """The name of a child that a rule holds for the operator."""

    async def announce(self, child: str) -> None:
        """Announce a child on the LAN."""

    async def leave(self, child: str) -> None:
        """Let a child say goodbye and go silent."""

    async def wait_for(self, child: str, state: str) -> None:
        """Return when D-Bus shows the child in this state.  Raises TimeoutError."""

    async def approve(self, child: str) -> None:
        """Approve a child, as the operator."""

    async def reject(self, child: str) -> None:
        """Reject a child, as the operator."""

    async def issued(self, child: str) -> int:
        """Return how many secrets the cloud has issued for the child."""

    async def is_online_at_cloud(self, child: str) -> bool:
        """Whether the cloud holds a session of the child."""


async def perform(world: StoryWorld) -> AsyncIterator[str]:
    """Perform the story; yield each of its sentences once it has come true."""
    await world.announce(world.admitted)
    await world.wait_for(world.admitted, "online")
    assert await world.is_online_at_cloud(world.admitted)
    assert await world.issued(world.admitted) == 1
    yield "A child that a rule admits is registered and comes online by itself."

    await world.announce(world.held)
    await world.wait_for(world.held, "pending")
    assert await world.issued(world.held) == 0
    yield "A child that no rule admits waits for the operator; the cloud learns nothing of it."

    await world.approve(world.held)
    await world.wait_for(world.held, "online")
    assert await world.issued(world.held) == 1
    yield "Once approved, it is registered and comes online."

    await world.leave(world.admitted)
    await world.wait_for(world.admitted, "offline")
    assert not await world.is_online_at_cloud(world.admitted)
    yield "A child that leaves the LAN goes offline; its secret is kept."

    await world.announce(world.admitted)
    await world.wait_for(world.admitted, "online")
    assert await world.issued(world.admitted) == 1
    yield "Back on the LAN, it logs in with the same secret; the cloud issues no other."

    await world.reject(world.held)
    await world.wait_for(world.held, "rejected")
    assert not await world.is_online_at_cloud(world.held)
    yield "A rejected child goes offline at once, and stays offline until the operator approves it."

    await world.approve(world.held)
    await world.wait_for(world.held, "online")
    assert await world.issued(world.held) == 1
    yield "Once approved, it is online again with the same secret."
