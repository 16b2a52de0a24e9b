"""Floods of mDNS packets on a LAN: memory is bounded, and new children come online meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.lan.floods import FLOODS
from gatewayd.simulator.site import Site
from tests.integration.lan import FORGED, NETWORK
from tests.integration.test_hostile_lan import (
    counters,
    online,
    resident,
    site,
    until_all,
    until_counted,
    were_never_offline,
)

pytestmark = pytest.mark.namespace

GROWTH = 20 << 20
"""Bytes by which gatewayd may grow during an attack."""
FLOODED = "is flooded"


@contextlib.asynccontextmanager
async def attacked(one: Site, kind: str, rate: int, forge: str = "") -> AsyncIterator[None]:
    """Attack from now on, until the block ends."""
    over = asyncio.Event()

    async def attack() -> None:
        while not over.is_set():
            await one.ask(do="attack", kind=kind, count=rate, rate=rate, forge=forge)

    async def flooded() -> bool:
        return FLOODED in one.log()

    attacking = asyncio.create_task(attack())
    try:
        await one.until(flooded, "its burst to be spent")
        yield
    finally:
        over.set()
        await attacking


async def comes_online(one: Site, child: str) -> None:
    """Switch a child on; it comes online."""
    await one.ask(do="announce", child=child)
    await until_all(one, "online", child)


@pytest.mark.parametrize("kind", [*FLOODS, "impersonate", "flood", "oversize", "malform"])
async def test_one_host_that_floods_the_lan_keeps_no_child_out(tmp_path: Path, kind: str) -> None:
    async with site(tmp_path, "--children", "2", "--late", "1") as one:
        *here, late = one.plant["serials"]
        ids = await online(one, *here)
        before = resident(one)
        rate = 1000 if kind in ("impersonate", "flood", "malform") else 60
        async with attacked(one, kind, rate):
            await comes_online(one, late)
        assert resident(one) - before < GROWTH
        assert one.log().count(FLOODED) == 1
        assert await were_never_offline(one, *ids.values())


@pytest.mark.parametrize("kind", ["impersonate", "heavy-texts", "many-names", "many-records"])
@pytest.mark.parametrize("forge", [FORGED, NETWORK], ids=["strangers", "children"])
async def test_a_forged_sender_in_every_packet_keeps_no_child_out(
    tmp_path: Path, kind: str, forge: str
) -> None:
    async with site(tmp_path, "--children", "2", "--late", "1") as one:
        *here, late = one.plant["serials"]
        ids = await online(one, *here)
        before = resident(one)
        async with attacked(one, kind, 500 if kind == "impersonate" else 60, forge):
            await comes_online(one, late)
        assert resident(one) - before < GROWTH
        assert one.log().count(FLOODED) == 1
        await until_counted(one, "mdns:entries")
        assert (await counters(one))["mdns:entries"] <= 100
        assert await were_never_offline(one, *ids.values())
