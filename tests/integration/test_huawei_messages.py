"""What children and the gateway say at two instances of Huawei, on real parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd import __version__
from gatewayd.simulator.huawei.account import NAMES
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.integration.test_huawei import ROUTES, announce, opened

pytestmark = pytest.mark.integration


async def temperatures(site: Site, child: str) -> list[Any]:
    """Return what has arrived of a child, without repeats."""
    arrivals = await site.ask(do="arrivals", child=child)
    return list(dict.fromkeys(one["body"]["temperature"] for one in arrivals))


async def arrive(site: Site, child: str, expected: list[int]) -> None:
    async def there() -> bool:
        return len(await temperatures(site, child)) >= len(expected)

    await site.until(there, f"{len(expected)} values of {child}")
    assert await temperatures(site, child) == expected


@pytest.mark.parametrize("route", ROUTES)
async def test_children_speak_through_outages(route: str, tmp_path: Path) -> None:
    """The platform is gone, a connection dies in place of a PUBACK, gatewayd is restarted."""
    async with opened(tmp_path, route, late=2, speaks=True) as site:
        await site.start()
        children = site.plant["serials"]
        await announce(site, *children)
        said = list[int]()
        for plan in ("", "down", "puback-hang-up:30%:x1"):
            await site.ask(do="faults", plan=plan)
            for number in range(len(said), len(said) + 10):
                said.append(number)
                for child in children:
                    await site.say(child, temperature=number)
            if plan == "down":
                await site.ask(do="faults", plan="")
            for child in children:
                await arrive(site, child, said)
        assert await site.stop() == 0
        await site.start()
        for child in children:
            await site.say(child, temperature=len(said))
        await announce(site, *children)
        for child in children:
            await arrive(site, child, [*said, len(said)])


async def test_the_gateway_reports_itself(tmp_path: Path) -> None:
    async with opened(tmp_path, "sub-device", late=1, speaks=True) as site:
        text = config(site).replace("[messages]", "[messages]\nreport_gateway = 10.0")
        site.configure(text, rules(site))
        await site.start()
        await announce(site, *site.plant["serials"])
        for name in NAMES:

            async def reported(name: str = name) -> bool:
                found = await site.ask(do="arrivals", instance=name)
                return any(one["body"]["online"] == 1 for one in found)

            await site.until(reported, f"a report of the gateway at {name}")
            *_, report = await site.ask(do="arrivals", instance=name)
            assert report["about"] == "gateway"
            assert report["event_time"]
            assert report["body"]["version"] == __version__
            assert report["body"]["children"] >= 1
            assert report["body"]["store"] == "unsealed"
        assert await site.stop() == 0
