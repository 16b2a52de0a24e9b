"""The story on real parts: TLS, a private bus, multicast between two network namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.simulator import story
from gatewayd.simulator.site import Site
from gatewayd.simulator.story import SiteWorld
from tests.integration.lan import CHILDREN, CHILDREN6, NETWORK, NETWORK6, namespaces

IPV4 = ("--interface", CHILDREN, "--address", CHILDREN, "--network", NETWORK)
IPV6 = ("--interface", "lan0", "--address", CHILDREN6, "--network", NETWORK6)


@pytest.mark.namespace
@pytest.mark.parametrize("lan", [IPV4, IPV6], ids=["ipv4", "ipv6-only"])
async def test_the_story_between_two_namespaces(tmp_path: Path, lan: tuple[str, ...]) -> None:
    options = ("--children", "0", "--late", "2", "--unlisted", "1", *lan)
    with namespaces(ipv6=lan is IPV6) as (gateway, children):
        site = Site(tmp_path, gateway, children, "lan0", options, speaks=True)
        async with site.open():
            await site.start()
            world = SiteWorld(site, *site.plant["serials"])
            said = [sentence async for sentence in story.perform(world)]
            assert len(said) == 10
            assert await site.stop() == 0
