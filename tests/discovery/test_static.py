"""Devices that the configuration lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery import static
from gatewayd.discovery.discoverer import Discoverer
from gatewayd.discovery.static import Static, StaticDevice, StaticSettings, sighting
from gatewayd.errors import ConfigError
from gatewayd.testing.contracts.discoverer import DiscovererContract, DiscovererTestbed, running
from gatewayd.testing.waiting import until

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
        "model": "PM5560",
    }  # fmt: skip


def test_what_is_not_written_is_no_attribute() -> None:
    seen = sighting("static", SERIAL)
    assert seen.attributes == {"source": "static", "name": "meter-1"}
    assert (seen.addresses, seen.port) == ((), None)


@pytest.mark.parametrize(
    ("devices", "remedy"),
    [
        ((StaticDevice(key="a"),), "'a' needs a serial, a mac or a uuid"),
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
