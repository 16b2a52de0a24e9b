"""All devices of the recipes on one LAN, at once: with multicast, and the daemon itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site, end
from gatewayd.simulator.site_files import config
from tests.integration.lan import CHILDREN, NETWORK, namespaces
from tests.integration.test_hostile_lan import OBJECTS
from tests.recipes.announced import RECIPES
from tests.recipes.announcer import addresses, moved
from tools.recipes import files

pytestmark = pytest.mark.namespace

DEVICE = "org.gatewayd1.Device"
TOP = Path(__file__).parents[2]
LAYOUT = ("--interface", CHILDREN, "--address", CHILDREN, "--network", "10.77.1.240/28")
NAMES = {recipe.becomes for recipe in RECIPES}


def write(site: Site) -> None:
    """Put all recipes in force, for a product of the site's cloud."""
    rules = "\n".join(path.read_text() for path in files())
    product = f'product = "{site.plant["product"]}"\nroute = "direct-preregistration-free"'
    services = json.dumps(sorted({recipe.service for recipe in RECIPES}))
    text = config(site).replace('types = ["_gatewayd-child._tcp"]', f"types = {services}")
    site.configure(
        text.replace("[registration]\n", "[registration]\nper_minute = 600\n"),
        rules.replace('product = "a1Xy9Zk3Q7f"', product),
    )


@contextlib.asynccontextmanager
async def announcing(inside: Sequence[str]) -> AsyncIterator[asyncio.StreamWriter]:
    """Have all devices on the LAN until the block ends; yield what takes orders."""
    process = await asyncio.create_subprocess_exec(
        *inside, sys.executable, "-m", "tests.recipes.announcer", CHILDREN, NETWORK,
        stdin=asyncio.subprocess.PIPE, cwd=TOP,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield process.stdin
    finally:
        await end(process)


class Shown:
    """What D-Bus shows of the devices."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def states(self) -> dict[str, str]:
        """Return the state of each device by its id."""
        return {row[0]: row[1] for row in await self.site.call("ListDevices")}

    async def all_are(self, state: str) -> dict[str, str]:
        """Return the devices once there are as many as recipes, all of them in this state."""

        async def reached() -> dict[str, str]:
            found = await self.states()
            done = len(found) == len(RECIPES) and set(found.values()) == {state}
            return found if done else {}

        return dict(await self.site.until(reached, f"all devices to be {state}"))

    async def facts(self, name: str) -> dict[str, object]:
        """Return one property of each device, by its id."""
        told = await self.site.busctl("--json=short", "call", *OBJECTS)
        devices = [one[DEVICE] for one in json.loads(told)["data"][0].values() if DEVICE in one]
        return {str(one["Id"]["data"]): one[name]["data"] for one in devices}

    async def until_each(self, name: str, wanted: Sequence[str]) -> None:
        """Return when a property has these values, one of each device."""

        async def reached() -> bool:
            found = (await self.facts(name)).values()
            flat = [one[0] if isinstance(one, list) else one for one in found]
            return sorted(map(str, flat)) == sorted(wanted)

        await self.site.until(reached, f"{name} of all devices")


async def test_forty_kinds_stay_what_they_are(tmp_path: Path) -> None:
    """Each is one child, from its first name by a rename and a new address to a restart."""
    with namespaces() as (gateway, children):
        site = Site(tmp_path, gateway, children, "lan0", (*LAYOUT, "--children", "0"))
        async with site.open(), announcing(children) as orders:
            write(site)
            await site.start()
            shown = Shown(site)
            pending = await shown.all_are("pending")
            for one in pending:
                await site.call("Approve", "ss", one, "")
            online = await shown.all_are("online")
            assert set(online) == set(pending)
            names = await shown.facts("CloudId")
            assert {str(one).rpartition("/")[2] for one in names.values()} == NAMES
            rules = await shown.facts("Rule")
            assert sorted(map(str, rules.values())) == sorted(one.name for one in RECIPES)

            orders.write(b"rename\nmove\n")  # the old names say goodbye
            await shown.until_each("Addresses", moved(NETWORK))
            assert await shown.all_are("online") == online
            assert not set(moved(NETWORK)) & set(addresses(NETWORK))

            assert await site.stop() == 0
            await site.start()
            assert await shown.all_are("online") == online
            await shown.until_each("Addresses", moved(NETWORK))
            assert await shown.facts("CloudId") == names
            truth = await site.ask(do="truth")
            ledgers = truth["cloud"]["devices"][site.plant["product"]]
            assert {name for name in ledgers if name in NAMES} == NAMES
            assert {ledgers[name]["registrations"] for name in NAMES} == {1}
