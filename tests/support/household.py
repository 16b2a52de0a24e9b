"""What becomes of what a discoverer reports: devices in an inventory, with the kernel's MACs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from gatewayd.device.identity import Claim, DeviceId, Evidence
from gatewayd.device.reason import Reason
from gatewayd.discovery.discoverer import Context, Discoverer
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.kernel.neighbours import NeighbourTable
from gatewayd.discovery.settings import InventorySettings
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.testing.contracts.discoverer import want_all

AGAIN = 0.3
"""Seconds until a discoverer is asked to look again."""
PATIENCE = 60.0
"""Seconds in which it must have found something."""


class Household:
    """The devices that were ever seen: a `Listener`."""

    def __init__(self, discoverer: Discoverer) -> None:
        self._discoverer = discoverer
        self._neighbours = NeighbourTable(found=self._neighbour_found)
        self.seen_ids: list[DeviceId] = []
        self.inventory = Inventory(
            InventorySettings(probe_wait=0.0, probe_spread=0.0),
            Context(lambda: asyncio.get_running_loop().time(), lambda: 0.5, want_all),
            discoverer.verify,
            self._neighbours.corroborate,
            lambda _: frozenset(),
            self,
        )

    def seen(self, device: DeviceId) -> None:
        if device not in self.seen_ids:
            self.seen_ids.append(device)

    def lost(self, device: DeviceId, reason: Reason) -> None:
        pass

    def changed(self, device: DeviceId) -> None:
        pass

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        pass

    def evicted(self, device: DeviceId) -> None:
        pass

    async def run(self, context: Context) -> None:
        """Find devices until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._neighbours.run())
            group.create_task(self.inventory.run())
            group.create_task(self._discoverer.run(context, self.inventory))

    def _neighbour_found(self, address: str) -> None:
        self.inventory.neighbour_found(address)

    def only(self) -> Evidence:
        """Return what is known of the one device that there ever was."""
        (device,) = self.seen_ids
        return self.inventory.evidence(device)

    def of(self, claim: Claim) -> Sequence[Evidence]:
        """Return what is known of each device that shows a claim."""
        known = map(self.inventory.evidence, self.seen_ids)
        return [one for one in known if claim in one.claims]

    async def shows(
        self, condition: Callable[[Evidence], object], claim: Claim | None = None
    ) -> Evidence:
        """Look again until what is known of the one device is as expected; return it.

        claim: what it shows, if there are other devices.
        """
        end = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < end:
            found = self.of(claim) if claim else [self.only()] if self.seen_ids else []
            if found and condition(found[0]):
                (one,) = found
                return one
            await self._discoverer.rescan()
            await asyncio.sleep(AGAIN)
        known = [self.inventory.evidence(one) for one in self.seen_ids]
        raise AssertionError(f"not as expected: {known}; {self._discoverer.health}")


@asynccontextmanager
async def household(discoverer: Discoverer) -> AsyncIterator[Household]:
    """Run a discoverer and an inventory, until the block ends."""
    made = Household(discoverer)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(made.run(Context(loop.time, lambda: 0.5, want_all)))
    try:
        yield made
    finally:
        await cancel_and_wait((running,))
