"""The story of gatewayd, told with the same words on fakes, on real parts, and in the demo.

A world knows how to make things happen; the story knows what has to follow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class StoryWorld(Protocol):
    """A LAN, a gateway and a cloud.  Children are named by the name they announce."""

    admitted: str
    """The name of a child that a rule lets in."""
    held: str
    """The name of a child that a rule holds for the operator."""

    async def announce(self, child: str) -> None:
        """Let a child appear on the LAN."""

    async def leave(self, child: str) -> None:
        """Let a child say goodbye and fall silent."""

    async def wait_for(self, child: str, state: str) -> None:
        """Return when D-Bus shows the child in this state.  Raises TimeoutError, saying why."""

    async def approve(self, child: str) -> None:
        """Say yes, as the operator."""

    async def reject(self, child: str) -> None:
        """Say no, as the operator."""

    async def issued(self, child: str) -> int:
        """How many secrets the cloud has issued for the child."""

    async def is_online_at_cloud(self, child: str) -> bool:
        """Whether the cloud holds a session of the child."""


async def perform(world: StoryWorld) -> AsyncIterator[str]:
    """Let the story happen; yield each of its sentences once it has come true."""
    await world.announce(world.admitted)
    await world.wait_for(world.admitted, "online")
    assert await world.is_online_at_cloud(world.admitted)
    assert await world.issued(world.admitted) == 1
    yield "A child that a rule lets in is registered and comes online, without a hand."

    await world.announce(world.held)
    await world.wait_for(world.held, "pending")
    assert await world.issued(world.held) == 0
    yield "A child that no rule lets in waits for the operator; the cloud hears nothing of it."

    await world.approve(world.held)
    await world.wait_for(world.held, "online")
    assert await world.issued(world.held) == 1
    yield "Approved, it is registered and comes online."

    await world.leave(world.admitted)
    await world.wait_for(world.admitted, "offline")
    assert not await world.is_online_at_cloud(world.admitted)
    yield "A child that leaves the LAN goes offline; what it was issued is kept."

    await world.announce(world.admitted)
    await world.wait_for(world.admitted, "online")
    assert await world.issued(world.admitted) == 1
    yield "Back again, it logs in with the secret it has: the cloud is not asked for another."

    await world.reject(world.held)
    await world.wait_for(world.held, "rejected")
    assert not await world.is_online_at_cloud(world.held)
    yield "Rejected, a child is offline at once, and stays away until the operator relents."

    await world.approve(world.held)
    await world.wait_for(world.held, "online")
    assert await world.issued(world.held) == 1
    yield "Approved after all, it is back with the secret it had."
