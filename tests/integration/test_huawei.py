"""Two instances of Huawei Cloud IoTDA side by side, on real parts."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.huawei.account import NAMES, home
from gatewayd.simulator.site import Site
from tests.support.kill_points import STEPS
from tests.support.sites import kill_at

pytestmark = pytest.mark.integration

ROUTES = ("certificate", "sub-device")


@contextlib.asynccontextmanager
async def opened(
    folder: Path, route: str, late: int = 4, *, speaks: bool = False
) -> AsyncIterator[Site]:
    """A site whose device CAs are verified, where the route wants them; gatewayd is stopped."""
    options = ("--children", "0", "--late", str(late), "--seed", "5")
    site = Site(folder, cloud="huawei", route=route, plant_options=options, speaks=speaks)
    async with site.open():
        if route == "certificate":
            await site.start()
            for name in NAMES:
                await site.enrol(name)
            assert await site.stop() == 0
        yield site


async def announce(site: Site, *children: str) -> None:
    for child in children:
        await site.ask(do="announce", child=child)
    for child in children:
        await site.wait_for(child, "online")


@pytest.mark.parametrize("route", ROUTES)
async def test_children_come_online_at_two_instances(route: str, tmp_path: Path) -> None:
    async with opened(tmp_path, route) as site:
        await site.start()
        children = site.plant["serials"]
        await announce(site, *children)
        for child in children:
            assert (await site.ledger(child))["online"]
            assert (await site.describe(child))["Provider"] == home(child)
        assert {home(child) for child in children} == set(NAMES)
        gone, *others = children
        await site.ask(do="leave", child=gone)
        await site.wait_for(gone, "offline")

        async def offline() -> bool:
            return not (await site.ledger(gone))["online"]

        await site.until(offline, "the platform to report it offline")
        assert await site.stop() == 0
        for child in children:
            assert not (await site.ledger(child))["online"]
        await site.start()
        await announce(site, gone)
        for child in (gone, *others):
            await site.wait_for(child, "online")
            assert (await site.ledger(child))["registrations"] == 1
            assert len((await site.ledger(child))["certificates_sha256"]) <= 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("step", STEPS)
async def test_a_child_survives_a_kill_at_any_step(route: str, step: str, tmp_path: Path) -> None:
    """Where the gateway has a name of its own, it is the first to reach the step."""
    async with opened(tmp_path, route, late=1) as site:
        (child,) = site.plant["serials"]
        await kill_at(step, site, child)
        await site.start()
        await site.wait_for(child, "online")
        ledger = await site.ledger(child)
        assert ledger["online"]
        assert ledger["registrations"] == 1
        assert len(ledger["certificates_sha256"]) <= 1
        assert not ledger["refused_logins"]
        assert await site.stop() == 0


async def test_a_lost_key_is_replaced_after_a_reset(tmp_path: Path) -> None:
    """The platform knows the certificate: without a reset there another one is not accepted."""
    async with opened(tmp_path, "certificate", late=2) as site:
        await site.start()
        child, other = site.plant["serials"]
        await announce(site, child, other)
        device, _ = (await site.devices())[child]
        assert await site.stop() == 0
        lose(tmp_path / "state", device)
        await site.start()
        await site.wait_for(child, "failed")
        described = await site.describe(child)
        assert described["SubState"] == "needs-reset"
        assert "fingerprint" in described["Remedy"]
        await site.wait_for(other, "online")
        await site.ask(do="reset", child=child)
        await site.call("Reregister", "ssa{sv}", device, device, "0")
        await site.wait_for(child, "online")
        assert len((await site.ledger(child))["certificates_sha256"]) == 2


async def test_what_the_platform_deletes_is_retired(tmp_path: Path) -> None:
    async with opened(tmp_path, "sub-device", late=2) as site:
        await site.start()
        one, two = site.plant["serials"]
        await announce(site, one, two)
        await site.ask(do="delete", child=one)
        await site.wait_for(one, "retired")
        assert (await site.devices())[two][1] == "online"


def lose(state: Path, device: str) -> None:
    """Take a child's secret out of the vault, as a fault of the disk might."""
    with contextlib.closing(sqlite3.connect(state / "vault.db")) as vault:
        gone = vault.execute("DELETE FROM secret WHERE username LIKE ?", (f"{device}/%",))
        assert gone.rowcount == 1
        vault.commit()
