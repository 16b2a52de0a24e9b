"""A real daemon with two clouds, one of them dead: operators, and the other's children, go on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.simulator.site import MANAGER, Site
from tests.support.dead_cloud import MANY, NAMES, TLS, add_dead_cloud

pytestmark = pytest.mark.integration


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where TCP is accepted, and then nothing comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("how", [NAMES, TLS])
async def test_a_dead_cloud_holds_nothing_up(how: str, tmp_path: Path, silent_port: int) -> None:
    """Names that are never answered, or TLS that is not: half of the children go to that cloud."""
    site = Site(tmp_path, plant_options=MANY)
    async with site.open():
        doomed, healthy = add_dead_cloud(site, how, silent_port)
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
        await site.call("Reload")
        await site.busctl("call", *MANAGER, "Dump")
        states = {child: state for child, (_, state) in (await site.devices()).items()}
        assert not [child for child in doomed if states.get(child) == "online"]
        assert await site.stop() == 0
