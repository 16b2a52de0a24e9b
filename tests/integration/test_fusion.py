"""One camera that four sources show, and gatewayd as a process: one child, and who said what."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.site import POLICY, Site
from script.benchmarks.thrice import MDNS, group_socket
from tests.support.cable import CHILD, INTERFACE, Cable, laid
from tests.support.gatewayctl import ctl

pytestmark = [pytest.mark.namespace, pytest.mark.root]

UUID, MAC = "833caecd-32b2-4ac6-9260-bb086f3c377a", "68:6d:bc:5c:b1:5d"
PEER = Path(__file__).parents[1] / "discovery/peers/onvif_camera.py"
SERVICE = "_rtsp._tcp"
NAME = LanChild("Dock 3", "DS-2CD-0042", MAC, "dock-3", CHILD, "DEMO-1", 554, f"{SERVICE}.local")
DISCARD = 9
"""A port at which nothing needs to listen (RFC 863)."""
KINDS = {"ws-discovery", "mdns", "dhcp-leases", "neighbours"}
CONFIG = """\
[gateway]
state_directory = "{site.directory}/state"
[bus]
address = "{site.bus}"
[secretstore.vault]
key = "development-file"
[discovery]
settle = 0.1
[discovery.cameras]
kind = "ws-discovery"
interfaces = ["lan0"]
[discovery.mdns]
interfaces = ["lan0"]
types = ["_rtsp._tcp"]
[discovery.leases]
kind = "dhcp-leases"
server = "dnsmasq"
path = "{site.directory}/dnsmasq.leases"
interfaces = ["lan0"]
[discovery.neighbours]
kind = "neighbours"
interfaces = ["lan0"]
"""


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        one.far_ip("link", "set", INTERFACE, "address", MAC)
        yield one


@pytest.fixture
def bus(cable: Cable) -> Iterator[PrivateBus]:
    with PrivateBus(POLICY) as one:
        yield one


@contextmanager
def by_onvif(cable: Cable) -> Iterator[None]:
    """Have the camera answer ONVIF's questions."""
    command = [*cable.prefix, sys.executable, str(PEER), UUID, "Dock 3", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.communicate()


@pytest.fixture
def camera(cable: Cable) -> Iterator[None]:
    with by_onvif(cable):
        yield


@asynccontextmanager
async def by_name(cable: Cable) -> AsyncIterator[None]:
    """Have the camera announce its name again and again."""
    with cable.at_the_far_end():
        one = group_socket(MDNS, INTERFACE)

    async def announce() -> None:
        while True:
            one.sendto(dns.encode(records.announcement(NAME)), MDNS)
            await asyncio.sleep(1)

    task = asyncio.create_task(announce())
    try:
        yield
    finally:
        task.cancel()
        one.close()


@asynccontextmanager
async def gateway(bus: PrivateBus, directory: Path) -> AsyncIterator[Site]:
    """Run gatewayd, whose DHCP server has given the camera its address."""
    site = Site(directory, bus=bus.address)
    until = int(time.time()) + 3600
    lease = f"{until} {MAC} {CHILD} dock-3 01:{MAC}\n"
    (directory / "dnsmasq.leases").write_text(lease)
    site.configure(CONFIG.format(site=site), "")
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", (CHILD, DISCARD))  # as it has its lease, the kernel has found its MAC
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


async def test_a_camera_that_four_sources_show_is_one_child_and_each_is_named(
    cable: Cable, bus: PrivateBus, camera: None, tmp_path: Path
) -> None:
    async def found() -> list[dict[str, Any]]:
        rows = await site.call("ListDevices")
        seen = [await site._describe(row[0]) for row in rows]
        kinds = {said["source"] for one in seen for said in one["Sightings"]}
        return seen if kinds >= KINDS and len(seen) == 1 else []

    async with by_name(cable), gateway(bus, tmp_path) as site:
        (child,) = await site.until(found, "the camera at all four sources")
        assert len(child["Sightings"]) == len(KINDS)
        assert child["Addresses"] == [CHILD]
        assert child["Trust"] == "corroborated"
        assert child["Conflict"] == ""
        _, printed = await ctl(bus, "explain", child["Id"])
        _, facts = await ctl(bus, "--json", "explain", child["Id"])
    said = {line.split()[0]: line for line in printed.splitlines() if line.startswith("  ")}
    assert said.keys() >= KINDS
    assert "on lan0 (corroborated): " in said["ws-discovery"]
    assert "onvif.hardware=DEMO-1" in said["ws-discovery"]
    assert "txt.serial=DS-2CD-0042" in said["mdns"]
    assert "dhcp.hostname=dock-3" in said["dhcp-leases"]
    assert f"address={CHILD}" in said["neighbours"]
    shown = {one["source"]: one for one in json.loads(facts)["Sightings"]}
    assert shown.keys() == KINDS
    assert shown["ws-discovery"]["uuid"] == UUID
