"""Children of a real daemon move between a simulated cloud and a real broker, and survive kills."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.support.kill_points import MOVE

pytestmark = pytest.mark.integration


@asynccontextmanager
async def two_clouds(directory: Path, children: int) -> AsyncIterator[tuple[Site, Site]]:
    """Open a site of a simulated cloud, and a broker that is its second cloud."""
    places = directory / "first", directory / "second"
    for place in places:
        place.mkdir()
    site = Site(places[0], plant_options=("--children", "0", "--late", str(children)))
    plant = ("--children", "0", "--late", str(children))
    other = Site(places[1], plant_options=plant, cloud="mqtt")
    async with other.open(), site.open():
        own, added = config(site), config(other)
        site.configure(own + added[added.index("[cloud.") :], rules(site))
        yield site, other


@asynccontextmanager
async def all_clouds(directory: Path) -> AsyncIterator[tuple[Site, Site, Site]]:
    """Open a site of sub-devices at Alibaba, with two instances of Huawei and a broker as well."""
    plant = ("--children", "0", "--late", "1")
    sites = []
    async with AsyncExitStack() as stack:
        for cloud, route in (("mqtt", ""), ("huawei", ""), ("alibaba", "sub-device")):
            (place := directory / cloud).mkdir()
            site = Site(place, plant_options=plant, cloud=cloud, route=route)
            sites.append(await stack.enter_async_context(site.open()))
        broker, platform, site = sites
        added = (config(one) for one in (broker, platform))
        clouds = "".join(text[text.index("[cloud.") :] for text in added)
        site.configure(config(site) + clouds, rules(site))
        yield site, platform, broker


async def enrol(site: Site, platform: Site, cloud: str) -> None:
    """Make the device CA of a platform that is another site's."""
    named = ("2", "common-name", "s", f"{cloud} devices", "algorithm", "s", "ec-p256")
    made = await site.authority(cloud, "Make", "a{sv}", *named)
    code = await platform.ask(do="upload", instance=cloud, pem=made)
    proof = await site.authority(cloud, "Prove", "s", code)
    await platform.ask(do="verify", instance=cloud, pem=proof)


async def begin(site: Site, child: str, to: str, product: str, route: str = "") -> None:
    device, _ = (await site.devices())[child]
    options = ("2", "product", "s", product, "route", "s", route)
    await site.call("Move", "ssa{sv}", device, to, *options)


async def is_at(site: Site, child: str, cloud: str) -> None:
    """Wait until a child is online at a cloud, and moves no more."""

    async def moved() -> bool:
        facts = await site.describe(child)
        here = facts["State"] == "online" and facts["Provider"] == cloud
        return here and "To" not in facts.get("Move", {})

    await site.until(moved, f"{child} to be online at {cloud}")


async def killed_at(step: str, site: Site, child: str, product: str) -> None:
    """Have a child come online and move, until gatewayd is killed at a durable step of that."""
    await site.start("tests.support.kill_points", step)
    await site.ask(do="announce", child=child)
    await site.wait_for(child, "online")
    with suppress(RuntimeError):  # killed before it could answer, perhaps
        await begin(site, child, "plant", product)
    assert site.daemon is not None
    assert await site.daemon.wait() == -signal.SIGKILL


async def test_a_move_survives_a_kill_at_each_step_and_the_way_back_registers_nothing(
    tmp_path: Path,
) -> None:
    """From the last step to the first, so that no child takes a later one's step in its run."""
    async with two_clouds(tmp_path, len(MOVE)) as (site, other):
        children = dict(zip(reversed(MOVE), site.plant["serials"], strict=True))
        issued = "move-secret-issued"
        for step in [*(one for one in children if one != issued), issued]:
            if step == issued:  # those that were killed at earlier steps would take it
                await site.start()
                for child in [one for at, one in children.items() if at != issued]:
                    await is_at(site, child, "plant")
                await site.stop()
            await killed_at(step, site, children[step], other.plant["product"])
        await site.start()
        for child in children.values():
            await is_at(site, child, "plant")
            before = await site.ledger(child)
            assert (len(before["secrets_sha256"]), before["online"]) == (1, False)
            await begin(site, child, "alibaba", site.plant["product"])
        for step, child in children.items():
            await is_at(site, child, "alibaba")
            ledger = await site.ledger(child)
            assert len(ledger["secrets_sha256"]) == 1, step
            assert not ledger["refused_logins"]
            assert (await other.ledger(child))["registrations"] == 1, step
        assert await site.stop() == 0


async def test_a_child_moves_through_all_kinds_of_clouds_and_their_routes(tmp_path: Path) -> None:
    """From one vendor's sub-device to another's, to a certificate of its other instance, to a
    broker, and back to the first by what is dormant there.
    """
    async with all_clouds(tmp_path) as (site, platform, broker):
        (child,) = site.plant["serials"]
        await site.start()
        await enrol(site, platform, "east")
        for gateway in ("gateway-alibaba", "gateway-west"):
            await site.until(lambda at=gateway: is_online(site, at), f"{gateway} to be online")
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        way = (
            ("west", platform.plant["product"], "sub-device"),
            ("east", platform.plant["product"], "certificate"),
            ("plant", broker.plant["product"], ""),
            ("alibaba", site.plant["product"], ""),
        )
        for cloud, product, route in way:
            await begin(site, child, cloud, product, route)
            await is_at(site, child, cloud)
        facts = await site.describe(child)
        dormant = [one.split()[0] for one in facts["Move"]["Dormant"]["data"]]
        assert dormant == ["west", "east", "plant"]
        assert len((await site.ledger(child))["secrets_sha256"]) == 1
        device = facts["Id"]
        for cloud in dormant:
            await site.call("ForgetDormant", "ss", device, cloud)
        assert (await broker.ledger(child))["registrations"] == 0, "it was unbound there"
        assert "Dormant" not in (await site.describe(child))["Move"]
        await site.wait_for(child, "online")
        assert await site.stop() == 0


async def is_online(site: Site, device: str) -> bool:
    """Whether a device, by its id, is online."""
    rows = await site.call("ListDevices")
    return any(row[0] == device and row[1] == "online" for row in rows)
