"""What holds of each source that gatewayd has, beside the contract of all discoverers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.reason import Reason
from gatewayd.discovery.discoverer import Context, Sighting
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.settings import InventorySettings
from gatewayd.testing.contracts.discoverer import DiscovererContract, want_all
from gatewayd.testing.waiting import until
from tests.support.tasks import in_background

FEW = 64
"""Sightings that wait, and devices of one source that are kept."""
OTHERS = 10
"""Devices that another source shows meanwhile."""
OTHER = Sighting(
    "other", "", 0.0, 600.0, "", (), None, frozenset(), {"source": "other"}, "another device"
)


class SharedInventory:
    """An inventory with little room, which a source and another one fill: a `Listener`."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self.context = Context(self._now, lambda: 0.5, want_all)
        self.there: set[DeviceId] = set()
        self.inventory = Inventory(
            InventorySettings(max_queued=FEW, max_unadmitted=FEW),
            self.context,
            self._verify,
            lambda sighting: sighting,
            lambda _: frozenset(),
            self,
        )

    def show(self, number: int) -> None:
        """Have the other source show a device."""
        claims = frozenset({Claim("serial", "other", f"{number:04}a")})
        self.inventory.sight(replace(OTHER, key=str(number), at=self._now(), claims=claims))

    def others(self) -> int:
        """Return how many devices of the other source are there."""
        views = (view for one in self.there for view in self.inventory.evidence(one).views)
        return sum(view["source"] == "other" for view in views)

    async def _verify(self, sighting: Sighting) -> Sighting:
        return replace(sighting, at=self._now())

    def seen(self, device: DeviceId) -> None:
        self.there.add(device)

    def lost(self, device: DeviceId, reason: Reason) -> None:
        self.there.discard(device)

    def changed(self, device: DeviceId) -> None:
        """Of no interest."""

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        self.there.discard(gone)

    def evicted(self, device: DeviceId) -> None:
        self.there.discard(device)


class SourceContract(DiscovererContract):
    """The contract, and what becomes of other sources while this one is flooded."""

    async def test_a_flood_delays_no_other_source_and_breaks_no_bound(self) -> None:
        async with self.make_testbed() as testbed:
            shared = SharedInventory()
            inventory = shared.inventory
            async with (
                in_background(inventory.run()),
                in_background(testbed.discoverer.run(shared.context, inventory)),
            ):
                await until(lambda: inventory.counters()["observations"] >= testbed.count)
                flood = asyncio.create_task(testbed.abuse())
                for number in range(OTHERS):
                    shared.show(number)
                    await until(lambda number=number: shared.others() == number + 1)  # type: ignore[misc]  # bound early
                await flood
                await asyncio.sleep(0)
                assert shared.others() == OTHERS, "none had to make room"
                assert inventory.counters()["devices"] <= FEW + OTHERS
                assert inventory.counters()["sighting-queue"] <= FEW
                assert testbed.discoverer.health.entries <= testbed.limit
