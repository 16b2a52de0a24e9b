"""script/soak interfaces, shortened; and devices at odd addresses, on the real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.site import MANAGER, Site, end, run
from script.soaking.interfaces import CHANGES, change_interfaces
from tests.integration.lan import CHILDREN, GATEWAY, NETWORK, namespaces

pytestmark = pytest.mark.namespace

ANNOUNCE = """
import asyncio, random, sys
from contextlib import AsyncExitStack
from gatewayd.simulator.lan.child import LanChild, mac
from gatewayd.simulator.lan.lan import SimulatedLan

async def main(segments):
    async with AsyncExitStack() as stack:
        for segment in segments:
            interface, *children = segment.split(",")
            made = [
                LanChild(f"TH-20 {tail}", f"TH20-{tail}", mac(int(tail, 16)), f"h-{tail}", address)
                for tail, address in (one.split("=") for one in children)
            ]
            await stack.enter_async_context(SimulatedLan(made, interface, rng=random.Random(1)))
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1:]))
"""
"""Announces devices: an argument for each interface, with the serials and addresses of them."""


AWAY = "192.0.2.9"
SEND = """
import socket, sys
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
child = LanChild("TH-20 00000D", "TH20-00000D", "24:0a:c4:00:00:0d", "far", "192.0.2.9")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 0))
    sender.sendto(dns.encode(records.announcement(child)), (sys.argv[2], 5353))
"""
"""Sends an announcement from one address to another."""


async def test_no_child_is_missed_whatever_happens_to_the_interface(tmp_path: Path) -> None:
    tally = await change_interfaces(tmp_path, len(CHANGES), seed=20261130)
    assert not tally.wrong
    assert set(tally.took) == set(CHANGES)


@contextlib.asynccontextmanager
async def announcing(site: Site, *segments: str) -> AsyncIterator[None]:
    """Have devices announce themselves in the children's namespace."""
    process = await asyncio.create_subprocess_exec(
        *site.children, sys.executable, "-c", ANNOUNCE, *segments, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        await end(process)


async def shown(site: Site, count: int) -> dict[str, dict[str, Any]]:
    """Return the properties of so many children by the name that they announce."""

    async def there() -> dict[str, dict[str, Any]]:
        found = {one: await site.describe(one) for one in await site.devices()}
        return found if len(found) >= count else {}

    devices = await site.until(there, f"{count} devices to be seen")
    return {str(one["Name"]): one for one in devices.values()}


@contextlib.asynccontextmanager
async def running(tmp_path: Path, *rules: str) -> AsyncIterator[Site]:
    """Yield a site without children of its own; gatewayd runs.  rules: appended to the usual."""
    options = ("--children", "0", "--interface", CHILDREN, "--address", CHILDREN,
               "--network", NETWORK)  # fmt: skip
    with namespaces() as (gateway, children):
        site = Site(tmp_path, gateway, children, "lan0", options)
        async with site.open():
            written = (tmp_path / "rules.d" / "10-sensors.toml").read_text()
            config = (tmp_path / "gatewayd.toml").read_text()
            site.configure(config, "".join((*rules, written)))
            await site.start()
            yield site


async def test_a_device_on_the_cable_is_shown_with_whatever_address_it_has(tmp_path: Path) -> None:
    by_ipv4 = (f"{CHILDREN},000001=192.168.1.200,000002=169.254.7.7,000003=203.0.113.9",)
    by_ipv6 = ("lan0,000004=fe80::7,000005=2001:db8::7",)
    async with running(tmp_path) as site, announcing(site, *by_ipv4, *by_ipv6):
        found = await shown(site, 5)
        assert {name[-1]: one["Addresses"] for name, one in found.items()} == {
            "1": ["192.168.1.200"], "2": ["169.254.7.7"], "3": ["203.0.113.9"],
            "4": ["fe80::7%lan0"], "5": ["2001:db8::7"],
        }  # fmt: skip


async def test_a_device_of_both_families_is_one_device(tmp_path: Path) -> None:
    both = (f"{CHILDREN},00000A=10.77.1.9", "lan0,00000A=fe80::a")
    async with running(tmp_path) as site, announcing(site, *both):

        async def complete() -> bool:
            (one,) = (await shown(site, 1)).values()
            return list(one["Addresses"]) == ["10.77.1.9", "fe80::a%lan0"]

        await site.until(complete, "both addresses to be shown")
        assert len(await site.devices()) == 1


async def test_rules_match_addresses_of_ipv6_with_their_interface(tmp_path: Path) -> None:
    rule = (
        '[[rule]]\nname = "this-one"\naction = "reject"\n'
        'match = { source = "mdns", subnet = "fe80::/10", address = "fe80::b%lan0" }\n'
    )
    by_ipv6 = "lan0,00000B=fe80::b,00000C=fe80::c"
    async with running(tmp_path, rule) as site, announcing(site, by_ipv6):

        async def decided() -> bool:
            found = await shown(site, 2)
            states = {name[-1]: one["State"] for name, one in found.items()}
            return states == {"B": "rejected", "C": "pending"}

        await site.until(decided, "the rule to match one of two devices")


async def test_a_listed_device_is_found_by_its_host_name_and_by_its_mac(tmp_path: Path) -> None:
    listed = """
[[discovery.static.devices]]
key = "by host"
host = "localhost"
[[discovery.static.devices]]
key = "by mac"
mac = "24:0a:c4:00:00:0e"
[[discovery.static.devices]]
key = "by serial"
serial = "PM-0042"
"""
    rule = (
        '[[rule]]\nname = "meters"\naction = "reject"\n'
        'match = { source = "static", serial = "PM-*" }\n'
    )
    options = ("--children", "0", "--interface", CHILDREN, "--address", CHILDREN,
               "--network", NETWORK)  # fmt: skip
    with namespaces() as (gateway, children):
        site = Site(tmp_path, gateway, children, "lan0", options)
        async with site.open():
            config = (tmp_path / "gatewayd.toml").read_text()
            site.configure(
                config + listed, rule + (tmp_path / "rules.d/10-sensors.toml").read_text()
            )
            neighbour = ("10.77.1.14", "lladdr", "24:0a:c4:00:00:0e", "dev", "lan0")
            await run("ip", "-n", gateway[3], "neigh", "add", *neighbour)
            await site.start()

            async def located() -> bool:
                rows = await site.call("ListDevices")
                found = {row[3]: (await site.call("DescribeDevice", "s", row[0])) for row in rows}
                where = {name: one["Addresses"]["data"] for name, one in found.items()}
                return (
                    "127.0.0.1" in where.get("by host", [])
                    and where.get("by mac") == ["10.77.1.14"]
                    and found["by serial"]["State"]["data"] == "rejected"
                )

            await site.until(located, "the listed devices to be found")


async def test_what_is_sent_to_this_host_from_another_network_is_not_believed(
    tmp_path: Path,
) -> None:
    """Such a packet may have come over a router."""
    async with running(tmp_path) as site:
        add = ("addr", "add", f"{AWAY}/32", "dev", "lan0")
        await run("ip", "-n", site.children[3], *add)
        send = (*site.children, sys.executable, "-c", SEND)

        async def refused() -> bool:
            await run(*send, AWAY, GATEWAY)  # again: what comes before the sockets is lost
            text = await site.busctl("--json=short", "get-property", *MANAGER, "Counters")
            return "mdns:dropped:off-link" in text

        await site.until(refused, "the packet to be refused")
        assert not await site.devices()
        await run(*send, CHILDREN, GATEWAY)
        assert len(await shown(site, 1)) == 1
