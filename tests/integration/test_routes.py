"""Each route of a cloud, end to end on real parts; the crash laws hold for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from tests.support.kill_points import STEPS
from tests.support.sites import kill_at

pytestmark = pytest.mark.integration

ROUTES = ("direct-preregistration-free", "sub-device", "sub-device-secret", "sub-device-known")
"""Those beside the default, which has test_crash.py and test_story.py to itself."""

TWO = ("--children", "0", "--late", "2")


@pytest.mark.parametrize("route", ROUTES)
async def test_children_come_online_and_stay_so(route: str, tmp_path: Path) -> None:
    site = Site(tmp_path, route=route, plant_options=TWO)
    async with site.open():
        await know(site)
        await site.start()
        one, two = site.plant["serials"]
        for child in (one, two):
            await site.ask(do="announce", child=child)
            await site.wait_for(child, "online")
            assert (await site.ledger(child))["online"]
        await site.ask(do="leave", child=one)
        await site.wait_for(one, "offline")
        assert not (await site.ledger(one))["online"]
        assert await site.stop() == 0
        await site.start()
        await site.ask(do="announce", child=one)
        for child in (one, two):
            await site.wait_for(child, "online")
            assert len((await site.ledger(child))["secrets_sha256"]) == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("step", STEPS)
async def test_a_child_survives_a_kill_at_any_step(route: str, step: str, tmp_path: Path) -> None:
    """Where the gateway has a name of its own, it is the first to reach the step."""
    site = Site(tmp_path, route=route, plant_options=("--children", "0", "--late", "1"))
    async with site.open():
        (child,) = site.plant["serials"]
        await know(site)
        await kill_at(step, site, child)
        await site.start()
        await site.wait_for(child, "online")
        assert (await site.ledger(child))["online"]
        assert len((await site.ledger(child))["secrets_sha256"]) <= 2
        assert await site.stop() == 0


async def know(site: Site) -> None:
    """Hand the operator's files in: the secrets that the console shows."""
    (site.directory / "device-secrets").mkdir()
    for child in site.plant["serials"] if site.route == "sub-device-known" else ():
        secret = site.directory / "device-secrets" / child
        secret.touch(mode=0o600)
        secret.write_text(await site.ask(do="secret", child=child))


async def test_a_child_whose_secret_the_operator_knows(tmp_path: Path) -> None:
    site = Site(tmp_path, route="sub-device-known", plant_options=TWO)
    async with site.open():
        one, two = site.plant["serials"]
        await know(site)
        (tmp_path / "device-secrets" / two).unlink()
        await site.start()
        for child in (one, two):
            await site.ask(do="announce", child=child)
        await site.wait_for(one, "online")
        assert (await site.ledger(one))["online"]
        await site.wait_for(two, "failed")
        assert "device-secrets" in (await site.describe(two))["Explanation"]


async def test_a_pending_child_is_reported_to_the_cloud(tmp_path: Path) -> None:
    site = Site(tmp_path, route="sub-device", plant_options=(*TWO, "--unlisted", "1"))
    async with site.open():
        await site.start()
        one, two = site.plant["serials"]
        for child, state in ((one, "online"), (two, "pending")):
            await site.ask(do="announce", child=child)
            await site.wait_for(child, state)

        async def reported() -> bool:
            truth = await site.ask(do="truth")
            gateways = [g for one in truth["cloud"]["gateways"].values() for g in one.values()]
            return any(two in str(gateway["found"]) for gateway in gateways)

        await site.until(reported, "the child to be reported to the cloud")
        assert await site.ledger(two) == {**await site.ledger(two), "registrations": 0}


async def test_what_the_cloud_removes_is_retired(tmp_path: Path) -> None:
    site = Site(tmp_path, route="sub-device", plant_options=TWO)
    async with site.open():
        await site.start()
        one, two = site.plant["serials"]
        for child in (one, two):
            await site.ask(do="announce", child=child)
            await site.wait_for(child, "online")
        await site.ask(do="delete", child=one)
        await site.wait_for(one, "retired")
        assert (await site.devices())[two][1] == "online"
        assert await site.stop() == 0
        await site.start()
        await site.wait_for(two, "online")
        assert (await site.devices())[one][1] == "retired"


async def test_what_is_forgotten_leaves_the_topology(tmp_path: Path) -> None:
    site = Site(tmp_path, route="sub-device", plant_options=TWO)
    async with site.open():
        await site.start()
        one, _ = site.plant["serials"]
        await site.ask(do="announce", child=one)
        await site.wait_for(one, "online")
        await site.ask(do="leave", child=one)
        await site.wait_for(one, "offline")
        await site.call("Forget", "s", (await site.devices())[one][0])
        truth = await site.ask(do="truth")
        ((gateway,),) = [list(g.values()) for g in truth["cloud"]["gateways"].values() if g]
        assert not gateway["children"]
