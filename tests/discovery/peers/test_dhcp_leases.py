"""The clients of dnsmasq and of Kea, which busybox's DHCP client plays on a LAN of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.discoverer import (
    Context,
    Discoverer,
    Health,
    LossReason,
    Sighting,
    Sink,
)
from gatewayd.discovery.kernel.neighbour_source import KernelNeighbours, NeighbourSettings
from gatewayd.discovery.kernel.neighbours import NeighbourTable
from gatewayd.discovery.leases.discoverer import Leases, LeaseSettings
from gatewayd.discovery.leases.servers import LeaseServer
from gatewayd.testing.contracts.discoverer import running
from gatewayd.testing.waiting import until
from tests.support import bridged_lan as support
from tests.support.bridged_lan import INTERFACE, BridgedLan, LanHost, bridged_lan
from tests.support.household import household
from tests.support.tasks import in_background

pytestmark = pytest.mark.namespace

MAC, OTHER = "001b1b3434cb", "10.77.0.90"
LEASED, SEEN = Claim("mac", "dhcp-leases", MAC), Claim("mac", "l2", MAC)
SCRIPT = """#!/bin/sh
case $1 in bound|renew)
    ip addr flush dev "$interface" scope global
    ip addr add "$ip/24" dev "$interface"
esac
"""
"""What the client runs when it has a lease."""


@dataclass(frozen=True)
class Peer:
    """A server.  command: to run it.  environ: of it.  path: of its lease file."""

    server: LeaseServer
    path: Path
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


def dnsmasq(directory: Path) -> Peer:
    path = directory / "dnsmasq.leases"
    return Peer(LeaseServer.DNSMASQ, path, [
        "dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--user=root",
        f"--interface={INTERFACE}", "--bind-interfaces", "--no-ping",
        "--dhcp-range=10.77.0.50,10.77.0.99,2m", f"--dhcp-leasefile={path}", "--pid-file=",
    ])  # fmt: skip


def kea(directory: Path) -> Peer:
    path, config = directory / "kea-leases4.csv", directory / "kea.json"
    config.write_text(json.dumps({"Dhcp4": {
        "interfaces-config": {"interfaces": [INTERFACE]},
        "lease-database": {"type": "memfile", "name": str(path)},
        "valid-lifetime": 120,
        "subnet4": [{"id": 1, "subnet": "10.77.0.0/24",
                     "pools": [{"pool": "10.77.0.50-10.77.0.99"}]}],
    }}))  # fmt: skip
    environ = {"KEA_PIDFILE_DIR": str(directory), "KEA_LOCKFILE_DIR": "none"}
    return Peer(LeaseServer.KEA, path, ["kea-dhcp4", "-c", str(config)], environ)


MakePeer = Callable[[Path], Peer]


class Client:
    """A device that asks for its address by DHCP.  host: it.  directory: for what it needs."""

    def __init__(self, host: LanHost, directory: Path) -> None:
        self.host, self._script = host, directory / "bound.sh"
        self._script.write_text(SCRIPT)
        self._script.chmod(0o755)

    def command(self, name: str, *more: str) -> Sequence[str]:
        """Return what asks for an address under a name; the server may be about to start."""
        return ("busybox", "udhcpc", "-i", INTERFACE, "-n", "-f", "-t", "20", "-T", "1", "-A", "1",
                "-s", str(self._script), "-x", f"hostname:{name}", *more)  # fmt: skip

    async def ask(self, name: str, *more: str) -> None:
        """Ask for an address."""
        await asyncio.to_thread(self.host.run, *self.command(name, "-q", *more))


@contextmanager
def served(peer: Peer) -> Iterator[BridgedLan]:
    """A gateway where a server runs, and a cable that stays plugged in."""
    with bridged_lan() as lan:
        lan.host("24:0a:c4:00:00:01", "10.77.0.9/24")
        with support.running(peer.command, peer.environ):
            yield lan


class SeveralSources:
    """A discoverer that is several."""

    def __init__(self, *sources: Discoverer) -> None:
        self.name, self.health = "several", Health()
        self._sources = {one.name: one for one in sources}

    async def run(self, context: Context, sink: Sink) -> None:
        async with asyncio.TaskGroup() as group:
            for one in self._sources.values():
                group.create_task(one.run(context, sink))

    async def verify(self, sighting: Sighting) -> Sighting | None:
        return await self._sources[sighting.source.partition("/")[0]].verify(sighting)

    async def rescan(self) -> None:
        for one in self._sources.values():
            await one.rescan()


def leases_of(peer: Peer) -> Leases:
    return Leases("leases", LeaseSettings(peer.server, (INTERFACE,), peer.path))


@pytest.mark.parametrize("make", [dnsmasq, kea])
async def test_a_renamed_renumbered_and_restarted_client_stays_one(
    tmp_path: Path, make: MakePeer
) -> None:
    peer = make(tmp_path)
    with served(peer) as lan:
        client = Client(lan.host("00:1b:1b:34:34:cb"), tmp_path)
        async with household(leases_of(peer)) as home:
            await client.ask("plc-4")
            first = await home.shows(lambda one: one.label == "plc-4", LEASED)
            await client.ask("plc-5")
            await home.shows(lambda one: one.label == "plc-5", LEASED)
            await client.ask("plc-5", "-C", "-x", "0x3d:00706c63", "-r", OTHER)  # and client-id
            await home.shows(lambda one: OTHER in one.addresses, LEASED)
            lan.hosts[1].run("ip", "link", "set", INTERFACE, "down")
            lan.hosts[1].run("ip", "link", "set", INTERFACE, "up")
            await client.ask("plc-6")
            await home.shows(lambda one: one.label == "plc-6", LEASED)
            assert len(home.seen_ids) == 1
            assert OTHER not in first.addresses

        source = leases_of(peer)
        async with running(source) as sink:  # gatewayd, started again: by the files, and the kernel
            await until(lambda: MAC in sink.seen)
            lan.hosts[1].switch_off()
            assert await source.verify(sink.seen[MAC]) is None


async def test_a_client_that_is_a_neighbour_too_is_one_child(tmp_path: Path) -> None:
    peer = dnsmasq(tmp_path)
    with served(peer) as lan:
        client = Client(lan.host("00:1b:1b:34:34:cb"), tmp_path)
        neighbours = KernelNeighbours("neighbours", NeighbourSettings((INTERFACE,)))
        async with household(SeveralSources(leases_of(peer), neighbours)) as home:
            await client.ask("plc-4")
            found = await home.shows(lambda one: len(one.views) == 2, SEEN)
            assert {one["source"] for one in found.views} == {"dhcp-leases", "neighbours"}
            assert LEASED in found.claims
            assert found.trust is Trust.CORROBORATED


async def test_what_the_server_says_is_corroborated_by_gatewayds_own_look_at_the_kernel(
    tmp_path: Path,
) -> None:
    peer = dnsmasq(tmp_path)
    with served(peer) as lan:
        client, kernel = Client(lan.host("00:1b:1b:34:34:cb"), tmp_path), NeighbourTable()
        leases = leases_of(peer)
        async with in_background(kernel.run()), running(leases) as sink:
            await client.ask("plc-4")
            await until(lambda: MAC in sink.seen)
            assert sink.seen[MAC].trust is Trust.CLAIMED  # a file, read by the helper
            assert await leases.verify(sink.seen[MAC])  # so that the kernel knows it
            await until(lambda: kernel.mac_of(sink.seen[MAC].addresses[0], INTERFACE) == MAC)
            assert kernel.corroborate(sink.seen[MAC]).trust is Trust.CORROBORATED


@pytest.mark.parametrize("make", [dnsmasq, kea])
async def test_a_released_lease_is_a_goodbye(tmp_path: Path, make: MakePeer) -> None:
    peer = make(tmp_path)
    with served(peer) as lan:
        client = Client(lan.host("00:1b:1b:34:34:cb"), tmp_path)
        leases = leases_of(peer)
        async with running(leases) as sink:
            command = [*client.host.inside, *client.command("plc-4", "-R")]
            with support.running(command) as asking:
                await until(lambda: MAC in sink.seen)
                asking.terminate()  # it releases its lease
                await asyncio.to_thread(asking.wait)
            await until(lambda: sink.lost)
            assert [(one.key, one.reason) for one in sink.lost] == [(MAC, LossReason.GOODBYE)]
