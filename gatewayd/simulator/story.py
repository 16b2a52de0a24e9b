"""The story of gatewayd, performed on fakes, on real parts, and in the demo, in the same words.

A world makes things happen, the story checks what must follow.  `SiteWorld` is the world of real
parts: processes, TLS, multicast DNS, D-Bus.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from gatewayd.simulator.huawei import account as huawei
from gatewayd.simulator.site import Site


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


Ledger: TypeAlias = Mapping[str, Any]


class SiteWorld:
    """A story world on a site.  Implements StoryWorld.

    admitted: a child on the operator's list.  held: one that is not.  Neither is announced yet.
    """

    def __init__(self, site: Site, admitted: str, held: str) -> None:
        self._site = site
        self.admitted, self.held = admitted, held

    async def announce(self, child: str) -> None:
        await self._site.ask(do="announce", child=child)

    async def leave(self, child: str) -> None:
        await self._site.ask(do="leave", child=child)

    async def wait_for(self, child: str, state: str) -> None:
        """D-Bus shows the state first; the cloud learns the end of a session after that."""
        await self._site.wait_for(child, state)

        async def agrees() -> bool:
            return await self.is_online_at_cloud(child) is (state == "online")

        await self._site.until(agrees, f"the cloud to agree that {child} is {state}")

    async def approve(self, child: str) -> None:
        await self._site.call("Approve", "ss", await self._id(child), "")

    async def reject(self, child: str) -> None:
        await self._site.call("Reject", "ss", await self._id(child), "not ours")

    async def issued(self, child: str) -> int:
        return issued(await self._site.ledger(child))

    async def is_online_at_cloud(self, child: str) -> bool:
        return is_online(await self._site.ledger(child))

    async def _id(self, child: str) -> str:
        return (await self._site.devices())[child][0]


async def ledgers(site: Site) -> Mapping[str, Ledger]:
    """Return the cloud's counts of each child of the plant, by serial number."""
    truth = await site.ask(do="truth")
    return _LEDGERS[site.cloud](site, truth["cloud"])


def own_names(site: Site) -> int:
    """Return how many devices of the cloud are the gateway itself; gatewayd counts them too."""
    behind = site.route.startswith("sub-device")
    return len(site.plant["hosts"]) if site.cloud == "huawei" else int(behind)


def issued(ledger: Ledger) -> int:
    """Return how many secrets a cloud has issued to a child, or how often it has registered it.

    Each certificate that a child has shown counts.
    """
    if "secrets_sha256" in ledger:
        return len(ledger["secrets_sha256"])
    shown = len(ledger.get("certificates_sha256", ()))
    return max(shown, int(ledger.get("registrations", 0)))


def is_online(ledger: Ledger) -> bool:
    """Whether the cloud holds a session of the child."""
    return bool(ledger.get("online"))


def _alibaba(site: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    return dict(truth["devices"][site.plant["product"]])


def _huawei(site: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    instances = truth["instances"]
    return {
        child: instances[huawei.home(child)]["devices"].get(huawei.device_id(child), {})
        for child in site.plant["serials"]
    }


_LEDGERS: Mapping[str, Callable[[Site, Mapping[str, Any]], dict[str, Ledger]]] = {
    "alibaba": _alibaba,
    "huawei": _huawei,
}
