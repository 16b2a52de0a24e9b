"""Births at a broker: an edge node of pysparkplug, and devices of ha-mqtt-discoverable."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.births.settings import DialectName
from gatewayd.testing.contracts.discoverer import running
from gatewayd.testing.waiting import until
from tests.discovery.births.broker import births_at, settings_of
from tests.support.household import household
from tests.support.mosquitto import Mosquitto, mosquitto

pytestmark = pytest.mark.integration

PYTHON = Path(__file__).parents[3] / ".venv-peers/bin/python"
NODE, DEVICE = "sparkplug_node.py", "home_assistant_device.py"


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as made:
        yield made


@asynccontextmanager
async def peer(broker: Mosquitto, program: str, *words: str) -> AsyncIterator[None]:
    """Run a device until the block ends; then it is killed, and its will counts."""
    process = await asyncio.create_subprocess_exec(
        PYTHON, Path(__file__).with_name(program), str(broker.port), *words, stdin=DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_an_edge_node_and_its_device_are_there_until_its_will_is_published(
    broker: Mosquitto,
) -> None:
    settings = settings_of(DialectName.SPARKPLUG, ask=True)
    async with births_at(broker, settings) as made, running(made.discoverer) as sink:
        await until(made.connected)
        async with peer(broker, NODE):
            await until(lambda: len(sink.seen) == 2)
            node = sink.seen["plant/sparkplug-b/plant/edge1"]
            pump = sink.seen["plant/sparkplug-b/plant/edge1/pump"]
            assert node.attributes["vendor"] == "Acme"
            assert pump.attributes["serial"] == "PU-7"
            assert pump.is_behind
            assert await made.discoverer.verify(pump) is not None
        await until(lambda: len(sink.lost) == 2)
        assert await made.discoverer.verify(pump) is None
        async with peer(broker, NODE):
            before = sink.sightings
            await until(lambda: sink.sightings == before + 2)
            assert len(sink.seen) == 2


async def test_a_device_of_home_assistant_stays_one_child_renamed_and_restarted(
    broker: Mosquitto,
) -> None:
    async with (
        births_at(broker, settings_of(DialectName.HOME_ASSISTANT)) as made,
        household(made.discoverer) as home,
    ):
        await until(made.connected)
        async with peer(broker, DEVICE, "hall 1"):
            first = await home.shows(lambda one: one.label == "hall 1")
            (view,) = first.views
            assert (view["vendor"], view["model"]) == ("Acme", "P1")
            assert Claim("mac", "mqtt-births", "a020a60affd2") in first.claims
        async with peer(broker, DEVICE, "hall 2"):
            await home.shows(lambda one: one.label == "hall 2")
