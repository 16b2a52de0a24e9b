"""Devices that the configuration lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery import static
from gatewayd.discovery.discoverer import Context, Discoverer, Interest
from gatewayd.discovery.static import (
    LOCATE_EVERY,
    Static,
    StaticDevice,
    StaticSettings,
    sighting,
)
from gatewayd.errors import ConfigError
from gatewayd.testing.contracts.discoverer import (
    DiscovererContract,
    DiscovererTestbed,
    RecordingSink,
    running,
)
from gatewayd.testing.waiting import until
from tests.support.tasks import in_background

SERIAL = StaticDevice(key="meter-1", serial="PM-0042")


class Listed:
    """Two listed devices; one accepts connections."""

    def __init__(self, server: asyncio.Server) -> None:
        port = server.sockets[0].getsockname()[1]
        talking = StaticDevice(
            key="meter-0", mac="24:0a:c4:0c:2f:91", address="127.0.0.1", port=port
        )
        self.server = server
        self.discoverer: Discoverer = Static("static", StaticSettings((talking, SERIAL)))
        self.count = self.limit = 2

    async def remove(self, key: str) -> bool:
        self.server.close()
        await self.server.wait_closed()
        return key == "meter-0"

    async def abuse(self) -> None:
        """No host on the LAN can send anything to it."""


@asynccontextmanager
async def listed() -> AsyncIterator[Listed]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield Listed(server)


class TestContract(DiscovererContract):
    def make_testbed(self) -> AbstractAsyncContextManager[DiscovererTestbed]:
        return listed()


def test_a_sighting_holds_what_was_written() -> None:
    device = StaticDevice(
        key="Meter 1", serial=" PM-0042 ", mac="24:0A:C4:0C:2F:91", namespace="_pm._tcp",
        address="192.0.2.9", port=502, attributes={"Model": "PM5560"},
    )  # fmt: skip
    seen = sighting("static", device)
    assert (seen.source, seen.key, seen.label) == ("static", "Meter 1", "Meter 1")
    assert (seen.addresses, seen.port, seen.interface) == (("192.0.2.9",), 502, "")
    assert (seen.trust, seen.valid_for) == (Trust.LISTED, 86400)
    assert seen.claims == {
        Claim("serial", "_pm._tcp", "pm-0042"),
        Claim("mac", "_pm._tcp", "240ac40c2f91"),
    }
    assert seen.attributes == {
        "source": "static", "name": "Meter 1", "address": "192.0.2.9", "port": "502",
        "model": "PM5560", "serial": "PM-0042", "mac": "240ac40c2f91",
    }  # fmt: skip


def test_what_is_not_written_is_no_attribute() -> None:
    seen = sighting("static", SERIAL)
    assert seen.attributes == {"source": "static", "name": "meter-1", "serial": "PM-0042"}
    assert (seen.addresses, seen.port) == ((), None)


@pytest.mark.parametrize(
    ("devices", "remedy"),
    [
        ((StaticDevice(key="a"),), "'a' needs a serial, a mac, a uuid or a host"),
        ((StaticDevice(key="a", serial="12345678"),), "its serial identifies nothing"),
        ((StaticDevice(key="a", mac="nonsense"),), "its mac identifies nothing"),
        ((StaticDevice(key="a", serial="1", address="plc.local"),), "not an IP address"),
        ((StaticDevice(key="a\nb", serial="1"),), "'a b' has a key or attributes"),
        ((StaticDevice(key="a", serial="1", attributes={"source": "mdns"}),), "'source' cannot"),
        ((StaticDevice(key="a", serial="1", attributes={"m": "a\0"}),), "'m' cannot be matched"),
        ((SERIAL, SERIAL), "unique key"),
    ],
)
def test_what_cannot_be_meant_is_refused(devices: tuple[StaticDevice, ...], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        Static("static", StaticSettings(devices))


def test_more_devices_than_are_kept_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "MAX_LISTED", 2)
    listed = [StaticDevice(key=f"meter-{n}", serial=f"PM-{n}") for n in range(3)]
    Static("static", StaticSettings(tuple(listed[:2])))
    with pytest.raises(ConfigError, match="3"):
        Static("static", StaticSettings(tuple(listed)))


async def test_a_device_without_a_port_is_there_without_being_asked() -> None:
    discoverer = Static("static", StaticSettings((SERIAL,)))
    async with running(discoverer) as sink:
        await until(lambda: len(sink.seen) == 1)
        assert await discoverer.verify(sink.seen["meter-1"]) is not None


async def test_a_device_that_is_not_listed_any_more_is_not_found() -> None:
    gone = sighting("static", SERIAL)
    assert await Static("static", StaticSettings(())).verify(gone) is None


class Network:
    """Where hosts and MACs are, and how often that was asked."""

    def __init__(self, **found: list[str]) -> None:
        self.found, self.asked = found, 0
        self.hangs = False

    async def locate(self, kind: str, name: str) -> list[str]:
        assert kind in ("host", "mac")
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        return self.found.get(name, [])


@asynccontextmanager
async def reporting(network: Network, *devices: StaticDevice) -> AsyncIterator[RecordingSink]:
    """Run a discoverer of devices that are somewhere in a network."""
    now, sink = asyncio.get_running_loop().time, RecordingSink()
    context = Context(now, lambda: 0.5, lambda _: Interest.WANTED, locate=network.locate)
    async with in_background(Static("static", StaticSettings(devices)).run(context, sink)):
        await asyncio.sleep(0.01)
        yield sink


@pytest.mark.jumping_clock
@pytest.mark.parametrize(
    "device",
    [StaticDevice(key="a", host="plc1"), StaticDevice(key="a", mac="24:0A:C4:0C:2F:91")],
)
async def test_a_device_is_found_by_its_host_name_or_mac_wherever_it_goes(
    device: StaticDevice,
) -> None:
    network = Network(plc1=["192.0.2.7"])
    network.found["240ac40c2f91"] = network.found["plc1"]
    async with reporting(network, device, SERIAL) as sink:
        assert sink.seen["a"].addresses == ("192.0.2.7",)
        assert sink.seen["a"].attributes["address"] == "192.0.2.7"
        network.found["plc1"][:] = ["192.0.2.8", "fe80::8%lan0"]
        sightings = sink.sightings
        await asyncio.sleep(LOCATE_EVERY + 1)
        assert list(sink.seen["a"].addresses) == ["192.0.2.8", "fe80::8%lan0"]
        assert sink.sightings == sightings + 1


@pytest.mark.jumping_clock
@pytest.mark.parametrize("hangs", [True, False])
async def test_a_device_that_is_nowhere_is_reported_without_an_address(hangs: bool) -> None:
    network = Network()
    network.hangs = hangs
    async with reporting(network, StaticDevice(key="a", host="plc1"), SERIAL) as sink:
        await asyncio.sleep(60)
        assert sink.seen["a"].addresses == ()
        assert sink.seen["a"].attributes == {"source": "static", "name": "a", "host": "plc1"}
        assert "meter-1" in sink.seen


@pytest.mark.jumping_clock
async def test_a_device_that_is_not_looked_for_waits_for_none_that_is() -> None:
    network = Network()
    network.hangs = True
    nowhere = [StaticDevice(key=f"a{number}", host=f"plc{number}") for number in range(100)]
    async with reporting(network, *nowhere, SERIAL) as sink:
        assert list(sink.seen) == ["meter-1"]


async def test_a_device_is_there_if_it_answers_at_any_of_its_addresses() -> None:
    async with listed() as here:
        port = here.server.sockets[0].getsockname()[1]
        network = Network(plc1=["127.0.0.2", "127.0.0.1"], plc2=["127.0.0.2"])
        hosts = [StaticDevice(key=one, host=one, port=port) for one in network.found]
        discoverer = Static("static", StaticSettings(tuple(hosts)))
        now = asyncio.get_running_loop().time
        context = Context(now, lambda: 0.5, lambda _: Interest.WANTED, locate=network.locate)
        sink = RecordingSink()
        async with in_background(discoverer.run(context, sink)):
            await until(lambda: len(sink.seen) == len(hosts))
            assert await discoverer.verify(sink.seen["plc1"]) is not None
            assert await discoverer.verify(sink.seen["plc2"]) is None


async def test_a_device_with_an_address_is_not_looked_for() -> None:
    network = Network(plc1=["192.0.2.8"])
    known = StaticDevice(key="a", host="plc1", address="192.0.2.7")
    async with reporting(network, known) as sink:
        assert sink.seen["a"].addresses == ("192.0.2.7",)
    assert network.asked == 0
