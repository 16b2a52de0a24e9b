"""The discoverer of BACnet on a cable, with devices and a router of bacpypes3."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Discoverer
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.protocols.bacnet.discoverer import Bacnet, BacnetProtocol, BacnetSettings
from gatewayd.discovery.protocols.bacnet.messages import who_is
from gatewayd.testing.contracts.discoverer import (
    DiscovererTestbed,
    RecordingSink,
    running,
)
from gatewayd.testing.waiting import until
from tests.support.cable import BROADCAST, CHILD, MOVED, Cable, laid
from tests.support.household import household
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.namespace

PORT = 47808
LIMIT = 40
SETTINGS = BacnetSettings(interfaces=("lan0",), max_entries=LIMIT)
ROUTER = {"instance": 5, "vendor": 999, "name": "router", "serial": "R-5"}
BOILER = {"instance": 7, "vendor": 999, "name": "boiler", "serial": "SN-7", "station": 10}
FAN = {"instance": 8, "vendor": 15, "name": "fan", "station": 11}
KEYS = {"5", "2001/0a/7", "2001/0b/8"}


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


@contextmanager
def devices(cable: Cable, *facts: Mapping[str, Any], address: str = CHILD) -> Iterator[None]:
    """Run devices at the far end of a cable: the first, and those behind it."""
    peer = Path(__file__).with_name("bacnet_devices.py")
    arguments = (f"{address}/16", *map(json.dumps, facts))
    command: list[str | Path] = [*cable.prefix, sys.executable, peer, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.terminate()


def discoverer() -> DatagramDiscoverer:
    """Return a discoverer that does not pause, as the devices are fast."""
    return DatagramDiscoverer("bms", SETTINGS, BacnetProtocol(pace=0.0), gap=0.0)


async def enquired(sink: RecordingSink, *keys: str) -> None:
    """Return when devices have been asked for their properties."""
    await until(lambda: all(key in sink.seen and sink.seen[key].claims for key in keys))


async def test_a_device_and_those_behind_it_are_found_and_read(cable: Cable) -> None:
    with devices(cable, ROUTER, BOILER, FAN):
        async with running(discoverer()) as sink:
            await enquired(sink, *KEYS)
    assert set(sink.seen) == KEYS
    router, boiler, fan = (sink.seen[key] for key in sorted(KEYS, key=lambda key: key[-1]))
    assert router.claims == {Claim("serial", "bacnet.999", "r-5")}
    assert not router.is_behind
    assert boiler.claims == {Claim("serial", "bacnet.999", "sn-7")}
    assert fan.claims == {
        Claim("serial", "bacnet", "vendor-15-instance-8-2001-0b")
    }  # it has no serial number
    assert boiler.is_behind
    assert fan.is_behind
    assert {one.addresses for one in sink.seen.values()} == {(CHILD,)}
    expected = {"source": "bacnet", "interface": "lan0", "address": CHILD, "port": str(PORT),
                "vendor": "Example", "model": "X-1", "serial": "SN-7", "bacnet.name": "boiler",
                "bacnet.instance": "7", "bacnet.vendor-id": "999", "bacnet.network": "2001",
                "bacnet.station": "0a", "bacnet.firmware": "1.0",
                "bacnet.application": "2.0"}  # fmt: skip
    assert boiler.attributes == expected
    assert boiler.label == "boiler"


async def test_clones_behind_a_router_are_two(cable: Cable) -> None:
    clone = FAN | {"name": "clone", "station": 12}
    async with household(discoverer()) as home:
        with devices(cable, ROUTER, FAN, clone):
            for one in (FAN, clone):
                made = Claim("serial", "bacnet", f"vendor-15-instance-8-2001-{one['station']:02x}")
                shown = await home.shows(lambda said: said.label, made)
                assert (shown.label, shown.conflict) == (one["name"], "")


async def test_a_name_an_address_and_a_restart_leave_it_the_same_child(cable: Cable) -> None:
    serial = Claim("serial", "bacnet.999", "r-5")
    async with household(discoverer()) as home:
        with devices(cable, ROUTER):
            await home.shows(lambda one: one.label == "router" and serial in one.claims)
        cable.far_ip("addr", "add", f"{MOVED}/16", "broadcast", BROADCAST, "dev", "lan0")
        with devices(cable, ROUTER | {"name": "renamed"}, address=MOVED):
            shown = await home.shows(lambda one: one.label == "renamed" and MOVED in one.addresses)
    assert serial in shown.claims
    assert not shown.conflict


async def test_one_that_is_gone_is_not_there(cable: Cable) -> None:
    one = discoverer()
    async with running(one) as sink:
        with devices(cable, ROUTER):
            await enquired(sink, "5")
            assert await one.verify(sink.seen["5"]) is not None
        assert await one.verify(sink.seen["5"]) is None


async def test_nothing_is_sent_but_questions_in_ranges(cable: Cable) -> None:
    loop = asyncio.get_running_loop()
    with cable.at_the_far_end():
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind((BROADCAST, PORT))
    listener.setblocking(False)
    with listener:
        one, began = Bacnet("bms", SETTINGS), loop.time()
        async with running(one):
            first = await loop.sock_recv(listener, 2000)
            await one.rescan()  # does not bring the next round forward
            second = await loop.sock_recv(listener, 2000)
            assert loop.time() - began >= 1.9
    assert (first, second) == (who_is(0, 999), who_is(1000, 9999))


async def test_another_program_at_the_port_is_named_with_a_remedy(
    cable: Cable, caplog: pytest.LogCaptureFixture
) -> None:
    one = Bacnet("bms", SETTINGS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", PORT))
        with caplog.at_level(logging.WARNING):
            async with running(one):
                await until(lambda: one.health.dropped.get("no-socket"))
    assert "UDP port 47808 is in use: another program has it; stop that" in caplog.text


class BacnetTestbed:
    """A router, and two devices behind it."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self.discoverer: Discoverer = discoverer()
        self.count, self.limit = len(KEYS), LIMIT

    async def remove(self, key: str) -> bool:
        return False

    async def abuse(self) -> None:
        """Say I-Am as 300 devices, and what no device says."""
        said = bytes.fromhex("810a001401001000c4020000002204009103218a")
        with self._cable.at_the_far_end(), socket.socket(type=socket.SOCK_DGRAM) as liar:
            liar.setblocking(False)
            liar.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for number in range(300):
                made = said[:11] + (1000 + number).to_bytes(2, "big") + said[13:]
                for payload in (made, said[: number % 20], bytes((number % 256,)) * number):
                    liar.sendto(payload, (BROADCAST, PORT))
        await until(lambda: self.discoverer.health.dropped.get("truncated"))


class TestBacnet(SourceContract):
    @pytest.fixture(autouse=True)
    def plant(self, cable: Cable) -> Iterator[None]:
        self._cable = cable
        with devices(cable, ROUTER, BOILER, FAN):
            yield

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        yield BacnetTestbed(self._cable)
