"""A hostile LAN against the whole of gatewayd: only listed children are admitted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.attacker import NAMES, SERIALS
from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.site import MANAGER, Site, run
from tests.integration.lan import (
    CHILDREN,
    FORGED,
    GATEWAY,
    NETWORK,
    UPLINK,
    UPLINK_PEER,
    namespaces,
    second_cable,
)
from tests.support.monitor import watched

OBJECTS = (
    *(MANAGER[0], "/org/gatewayd1/device"),
    *("org.freedesktop.DBus.ObjectManager", "GetManagedObjects"),
)
SEND = """
import socket, sys
source, to, packet = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
    sender.bind((source, 5353))
    sender.sendto(bytes.fromhex(packet), (to, 5353))
"""
"""Sends one datagram from an address."""

pytestmark = pytest.mark.namespace

MAX_UNADMITTED, MAX_QUEUED, MAX_ENTRIES = 64, 64, 100
SPOOF_EVERY = 1.0
"""Seconds between two goodbyes in the name of a child."""
MEMORY = 160 << 20
"""Bytes that gatewayd may occupy during a flood; about 60 MiB without any traffic."""


@contextlib.asynccontextmanager
async def site(tmp_path: Path, *options: str) -> AsyncIterator[Site]:
    """Yield a site between two namespaces, with small tables; gatewayd runs."""
    layout = ("--interface", CHILDREN, "--address", CHILDREN, "--network", NETWORK, *options)
    with namespaces() as (gateway, children):
        measured = ("env", *gateway)  # with memory of its own: of what is forked, much is shared
        one = Site(tmp_path, measured, children, "lan0", layout)
        async with one.open():
            bounds = f"max_unadmitted = {MAX_UNADMITTED}\nmax_queued = {MAX_QUEUED}\n"
            config = (tmp_path / "gatewayd.toml").read_text()
            config = config.replace("[discovery]\n", f"[discovery]\n{bounds}")
            config = config.replace(
                "[discovery.mdns]\n", f"[discovery.mdns]\nmax_entries = {MAX_ENTRIES}\n"
            )
            one.configure(config, (tmp_path / "rules.d/10-sensors.toml").read_text())
            await one.start()
            yield one


def texts(value: object) -> Iterator[str]:
    """Yield every text that a message holds."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for one in pair for text in texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts(one))


def stranger_like(serial: str) -> LanChild:
    """A stranger that announces what a listed child would announce."""
    return LanChild(name(serial), serial, "24:0a:c4:00:00:01", "spoofed", "10.77.1.200")


async def counters(one: Site) -> dict[str, int]:
    shown = await one.busctl("--json=short", "get-property", *MANAGER, "Counters")
    return dict(json.loads(shown)["data"])


async def until_counted(one: Site, counter: str, least: int = 1) -> None:
    async def enough() -> bool:
        return (await counters(one)).get(counter, 0) >= least

    await one.until(enough, f"{counter} to be {least}")


async def until_probed(one: Site, children: Sequence[str], least: int) -> None:
    """Spoof goodbyes until so many probes were answered.

    A child that is asked for its names at that moment, as all are from time to time, says that it
    is there before it is probed.
    """

    async def enough() -> bool:
        for child in children:
            await one.ask(do="spoof_goodbye", child=child)
        await asyncio.sleep(SPOOF_EVERY)
        return (await counters(one)).get("probes-answered", 0) >= least

    await one.until(enough, f"{least} probes to be answered")


async def issued(one: Site) -> dict[str, int]:
    """How many secrets the cloud has issued to whom."""
    truth = await one.ask(do="truth")
    ledgers = truth["cloud"]["devices"][one.plant["product"]]
    return {child: len(ledger["secrets_sha256"]) for child, ledger in ledgers.items()}


async def states(one: Site) -> dict[str, str]:
    """Return the state of each child by its name, in one call: a child may leave between two."""
    return {row[3]: row[1] for row in await one.call("ListDevices")}


def name(serial: str) -> str:
    return f"TH-20 {serial.removeprefix('TH20-')}"


async def until_all(one: Site, state: str, *children: str) -> None:
    async def reached() -> bool:
        shown = await states(one)
        return all(shown.get(name(child)) == state for child in children)

    await one.until(reached, f"{', '.join(children)} to be {state}")


async def online(one: Site, *children: str) -> dict[str, str]:
    """Return the ids of children, once all are online: others may take their names later."""
    await until_all(one, "online", *children)
    return {row[3]: row[0] for row in await one.call("ListDevices")}


async def were_never_offline(one: Site, *ids: str) -> bool:
    """Whether children have stayed online ever since they came online."""
    histories = [
        (await one.call("DescribeDevice", "s", one_id))["History"]["data"] for one_id in ids
    ]
    states = [[step[2] for step in history] for history in histories]
    return all(seen[-1] == "online" and "offline" not in seen for seen in states)


def resident(one: Site) -> int:
    """Bytes of memory that gatewayd and its discovery helper occupy."""
    assert one.daemon is not None
    pid = one.daemon.pid
    helpers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    statuses = [Path(f"/proc/{each}/status").read_text() for each in (pid, *helpers)]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in statuses) * 1024


async def test_only_listed_children_are_admitted_and_each_once(tmp_path: Path) -> None:
    async with site(tmp_path, "--children", "3", "--late", "2", "--unlisted", "1") as one:
        *here, late, stranger = one.plant["serials"]
        ids = await online(one, *here)
        async with watched(one) as messages:
            await one.ask(do="hostile_text", child=here[0])
            await one.ask(do="hostile_text", child=late)
            await until_counted(one, "mdns:dropped:bad-name", 2)
            await until_counted(one, "mdns:sighted", len(NAMES) + len(SERIALS))
            await one.ask(do="clone", child=here[1])
            await one.ask(do="replay", child=here[2], count=100, rate=500)
            await until_probed(one, here, 3)
            await until_counted(one, "loss-goodbye", 3)
            await one.ask(do="attack", kind="impersonate", count=1000, rate=500, forge=FORGED)
            await until_counted(one, "devices-evicted", 500)
            assert await issued(one) == dict.fromkeys(here, 1) | {late: 0, stranger: 0}
            await one.ask(do="announce", child=late)
            await until_all(one, "online", late)
            await one.ask(do="announce", child=stranger)
            await until_all(one, "pending", stranger)
            objects = json.loads(await one.busctl("--json=short", "call", *OBJECTS))
        assert await were_never_offline(one, *ids.values())
        assert await issued(one) == dict.fromkeys([*here, late], 1) | {stranger: 0}
        said = [text for message in (*messages, objects) for text in texts(message)]
        assert len(said) > 1000
        assert [text for text in said if not text.isprintable()] == []
        assert [line for line in one.log().split("\n") if not line.isprintable()] == []
        await is_bounded(one)
        assert await one.stop() == 0


async def is_bounded(one: Site) -> None:
    counted = await counters(one)
    assert counted["mdns:entries"] <= MAX_ENTRIES
    assert counted["sighting-queue"] <= MAX_QUEUED
    assert counted["devices"] <= MAX_UNADMITTED + len(one.plant["serials"])
    assert resident(one) < MEMORY


async def test_who_takes_the_name_of_an_online_child_does_not_take_it_offline(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, "--children", "2") as one:
        child, other = one.plant["serials"]
        ids = await online(one, child, other)
        number = await one.ask(do="usurp", child=child, serial=other)
        for _ in range(3):
            await one.ask(do="spoof_goodbye", child=child)
            await one.ask(do="replay", number=number, count=200, rate=200)
        await until_counted(one, "conflicts")
        await one.ask(do="unplug", number=number)
        await until_counted(one, "probes-answered", 2)
        assert await were_never_offline(one, *ids.values())
        assert await issued(one) == {child: 1, other: 1}


async def test_a_flood_and_goodbyes_together_take_none_offline(tmp_path: Path) -> None:
    async with site(tmp_path, "--children", "3") as one:
        here = one.plant["serials"]
        ids = await online(one, *here)
        kinds = {"do": "attack", "kind": "impersonate", "count": 12_000, "rate": 2000}
        flood = asyncio.create_task(one.ask(**kinds))
        while not flood.done():
            for child in here:
                await one.ask(do="spoof_goodbye", child=child)
            await asyncio.sleep(0.5)
        assert await flood == kinds["count"]
        await until_counted(one, "mdns:dropped:sender-flood")
        await until_all(one, "online", *here)
        assert await were_never_offline(one, *ids.values())
        await is_bounded(one)


async def test_a_host_that_is_not_on_the_link_is_not_seen(tmp_path: Path) -> None:
    """A second cable, as to an uplink: what comes over it is not taken for the LAN's."""
    async with site(tmp_path, "--children", "1", "--late", "1") as one:
        child, away = one.plant["serials"]
        await until_all(one, "online", child)
        second_cable(one.gateway[-1], one.children[-1])
        packet = dns.encode(records.announcement(stranger_like(away)))
        for to in (UPLINK, GATEWAY, "224.0.0.251"):
            await run(*one.children, sys.executable, "-c", SEND, UPLINK_PEER, to, packet.hex())
        await one.ask(do="attack", kind="impersonate", count=1, rate=100)

        async def one_more() -> bool:
            return len(await states(one)) > 1

        await one.until(one_more, "a host on the link to be seen")
        assert name(away) not in await states(one)
