"""The kernel's neighbours as a source, on a LAN of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from gatewayd.discovery.discoverer import Discoverer
from gatewayd.discovery.kernel.neighbour_source import KernelNeighbours, NeighbourSettings
from gatewayd.discovery.link.witnessed_link import formatted
from gatewayd.discovery.probing.protocol import SUSPECT
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.testing.contracts.discoverer import running
from gatewayd.testing.waiting import until
from tests.support.bridged_lan import GATEWAY, INTERFACE, BridgedLan, LanHost, bridged_lan
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.namespace

SIEMENS, ROCKWELL = "00:1b:1b:34:34:cb", "08:61:95:00:00:07"
MAC = "001b1b3434cb"
NOTHING = SimpleNamespace(addresses=())


def neighbours(interface: str = INTERFACE) -> KernelNeighbours:
    return KernelNeighbours("lan", NeighbourSettings((interface,)))


class NeighbourTestbed:
    limit = 2000

    def __init__(self, lan: BridgedLan) -> None:
        self.discoverer: Discoverer = neighbours()
        self.lan, self.count = lan, len(lan.hosts)

    async def remove(self, key: str) -> bool:
        host = self.lan.hosts[[SIEMENS, ROCKWELL].index(formatted(key))]
        await asyncio.to_thread(host.switch_off)
        return True

    async def abuse(self) -> None:
        """One host takes more addresses than are kept of one, and speaks from each."""
        await asyncio.to_thread(take_addresses, self.lan.hosts[0], 20)


def take_addresses(host: LanHost, count: int) -> None:
    for last in range(100, 100 + count):
        host.run("ip", "addr", "add", f"10.77.0.{last}/24", "dev", INTERFACE)
        speak(host, f"10.77.0.{last}")


def speak(host: LanHost, address: str) -> None:
    """Have a host talk to the gateway, so that the kernel learns of it."""
    host.run("busybox", "ping", "-c", "1", "-W", "2", "-I", address, GATEWAY)


@contextmanager
def two_hosts() -> Iterator[BridgedLan]:
    with bridged_lan() as lan:
        for mac, address in ((SIEMENS, "10.77.0.5"), (ROCKWELL, "10.77.0.6")):
            speak(lan.host(mac, f"{address}/24"), address)
        yield lan


class TestNeighboursByTheContract(SourceContract):
    @pytest.fixture(autouse=True)
    def _on_a_lan(self) -> Iterator[None]:
        with two_hosts() as self.lan:
            yield

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[NeighbourTestbed]:
        yield NeighbourTestbed(self.lan)


async def test_a_neighbour_is_its_mac_with_the_vendor_of_its_network_chip() -> None:
    with two_hosts() as lan:
        testbed = NeighbourTestbed(lan)
        async with running(testbed.discoverer) as sink:
            await until(lambda: MAC in sink.seen)
            seen = sink.seen[MAC]
    assert seen.source == f"lan/{INTERFACE}"
    assert seen.addresses == ("10.77.0.5",)
    assert not seen.claims  # what the kernel shows counts as gatewayd reads it, not as it is told
    assert seen.attributes == {
        "source": "neighbours", "interface": INTERFACE, "address": "10.77.0.5",
        "oui.vendor": "Siemens AG,",
    }  # fmt: skip
    assert seen.label == "Siemens AG, 00:1b:1b:34:34:cb"


async def test_a_neighbour_that_is_renumbered_and_restarted_stays_the_same() -> None:
    with two_hosts() as lan:
        testbed, host = NeighbourTestbed(lan), lan.hosts[0]
        async with running(testbed.discoverer) as sink:
            await until(lambda: MAC in sink.seen)
            host.address("10.77.0.77/24", "fe80::7/64")
            speak(host, "10.77.0.77")
            await until(lambda: "10.77.0.77" in sink.seen[MAC].addresses)
            lan.restart(host)
            found = await testbed.discoverer.verify(sink.seen[MAC])
            assert found is not None
            assert found.key == MAC
            assert len(sink.seen) == 2


async def test_of_one_neighbour_eight_addresses_are_kept() -> None:
    with bridged_lan() as lan:
        host = lan.host(SIEMENS, "10.77.0.5/24")
        take_addresses(host, 12)
        discoverer = neighbours()
        async with running(discoverer) as sink:
            await until(lambda: len(sink.seen.get(MAC, NOTHING).addresses) == 8)


async def test_an_interface_that_is_not_named_does_not_count() -> None:
    with two_hosts():
        discoverer = neighbours("lo")
        async with running(discoverer) as sink:
            await asyncio.sleep(0.3)  # as long as all others need, and longer
            assert not sink.seen


async def test_what_an_operator_has_written_is_no_device() -> None:
    with two_hosts() as lan:
        lan.write_neighbour("10.77.0.9", "24:0a:c4:0c:2f:91")
        testbed = NeighbourTestbed(lan)
        async with running(testbed.discoverer) as sink:
            await until(lambda: len(sink.seen) == 2)
            await testbed.discoverer.rescan()
            await until(lambda: sink.sightings >= 4)
            assert "240ac40c2f91" not in sink.seen


async def test_without_the_lists_of_vendors_devices_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with two_hosts():
        discoverer = KernelNeighbours("lan", NeighbourSettings((INTERFACE,)), vendors=tmp_path)
        async with running(discoverer) as sink:
            await until(lambda: len(sink.seen) == 2)
            assert sink.seen[MAC].label == SIEMENS
    assert "Install the package ieee-data." in caplog.text


async def test_nothing_can_be_asked_while_the_interface_is_down() -> None:
    with two_hosts() as lan:
        discoverer = neighbours()
        async with running(discoverer) as sink:
            await until(lambda: len(sink.seen) == 2)
            lan.unplug()
            await until(lambda: not _is_usable(discoverer))
            with pytest.raises(DiscoveryRetry, match="is down"):
                await discoverer.verify(sink.seen[MAC])


def _is_usable(discoverer: KernelNeighbours) -> bool:
    return any(unit.link().is_usable for unit in discoverer._units)


def test_an_interface_must_be_named() -> None:
    with pytest.raises(ConfigError, match="interfaces must name at least one"):
        KernelNeighbours("lan", NeighbourSettings(()))


def test_only_a_suspect_is_sent_anything() -> None:
    assert [(one.interface, one.occasion) for one in neighbours().transmissions()] == [
        (INTERFACE, SUSPECT)
    ]
