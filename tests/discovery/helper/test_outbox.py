"""What waits in the helper to be sent: no source takes the place, or the turn, of another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from gatewayd.discovery.discoverer import Interest, Loss, LossReason, Origin, Sighting
from gatewayd.discovery.helper.server import FEW, MAX_WAITING, Outbox


class Full:
    """An outbox that is full of what one source reports."""

    def __init__(self, interest: str) -> None:
        self.dropped: list[Origin] = []
        self.outbox = Outbox(lambda _: True, self.dropped.append)
        self.outbox.interest = self.judge
        for number in range(2 * MAX_WAITING):
            self.sight("ssdp/lan0", f"liar-{number}", interest)

    @staticmethod
    def judge(attributes: Mapping[str, str]) -> Interest:
        return Interest(attributes["interest"])

    def sight(self, source: str, key: str, interest: str) -> None:
        facts = {"source": "x", "interest": interest}
        self.outbox.sight(Sighting(source, key, 0, 60, "", (), None, frozenset(), facts, key))

    async def sent(self, most: int) -> list[Origin]:
        """Return the origins of what is sent next."""
        found: list[Origin] = []
        while len(found) < most:
            found += [one.origin for one in await self.outbox.next()]
        return found


@pytest.mark.parametrize("interest", ["stranger", "wanted"])
async def test_a_flood_of_one_source_takes_no_place_and_no_turn_of_another(interest: str) -> None:
    full = Full(interest)
    names = [("mdns/lan0", f"child-{number}") for number in range(500)]
    for source, key in names:
        full.sight(source, key, interest)
        for number in range(10):
            full.sight("ssdp/lan0", f"{key}-{number}", interest)
    assert {source for source, _ in full.dropped} == {"ssdp/lan0"}
    sent = await full.sent(2 * len(names))
    assert [one for one in sent if one[0] == "mdns/lan0"] == names
    assert full.outbox.overflow == len(full.dropped)


async def test_there_is_room_for_who_waits_for_it_while_another_floods() -> None:
    full = Full("stranger")
    async with asyncio.timeout(60):
        await full.outbox.room("leases")
    for number in range(FEW):
        full.sight("leases", f"lease-{number}", "stranger")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await full.outbox.room("leases")


async def test_that_a_table_was_full_drops_no_device_that_a_rule_wants() -> None:
    full = Full("wanted")
    before = len(full.dropped)
    for number in range(MAX_WAITING):
        full.outbox.lose(Loss("ssdp/lan0", f"old-{number}", 0.0, LossReason.EVICTED))
    assert {key[:4] for _, key in full.dropped[before:]} == {"old-"}
    full.outbox.lose(Loss("ssdp/lan0", "gone", 0.0, LossReason.GOODBYE))
    assert full.dropped[-1][1].startswith("liar-")
