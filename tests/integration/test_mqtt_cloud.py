"""gatewayd with a real broker as its cloud: the story, kills, and what an operator does there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509

from gatewayd.simulator import story
from gatewayd.simulator.site import Site, run
from gatewayd.simulator.site_files import config, rules
from gatewayd.simulator.story import SiteWorld
from tests.support.kill_points import STEPS
from tests.support.sites import kill_at

pytestmark = pytest.mark.integration


IDENTITIES = ("password", "certificate")


def site_of(directory: Path, *plant: str, speaks: bool = False, identity: str = "password") -> Site:
    return Site(directory, plant_options=plant, cloud="mqtt", speaks=speaks, identity=identity)


@pytest.mark.parametrize("identity", IDENTITIES)
async def test_the_story(identity: str, tmp_path: Path) -> None:
    plant = ("--children", "0", "--late", "2", "--unlisted", "1")
    site = site_of(tmp_path, *plant, speaks=True, identity=identity)
    async with site.open():
        await site.start()
        if identity == "certificate":
            await site.certify()
        world = SiteWorld(site, *site.plant["serials"])
        assert len([sentence async for sentence in story.perform(world)]) == 10
        assert await site.stop() == 0


@pytest.mark.parametrize("step", STEPS)
async def test_a_child_survives_a_kill_at_any_step(step: str, tmp_path: Path) -> None:
    site = site_of(tmp_path, "--children", "0", "--late", "1")
    async with site.open():
        (child,) = site.plant["serials"]
        await kill_at(step, site, child)
        await site.start()
        await site.wait_for(child, "online")
        assert await site.ledger(child) == {"online": True, "registrations": 1}
        assert (await site.describe(child))["SecretState"] == "stored"
        assert await site.stop() == 0


async def test_children_with_certificates_survive_a_kill_at_each_step(tmp_path: Path) -> None:
    site = site_of(tmp_path, "--children", "0", "--late", str(len(STEPS)), identity="certificate")
    async with site.open():
        await site.start()
        await site.certify()
        assert await site.stop() == 0
        for step, child in zip(STEPS, site.plant["serials"], strict=True):
            await kill_at(step, site, child)
        await site.start()
        for child in site.plant["serials"]:
            await site.wait_for(child, "online")
            assert (await site.describe(child))["SecretState"] == "stored"
        assert await site.stop() == 0


async def test_a_certificate_is_renewed_and_one_of_a_forgotten_child_is_refused(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path, "--children", "1", identity="certificate")
    async with site.open():
        (child,) = site.plant["serials"]
        await site.start()
        await site.certify()
        await site.wait_for(child, "online")
        device, _ = (await site.devices())[child]
        await site.authority("plant", "Renew", "s", device)

        async def renewed() -> bool:
            history = await site.call("DescribeDevice", "s", device)
            return "secret-renewed" in str(history)

        await site.until(renewed, "the certificate to be renewed")
        await site.wait_for(child, "online")
        assert await site.stop() == 0
        site.configure(config(site) + OTHER_USERS, rules(site))
        await site.start()
        await site.wait_for(child, "online")
        assert not (await site.ledger(child))["online"], "it has another name there"
        before = serials(await site.authority("plant", "ListRevoked"))
        await site.call("Forget", "s", device)
        revoked = serials(await site.authority("plant", "ListRevoked"))
        assert (len(before), len(revoked)) == (0, 3), "those before it was renewed, too"
        await site.revoke()
        await site.wait_for(child, "online")
        assert await site.stop() == 0


OTHER_USERS = """
user = "site/{device}"
up = "devices/site/{device}/up/{topic}"
down = "devices/site/{device}/down/{topic}"
"""
"""Further settings of the cloud, by which the access list of the broker stays as it is."""


def serials(lists: str) -> set[int]:
    """Return the serial numbers on one list of revoked certificates."""
    return {one.serial_number for one in x509.load_pem_x509_crl(lists.encode())}


async def test_a_child_that_is_forgotten_leaves_the_broker_and_comes_back(tmp_path: Path) -> None:
    site = site_of(tmp_path, "--children", "1")
    async with site.open():
        (child,) = site.plant["serials"]
        await site.start()
        await site.wait_for(child, "online")
        device, _ = (await site.devices())[child]
        await site.ask(do="leave", child=child)  # what is there comes back at once
        await site.wait_for(child, "offline")
        await site.call("Forget", "s", device)

        async def left() -> bool:
            return bool((await site.ledger(child))["registrations"] == 0)

        await site.until(left, "the broker to have removed the client")
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        assert (await site.ledger(child))["registrations"] == 1
        assert await site.stop() == 0


async def test_a_broker_that_is_away_loses_no_child(tmp_path: Path) -> None:
    site = site_of(tmp_path, "--children", "1", "--late", "1", "--unlisted", "0")
    async with site.open():
        here, late = site.plant["serials"]
        await site.start()
        await site.wait_for(here, "online")
        await site.ask(do="faults", plan="down")
        await site.wait_for(here, "offline")
        await site.ask(do="announce", child=late)
        await site.wait_for(late, "admitted")
        assert (await site.describe(late))["Remedy"], "it says what to do meanwhile"
        await site.ask(do="faults", plan="")
        await asyncio.gather(*(site.wait_for(one, "online") for one in (here, late)))
        assert {(await site.ledger(one))["registrations"] for one in (here, late)} == {1}
        assert await site.stop() == 0


async def test_a_password_that_was_changed_at_the_broker_is_replaced_by_an_operator(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path, "--children", "1")
    async with site.open():
        (child,) = site.plant["serials"]
        await site.start()
        await site.wait_for(child, "online")
        password = (site.directory / "management-password").read_text()
        await run(
            "mosquitto_ctrl", "-h", "localhost", "-p", str(site.plant["port"]), "--cafile",
            str(site.directory / "ca.pem"), "-u", site.plant["manager"], "-P", password,
            "dynsec", "setClientPassword", f"{site.plant['product']}-{child}", "another",
        )  # fmt: skip

        async def refused() -> bool:
            return bool((await site.describe(child))["Reason"] == "cloud-not-authorised")

        await site.until(refused, "the child's login to be refused")
        device, _ = (await site.devices())[child]
        await site.call("Reregister", "ssa{sv}", device, device, "0")
        await site.wait_for(child, "online")
        assert await site.ledger(child) == {"online": True, "registrations": 2}
        assert await site.stop() == 0
