"""A toy protocol over a real cable: what is asked, what is read, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gatewayd.discovery.discoverer import Discoverer
from gatewayd.testing.contracts.discoverer import (
    DiscovererContract,
    DiscovererTestbed,
    running,
)
from gatewayd.testing.waiting import until
from tests.support.cable import CHILD, CHILD6, Cable, laid
from tests.support.toy import BOTH, GROUP4, PORT, ToyDevice, toys

ADDRESSES = (CHILD, "10.77.0.3", "10.77.0.4")

pytestmark = pytest.mark.namespace


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


class ToyTestbed:
    """Three toys at the far end of a cable."""

    def __init__(self, devices: dict[str, ToyDevice]) -> None:
        self._devices = devices
        self.discoverer: Discoverer = toys(max_entries=50)
        self.count, self.limit = len(devices), 50

    async def remove(self, key: str) -> bool:
        self._devices[key].is_silent = True
        return True

    async def abuse(self) -> None:
        one = next(iter(self._devices.values()))
        for number in range(300):
            one.say(b"toy!        " + f"liar-{number} \x1b[2J".encode(), (GROUP4, PORT))
            one.say(b"toy-" + f"liar-{number}".encode(), (GROUP4, PORT))
            one.say(b"toy!" + bytes([number % 256]) * number, (GROUP4, PORT))
            one.say(b"bug!", (GROUP4, PORT))
            one.say(b"toy-\xff", (GROUP4, PORT))
            await asyncio.sleep(0)
        one.say(b"x" * 9000, (GROUP4, PORT))


class TestContract(DiscovererContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        self.cable = cable
        for address in ADDRESSES[1:]:
            cable.far_ip("addr", "add", f"{address}/16", "dev", "lan0")

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        async with AsyncExitStack() as stack:
            made = {}
            for number, address in enumerate(ADDRESSES):
                device = ToyDevice(self.cable, f"toy-{number}", address)
                made[f"toy-{number}"] = await stack.enter_async_context(device)
            yield ToyTestbed(made)


async def test_a_device_is_found_in_both_families_and_is_one(cable: Cable) -> None:
    async with ToyDevice(cable, "ann red", *BOTH), running(toys()) as sink:
        await until(lambda: len(sink.seen["ann"].addresses) == 2 if "ann" in sink.seen else False)
        seen = sink.seen["ann"]
        assert seen.addresses == (CHILD, f"{CHILD6}%lan0")
        assert (
            seen.attributes.items()
            >= {"source": "toy", "interface": "lan0", "toy.red": "yes"}.items()
        )
