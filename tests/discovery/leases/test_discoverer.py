"""The clients of a DHCP server as a source, on a LAN of our own; the test writes the leases."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Context, Discoverer, LossReason, Sighting
from gatewayd.discovery.helper.specs import make_discoverer, spec_of
from gatewayd.discovery.leases.discoverer import UNSEEN, Leases, LeaseSettings
from gatewayd.discovery.leases.lease import NEVER, Lease
from gatewayd.discovery.leases.servers import LeaseServer
from gatewayd.discovery.link.witnessed_link import formatted
from gatewayd.discovery.probing.protocol import SUSPECT
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.testing.contracts.discoverer import (
    RecordingSink,
    running,
    want_all,
)
from gatewayd.testing.waiting import until
from tests.support.bridged_lan import GATEWAY, INTERFACE, BridgedLan, bridged_lan, open_directory
from tests.support.reportable import assert_reportable
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.namespace

PLC, LAMP = "001b1b3434cb", "240ac40c2f91"
ADDRESSES = {PLC: "10.77.0.57", LAMP: "10.77.0.58"}
NOBODY = 65534
CLEAR = "\x1b[2J"
"""What clears a terminal."""


class LeaseFile:
    """A file of dnsmasq, which replaces it at each change.  path: of the file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "dnsmasq.leases"
        self.lines: dict[str, str] = {}
        self._count = 0

    def give(self, mac: str, *, address: str = "", name: str = "plc-4", seconds: int = 0) -> None:
        """Give or renew a lease."""
        self._count += 1  # so that the end of each lease is another one
        ends = int(time.time()) + (seconds or 3600) + self._count
        where = address or ADDRESSES[mac]
        self.lines[where] = f"{ends} {formatted(mac)} {where} {name} 01:{formatted(mac)}\n"
        self.write()

    def take(self, address: str) -> None:
        """Remove a lease."""
        del self.lines[address]
        self.write()

    def write(self, more: str = "") -> None:
        new = self.path.with_name("new")
        new.write_text("".join(self.lines.values()) + more)
        new.replace(self.path)


@contextmanager
def clients() -> Iterator[BridgedLan]:
    """A gateway, and two devices that have addresses."""
    with bridged_lan() as lan:
        for mac, address in ADDRESSES.items():
            lan.host(formatted(mac), f"{address}/24")
        yield lan


def leases(file: LeaseFile) -> Leases:
    return Leases("leases", LeaseSettings(LeaseServer.DNSMASQ, (INTERFACE,), file.path))


@pytest.fixture
def file(tmp_path: Path) -> LeaseFile:
    return LeaseFile(tmp_path)


class LeaseTestbed:
    limit = 2000

    def __init__(self, lan: BridgedLan, file: LeaseFile) -> None:
        self.discoverer: Discoverer = leases(file)
        self.lan, self.file, self.count = lan, file, len(ADDRESSES)

    async def remove(self, key: str) -> bool:
        await asyncio.to_thread(self.lan.hosts[list(ADDRESSES).index(key)].switch_off)
        return True

    async def abuse(self) -> None:
        """A client that asks for addresses with all MACs there are, and names of all kinds."""
        forged = "".join(
            f"{int(time.time()) + 3600} 24:0a:c4:00:00:{n:02x} 10.77.0.{n} "
            f"{CLEAR * 20}{n} ff:{'00:' * 300}00\n"
            for n in range(100, 250)
        )
        await asyncio.to_thread(self.file.write, forged)
        await asyncio.sleep(2.5)  # by then it was read


class TestLeasesByTheContract(SourceContract):
    @pytest.fixture(autouse=True)
    def _on_a_lan(self, file: LeaseFile) -> Iterator[None]:
        for mac in ADDRESSES:
            file.give(mac)
        self.file = file
        with clients() as self.lan:
            yield

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[LeaseTestbed]:
        yield LeaseTestbed(self.lan, self.file)


async def seen(sink: RecordingSink, mac: str) -> Sighting:
    await until(lambda: mac in sink.seen)
    return sink.seen[mac]


async def test_a_client_is_its_mac_with_what_it_says_of_itself(file: LeaseFile) -> None:
    file.give(PLC)
    with clients():
        async with running(leases(file)) as sink:
            found = await seen(sink, PLC)
    assert found.source == f"leases/{INTERFACE}"
    assert found.addresses == ("10.77.0.57",)
    assert found.claims == {Claim("mac", "dhcp-leases", PLC)}
    assert found.label == "plc-4"
    assert found.attributes == {
        "source": "dhcp-leases", "interface": INTERFACE, "address": "10.77.0.57",
        "dhcp.hostname": "plc-4", "dhcp.client-id": f"01{PLC}", "dhcp.mac": PLC,
        "oui.vendor": "Siemens AG,",
    }  # fmt: skip
    assert found.valid_for <= 600


async def test_a_client_with_a_lease_of_ipv6_too_is_one_at_both_addresses(file: LeaseFile) -> None:
    duid, address6 = f"00:03:00:01:{formatted(PLC)}", "fd77::57"
    file.give(PLC)
    file.lines["v6"] = (
        "duid 00:01:00:01:32:a0:26:c1:24:0a:c4:ff:00:01\n"
        f"{int(time.time()) + 7200} 456406219 {address6} * {duid}\n"
    )
    file.write()
    with bridged_lan(f"{GATEWAY}/24", "fd77::1/64") as lan:
        host = lan.host(formatted(PLC), "10.77.0.57/24", f"{address6}/64")
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await until(
                lambda: PLC in sink.seen and sink.seen[PLC].addresses == ("10.77.0.57", address6)
            )
            found = sink.seen[PLC]
            assert await discoverer.verify(found) is not None
            host.run("ip", "addr", "del", "10.77.0.57/24", "dev", INTERFACE)
            assert await discoverer.verify(found) is not None, "it is still at the other"
    assert found.label == "plc-4"
    assert found.claims == {Claim("mac", "dhcp-leases", PLC)}
    shown = (found.attributes["dhcp.client-id"], found.attributes["dhcp.duid"])
    assert shown == (f"01{PLC}", duid.replace(":", ""))


async def test_a_lease_of_a_device_that_is_gone_is_not_reported_until_it_is_there(
    file: LeaseFile,
) -> None:
    file.give(PLC)
    with bridged_lan() as lan:
        lan.host(formatted(LAMP), "10.77.0.58/24")
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await until(lambda: discoverer.health.dropped.get("not-there") == 1)
            assert not sink.seen
            plc = lan.host(formatted(PLC), "10.77.0.57/24")
            plc.run("busybox", "ping", "-c", "1", "-W", "2", GATEWAY)
            await seen(sink, PLC)


async def test_a_lease_that_is_given_shows_a_device_at_once(file: LeaseFile) -> None:
    with bridged_lan() as lan:
        lan.host(formatted(LAMP), "10.77.0.58/24")
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await until(lambda: discoverer._book._is_read)
            file.give(PLC)  # and the device itself may be silent
            await seen(sink, PLC)


async def test_a_renamed_renewed_and_renumbered_client_stays_one(file: LeaseFile) -> None:
    file.give(PLC)
    with clients() as lan:
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await seen(sink, PLC)
            file.give(PLC, name="plc-5")
            await until(lambda: sink.seen[PLC].label == "plc-5")
            lan.hosts[0].address("10.77.0.90/24")
            file.take("10.77.0.57")
            file.give(PLC, address="10.77.0.90", name="plc-5")
            await until(lambda: sink.seen[PLC].addresses == ("10.77.0.90",))
            await until(lambda: not discoverer._book.is_doubtful)
            found = await discoverer.verify(sink.seen[PLC])
            assert found is not None
            assert found.addresses == ("10.77.0.90",)
            assert set(sink.seen) == {PLC}
            assert not sink.lost


async def test_a_lease_that_is_returned_is_a_goodbye(file: LeaseFile) -> None:
    for mac in ADDRESSES:
        file.give(mac)
    with clients():
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await seen(sink, PLC)
            await seen(sink, LAMP)
            file.take("10.77.0.57")
            await until(lambda: sink.lost)
            assert [(one.key, one.reason) for one in sink.lost] == [(PLC, LossReason.GOODBYE)]
            assert await discoverer.verify(sink.seen[PLC])  # it is there all the same


async def test_another_device_at_a_leased_address_is_not_the_client(file: LeaseFile) -> None:
    file.give(PLC, address="10.77.0.58")
    with clients():
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await until(lambda: discoverer.health.dropped.get("another-mac") == 1)
            assert not sink.seen


async def test_an_address_that_passes_to_another_device_is_reported_as_its(file: LeaseFile) -> None:
    file.give(PLC)
    with clients() as lan:
        async with running(leases(file)) as sink:
            await seen(sink, PLC)
            lan.hosts[0].address("10.77.0.99/24")
            lan.hosts[1].address("10.77.0.57/24")
            file.give(LAMP, address="10.77.0.57")
            lan.hosts[1].run("busybox", "ping", "-c", "1", "-W", "2", GATEWAY)
            assert (await seen(sink, LAMP)).addresses == ("10.77.0.57",)


async def test_leases_of_other_networks_and_of_no_single_device_are_left_out(
    file: LeaseFile,
) -> None:
    with clients():
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await until(lambda: discoverer._book._is_read)
            file.give(PLC, address="192.0.2.57")
            file.give("110000000001", address="10.77.0.60")
            file.give(LAMP)
            await seen(sink, LAMP)
            assert set(sink.seen) == {LAMP}
            assert discoverer.health.dropped["no-mac"] == 1


async def test_clients_are_asked_once_the_interface_has_its_address(file: LeaseFile) -> None:
    file.give(PLC)
    with clients() as lan:
        lan.address("192.0.2.1/24")
        discoverer = leases(file)
        async with running(discoverer) as sink:
            await until(lambda: discoverer._book._is_read)
            assert not sink.seen
            lan.address(f"{GATEWAY}/24")
            await seen(sink, PLC)


async def fault(discoverer: Leases) -> str:
    """Why a discoverer cannot run."""
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, want_all)
    with pytest.raises(DiscoveryRetry) as error:
        async with asyncio.timeout(60):
            await discoverer.run(context, RecordingSink())
    return str(error.value)


async def test_without_permission_it_says_what_to_do(tmp_path: Path, file: LeaseFile) -> None:
    file.give(PLC)
    tmp_path.chmod(0o700)
    kea = Leases("leases", LeaseSettings(LeaseServer.KEA, (INTERFACE,), file.path))
    with clients():
        os.seteuid(NOBODY)
        try:
            text = await fault(kea)
        finally:
            os.seteuid(0)
    assert text == (
        f"leases: {tmp_path}: no permission to read it. Let the helper join the group _kea, by the "
        "drop-in /usr/share/doc/gatewayd/examples/discovery-kea.conf"
    )


async def test_no_rights_are_needed_to_read_and_to_ask() -> None:
    with open_directory() as directory, clients():
        file = LeaseFile(directory)
        file.give(PLC)
        os.seteuid(NOBODY)
        try:
            async with running(leases(file)) as sink:
                await seen(sink, PLC)
        finally:
            os.seteuid(0)


async def test_without_a_directory_it_says_what_to_do(file: LeaseFile) -> None:
    file.path = file.path.parent / "none" / "leases"
    with clients():
        assert "there is no such directory. Start dnsmasq, or set path" in await fault(leases(file))


async def test_a_directory_in_the_place_of_the_file_is_a_fault(file: LeaseFile) -> None:
    file.path.mkdir()
    with clients():
        assert "Is a directory" in await fault(leases(file))


@given(st.text(max_size=255), st.text(max_size=255), st.sampled_from([PLC, "0" * 12, "f" * 12]))
def test_whatever_a_client_says_can_be_reported(hostname: str, vendor_class: str, mac: str) -> None:
    lease = Lease("10.77.0.57", mac, NEVER, hostname, "00" * 127, vendor_class)
    discoverer = Leases("leases", LeaseSettings(LeaseServer.ISC, (INTERFACE,)))
    assert_reportable(discoverer._found(lease))


def test_the_helper_makes_it_of_its_table(file: LeaseFile) -> None:
    settings = LeaseSettings(LeaseServer.KEA, (INTERFACE,), file.path)
    spec = spec_of("leases", "dhcp-leases", settings)
    assert spec.settings == {
        "server": "kea", "interfaces": [INTERFACE], "path": str(file.path), "max_entries": 2000,
    }  # fmt: skip
    made = make_discoverer(spec, {"dhcp-leases": Leases}.__getitem__)
    assert isinstance(made, Leases)
    assert made._settings == settings


def test_an_interface_must_be_named() -> None:
    with pytest.raises(ConfigError, match="interfaces must name at least one"):
        Leases("leases", LeaseSettings(LeaseServer.KEA, ()))


def test_what_is_sent_is_known(file: LeaseFile) -> None:
    sent = leases(file).transmissions()
    assert {(one.interface, one.to, one.every) for one in sent} == {
        (INTERFACE, "its address, port 9 by UDP", 0.0)
    }
    assert [one.occasion for one in sent] == [UNSEEN, SUSPECT]
