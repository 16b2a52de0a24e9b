"""The real daemon shows what children say: counted for all, in words for an administrator."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.site import PATIENCE, Site
from gatewayd.simulator.story import SiteWorld
from tests.dbus.support import OTHERS, Busctl, error_of
from tests.integration.test_bus_daemon import DEST, shows
from tests.support.gatewayctl import GATEWAYCTL

pytestmark = pytest.mark.integration

OUTBOX = (DEST, "/org/gatewayd1/messages", "org.gatewayd1.Messages")
GATEWAY = (DEST, "/org/gatewayd1", "org.gatewayd1.Manager")
CANARY = 77.125
"""A value that is found nowhere else."""


@contextlib.asynccontextmanager
async def speaking(directory: Path) -> AsyncIterator[tuple[Site, str]]:
    """A site with one child that is online, and its serial number."""
    site = Site(
        directory, plant_options=("--children", "0", "--late", "1", "--seed", "9"), speaks=True
    )
    async with site.open():
        (child,) = site.plant["serials"]
        await site.start()
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        yield site, child


@contextlib.asynccontextmanager
async def following(site: Site, device: str) -> AsyncIterator[asyncio.StreamReader]:
    """What `gatewayctl messages --follow` prints."""
    words = (*GATEWAYCTL, "--bus", site.bus, "messages", "--follow", device)
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_what_a_child_says_is_counted_and_can_be_followed(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (site, child):
        device, _ = (await site.devices())[child]
        world = SiteWorld(site, child, "")
        await shows(site, OUTBOX, "State=ready", "NWaiting=0", "Received=0", "Protection=none")
        async with following(site, device) as lines:

            async def followed() -> bool:
                return "are followed by root" in site.log()

            await site.until(followed, "the tap to be open")
            await world.say(child, CANARY)
            await world.said(child, 1)
            async with asyncio.timeout(PATIENCE):
                steps = [(await lines.readline()).decode().split() for _ in range(3)]
        assert [step[2] for step in steps] == ["received", "stored", "sent"]
        assert str(CANARY) in " ".join(steps[0])
        await shows(site, OUTBOX, "Received=1", "Sent=1")

        await world.cut()
        await world.say(child, CANARY)
        await shows(site, OUTBOX, "NWaiting=1", "State=ready")
        described = (await site.describe(child))["Messages"]
        assert described["Door"]["data"] == "site"
        assert described["NWaiting"]["data"] == 1

        dump = site.directory / "dump.json"
        process = await asyncio.create_subprocess_exec(
            *GATEWAYCTL, "--bus", site.bus, "dump", "--output", str(dump)
        )
        assert await process.wait() == 0
        counted = json.loads(dump.read_text())["objects"][OUTBOX[1]]
        assert counted["children"][device]["waiting"] == 1
        assert counted["doors"][0]["name"] == "site"
        assert str(CANARY) not in dump.read_text()
        assert await site.stop() == 0
    assert str(CANARY) not in site.log()


@pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS))
async def test_other_users_read_counts_and_no_words(tmp_path: Path, other: tuple[str, ...]) -> None:
    async with speaking(tmp_path) as (site, child):
        device, _ = (await site.devices())[child]
        assert site.private_bus is not None
        busctl = Busctl(site.private_bus, *other)
        name, _ = await error_of(site.private_bus, OUTBOX[1:], "Follow", device, prefix=other)
        assert name.endswith("AccessDenied")
        assert '"NWaiting" t 0' in await busctl("call", *OUTBOX, "Describe", "s", device)
        assert await busctl("call", *OUTBOX, "ListChildren", "su", "", "0")
    assert "are followed" not in site.log()


async def test_an_outbox_that_cannot_be_opened_keeps_no_child_offline(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "messages.db").mkdir()
    async with speaking(tmp_path) as (site, _):
        await shows(site, OUTBOX, "State=blocked")
        await shows(site, GATEWAY, "State=degraded")
        assert (state / "messages.db").is_dir()
        assert await site.stop() == 0
