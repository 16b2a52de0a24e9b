"""The LAN on a real interface: a pair of them, each in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.namespace

LAN, GATEWAY = "10.88.0.1", "10.88.255.2"

PLAY = f"""
import asyncio, random, sys
from gatewayd.simulator.lan.child import fleet
from gatewayd.simulator.lan.lan import SimulatedLan

async def main():
    children = fleet(20, 1, network="10.88.1.0/24")
    async with SimulatedLan(children, {LAN!r}, rng=random.Random(1)):
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""

BROWSE = f"""
import asyncio
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

async def main():
    names = set()
    zeroconf = AsyncZeroconf(interfaces=[{GATEWAY!r}], ip_version=IPVersion.V4Only)
    browser = AsyncServiceBrowser(
        zeroconf.zeroconf,
        "_gatewayd-child._tcp.local.",
        handlers=[lambda zeroconf, service_type, name, state_change: names.add(name)],
    )
    async with asyncio.timeout(30):
        while len(names) < 20:
            await asyncio.sleep(0.05)
    await browser.async_cancel()
    await zeroconf.async_close()
    print(len(names))

asyncio.run(main())
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=240)


def python(namespace: str, script: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, sys.executable, "-c", script]


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them: of the children, and of the gateway."""
    names = (f"gwl{os.getpid()}", f"gwg{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link", "add", "lan0", "netns", names[0],
            "type", "veth", "peer", "name", "lan0", "netns", names[1],
        )  # fmt: skip
        for name, address in zip(names, (LAN, GATEWAY), strict=True):
            ip("-n", name, "address", "add", f"{address}/16", "dev", "lan0")
            ip("-n", name, "link", "set", "lan0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=240)


def test_children_on_a_real_interface_are_found(namespaces: tuple[str, str]) -> None:
    lan, gateway = namespaces
    with subprocess.Popen(
        python(lan, PLAY), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as play:
        assert play.stdout is not None
        assert play.stdin is not None
        assert play.stdout.readline() == "up\n"
        browse = subprocess.run(
            python(gateway, BROWSE), capture_output=True, text=True, timeout=240, check=True
        )
        assert browse.stdout == "20\n"
        play.stdin.close()
        assert play.wait(30) == 0
