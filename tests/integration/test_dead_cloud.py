"""A real daemon with two clouds, one of them dead: operators, and the other's children, go on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.support.dead_names import DEAD

pytestmark = pytest.mark.integration

MANY = ("--children", "0", "--late", "40", "--seed", "7")
DEAD_CLOUD = """
[cloud.dead]
kind = "alibaba"
host = "iot-1.{domain}"
{address}
port = {port}
ca_file = "{site.directory}/ca.pem"
connect_timeout = 5
[cloud.dead.products.{site.plant[product]}]
secret_file = "{site.directory}/product-secret"
"""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where TCP is accepted, and then nothing comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("how", ["names", "tls"])
async def test_a_dead_cloud_holds_nothing_up(how: str, tmp_path: Path, silent_port: int) -> None:
    """Names that are never answered, or TLS that is not: half of the children go to that cloud."""
    site = Site(tmp_path, plant_options=MANY)
    address = "" if how == "names" else 'address = "127.0.0.1"'
    async with site.open():
        dead = DEAD_CLOUD.format(site=site, domain=DEAD, address=address, port=silent_port)
        rule = rules(site)
        odd = rule.replace('name = "sensors"', 'name = "doomed"').replace(
            '"TH20-*"', '"TH20-*[13579BDF]"'
        )
        site.configure(config(site) + dead, odd.replace('"alibaba"', '"dead"') + rule)
        children: list[str] = site.plant["serials"]
        doomed = [child for child in children if child[-1] in "13579BDF"]
        healthy = [child for child in children if child not in doomed]
        assert len(doomed) > 6
        assert healthy
        await site.start("tests.support.dead_names")
        for child in doomed:
            await site.ask(do="announce", child=child)
        await site.wait_for(doomed[0], "registering")
        for child in healthy:
            await site.ask(do="announce", child=child)
        for child in healthy:
            await site.wait_for(child, "online")
        async with asyncio.timeout(20):
            await site.call("Reload")
            await site.busctl("call", "org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager",
                              "Dump")  # fmt: skip
        states = {child: state for child, (_, state) in (await site.devices()).items()}
        assert not [child for child in doomed if states.get(child) == "online"]
        assert await site.stop() == 0
