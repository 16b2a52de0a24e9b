"""KNXnet/IP on a cable: the contract, and Debian's knxd, which is renamed and moves."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.protocols.knx.discoverer import Knx, KnxSettings
from gatewayd.discovery.protocols.knx.messages import GROUP, PORT
from gatewayd.testing.contracts.discoverer import DiscovererTestbed, running
from gatewayd.testing.waiting import until
from tests.support.cable import CHILD, INTERFACE, MOVED, Cable, laid
from tests.support.cable_device import AnsweringTestbed, CableDevice
from tests.support.cable_peer import CablePeer
from tests.support.household import household
from tests.support.source_contract import SourceContract

pytestmark = [pytest.mark.namespace, pytest.mark.root]

OTHER, STRANGER = "10.77.0.3", "10.77.0.66"
MAC = "0022d1040037"
SEARCH, SEARCH_EXTENDED, DESCRIBE = b"\x06\x10\x02\x01", b"\x06\x10\x02\x0b", b"\x06\x10\x02\x03"
INI = """
[main]
addr = 0.0.1
client-addrs = 0.0.2:8
connections = server,A.dummy
[A.dummy]
driver = dummy
[server]
server = ets_router
tunnel = tunnel
router = router
discover = true
interface = lan0
name = {name}
[tunnel]
[router]
"""


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


def discoverer() -> Knx:
    return Knx("halls", KnxSettings((INTERFACE,), max_entries=AnsweringTestbed.limit))


def answer(question: bytes, serial: int) -> list[bytes]:
    """Return the answer to a search of version 1, or to a description."""
    kinds = {SEARCH: 0x0202, DESCRIBE: 0x0204}
    if question[:4] not in kinds:
        return []
    device = struct.pack(
        "!BBBBHH6s4s6s30s", 54, 1, 2, 0, 0x1101, 0, serial.to_bytes(6, "big"), b"\xe0\0\x17\x0c",
        b"\0\x22\xd1" + serial.to_bytes(3, "big"), b"Hall",
    )  # fmt: skip
    endpoint = b"\x08\1" + bytes(6) if question[:4] == SEARCH else b""
    body = endpoint + device + bytes((6, 2, 2, 1, 4, 1))
    return [struct.pack("!BBHH", 6, 0x10, kinds[question[:4]], 6 + len(body)) + body]


class TestContract(SourceContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        for address in (OTHER, STRANGER):
            cable.far_ip("addr", "add", f"{address}/16", "dev", INTERFACE)
        self.cable = cable

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        places = {0xA60001: CHILD, 0xA60002: OTHER, 0xA60003: STRANGER}
        async with AsyncExitStack() as stack:
            devices = {}
            for serial, place in places.items():
                device = CableDevice(
                    self.cable, (place, PORT), GROUP, partial(answer, serial=serial)
                )
                devices[f"{serial:012x}"] = await stack.enter_async_context(device)
            stranger = devices.pop("000000a60003")
            stranger.is_silent = True
            yield AnsweringTestbed(
                discoverer(), devices, stranger,
                lambda _, number: answer(SEARCH, 0xB00000 + number)[0],
            )  # fmt: skip


class Knxd(CablePeer):
    """Debian's knxd, with a bus on which nothing is."""

    def __init__(self, cable: Cable, directory: Path) -> None:
        super().__init__(cable)
        self._ini = directory / "knxd.ini"

    async def run(self, name: str) -> None:
        """Start it, or start it again."""
        self._ini.write_text(INI.format(name=name))
        await self.start("knxd", str(self._ini))


@pytest.fixture
def router(cable: Cable) -> Cable:
    """Return a cable whose other end has the MAC of a vendor, and a way to groups."""
    digits = ":".join(MAC[at : at + 2] for at in range(0, 12, 2))
    cable.far_ip("link", "set", INTERFACE, "address", digits)
    cable.far_ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
    return cable


@pytest.fixture
async def knxd(router: Cable, tmp_path: Path) -> AsyncIterator[Knxd]:
    async with Knxd(router, tmp_path) as made:
        yield made


async def test_a_router_stays_one_child_renamed_restarted_and_elsewhere(
    router: Cable, knxd: Knxd
) -> None:
    await knxd.run("hall")
    async with household(discoverer()) as home:
        first = await home.shows(lambda one: one.label == "hall")
        assert Claim("mac", "knx", MAC) in first.claims
        assert not [one for one in first.claims if one.kind == "serial"]
        assert first.views[0]["knx.services"] == "tunnelling routing"
        assert first.views[0]["trust"] == "corroborated"

        await knxd.run("hall 2")
        await home.shows(lambda one: one.label == "hall 2")

        router.move()
        router.far_ip("route", "replace", "224.0.0.0/4", "dev", INTERFACE)
        await knxd.run("hall 2")
        last = await home.shows(lambda one: MOVED in one.addresses)
        assert not last.conflict
        assert last.views[0]["knx.name"] == "hall 2"


async def test_a_description_shows_what_a_search_does(knxd: Knxd) -> None:
    await knxd.run("hall")
    made = discoverer()
    async with running(made) as sink:
        async with asyncio.timeout(60):
            while MAC not in sink.seen:
                await made.rescan()
                await asyncio.sleep(0.2)
        seen = sink.seen[MAC]
        found = await made.verify(seen)
        assert found is not None
        assert (found.claims, found.attributes) == (seen.claims, seen.attributes)


async def test_a_device_is_searched_for_and_described_and_no_tunnel_is_opened(cable: Cable) -> None:
    made = discoverer()
    async with (
        CableDevice(cable, (CHILD, PORT), GROUP, lambda q: answer(q, 0xA60001)) as device,
        running(made) as sink,
    ):
        await until(lambda: sink.seen)
        assert await made.verify(sink.seen["000000a60001"]) is not None
        await made.rescan()
        await until(lambda: len(device.asked) >= 5)
    for question, (address, port) in device.asked:
        assert question[:4] in (SEARCH, SEARCH_EXTENDED, DESCRIBE)
        assert question[8:] == bytes(map(int, address.split("."))) + port.to_bytes(2, "big")
