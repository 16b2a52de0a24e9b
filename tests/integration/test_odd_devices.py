"""Devices that are odd are seen by the real daemon, over real multicast; what is refused is shown.

What comes is recorded, and played again: a report of a fault is a recording, and that is a test.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild, fleet
from gatewayd.simulator.site import Site, run
from tests.integration.lan import CHILDREN, NETWORK, namespaces
from tests.support.gatewayctl import GATEWAYCTL

pytestmark = pytest.mark.namespace

RECORDING = Path(__file__).parent / "recordings/odd-devices.jsonl"
"""What the devices of this module announce, recorded with --anonymous --keep model."""

NAMES = (
    "Lamp.", ".Lamp", "Lamp..2", " ", "Lamp\u00a03", "Lamp 3", "\U0001f469\u200d\U0001f52c",
    "Lamp\0", "Lamp\r\n", "Lamp\x1b[2J", r"Lamp\x00", "\u202eLamp",
)  # fmt: skip
TEXTS: Sequence[tuple[tuple[str, str], ...]] = (
    tuple((f"key{number}", "1") for number in range(40)),
    (("k" * 33, "1"), ("fw", "1")),
    (("fw", "1.4\0"), ("hw", "B\r\n")),
    (("cut", "1.4.2"),),
)
"""What is odd in TXT records; the last string of the last one is cut."""

ADDED = "10.99.0.1/24"
"""An address that the gateway has for a moment."""

SEND = """
import json, socket, sys
for source, packet in json.load(sys.stdin):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
        sender.bind((source, 5353))
        sender.sendto(bytes.fromhex(packet), ("224.0.0.251", 5353))
"""
"""Sends datagrams, each from its own address."""


def odd_children() -> Sequence[LanChild]:
    """The devices: each is odd in one way."""
    plain = fleet(len(NAMES) + len(TEXTS), 7, network="10.77.1.128/25")
    named = [replace(one, instance=name) for one, name in zip(plain, NAMES, strict=False)]
    texts = [replace(one, extra=text) for one, text in zip(plain[len(NAMES) :], TEXTS, strict=True)]
    return [*named, *texts]


def announcements() -> list[tuple[str, bytes]]:
    packets = [(one.address, dns.encode(records.announcement(one))) for one in odd_children()]
    address, last = packets[-1]
    assert b"\x09cut=1.4.2" in last
    packets[-1] = (address, last.replace(b"\x09cut=1.4.2", b"\x19cut=1.4.2"))
    return packets


def pointer(instance: bytes) -> bytes:
    """The announcement of a name alone."""
    owner = dns.name("_gatewayd-child._tcp.local")
    record = dns.DnsRecord(owner, dns.PointerData((instance, *owner)), ttl=4500)
    return dns.encode(dns.DnsMessage(answers=(record,), flags=dns.RESPONSE))


@contextlib.asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Yield a site between two namespaces, without children of its own; gatewayd runs."""
    layout = ("--children", "0", "--interface", CHILDREN, "--address", CHILDREN,
              "--network", NETWORK)  # fmt: skip
    with namespaces() as (gateway, children):
        one = Site(tmp_path, gateway, children, "lan0", layout)
        async with one.open():
            await one.start()
            yield one


async def send(one: Site, packets: Sequence[tuple[str, bytes]]) -> None:
    words = (*one.children, sys.executable, "-c", SEND, CHILDREN)
    sender = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE)
    await sender.communicate(json.dumps([(a, p.hex()) for a, p in packets]).encode())
    assert sender.returncode == 0


async def shown(one: Site) -> list[str]:
    """The names of the devices that are shown."""
    return [row[3] for row in await one.call("ListDevices")]


async def until_shown(
    one: Site, number: int, packets: Sequence[tuple[str, bytes]] = ()
) -> Sequence[str]:
    """Send packets again and again until so many devices are shown; return their names."""

    async def all_there() -> Sequence[str]:
        if packets:
            await send(one, packets)
        found = await shown(one)
        return found if len(found) >= number else ()

    found: Sequence[str] = await one.until(all_there, f"{number} devices to be shown")
    return found


async def ctl(one: Site, *words: str) -> str:
    return await run(*GATEWAYCTL, "--bus", one.bus, *words)


async def refused(one: Site) -> list[Mapping[str, Any]]:
    printed = await ctl(one, "--json", "discover", "--refused")
    return [json.loads(line) for line in printed.splitlines()]


async def test_what_is_odd_is_shown_and_what_is_refused_is_listed(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        odd = announcements()
        names = await until_shown(one, len(odd), odd)
        assert len(names) == len(odd)
        printed = await ctl(one, "list")
        assert all(line.isprintable() for line in printed.splitlines())
        assert all(line.isprintable() for line in one.log().splitlines())
        ids = [row[0] for row in await one.call("ListDevices")]
        facts = [await one.call("DescribeDevice", "s", id_) for id_ in ids]
        serials = {one_of["Identity"]["data"] for one_of in facts}
        assert len(serials) == len(odd)

        refusable = [("10.77.1.9", pointer(b"\xff\xfe")), ("10.77.1.10", pointer(b"Silent"))]

        async def both() -> bool:
            await send(one, refusable)  # again and again: a datagram may be lost
            return {"bad-name", "unresolved"} <= {row[5] for row in await one.call("ListRefused")}

        await one.until(both, "both to be refused")
        found = {row["Cause"]: row for row in await refused(one)}
        silent, bad = found["unresolved"], found["bad-name"]
        assert (silent["Sender"], silent["Name"]) == ("10.77.1.10", "Silent")
        assert (bad["Sender"], bad["Interface"], bad["Discoverer"]) == (
            "10.77.1.9", "lan0", "mdns",
        )  # fmt: skip
        assert bad["Name"].startswith(r"\ufffd")
        assert all(row["Explanation"] for row in found.values())
        report = json.loads(await ctl(one, "dump"))
        assert {"bad-name", "unresolved"} <= {row["cause"] for row in report["refused"]}


async def record(one: Site, file: Path, *options: str) -> Mapping[str, Any]:
    """Record what the odd devices announce; return what the command says of it."""
    words = ("discover", "6", "--record", str(file), "--listen", *options)
    recording = asyncio.create_task(ctl(one, "--json", *words))

    async def begun() -> bool:
        return file.exists() and b'"interface"' in await asyncio.to_thread(file.read_bytes)

    await one.until(begun, "the recording to begin")
    await run("ip", "-n", one.gateway[3], "address", "add", ADDED, "dev", "lan0")
    for _ in range(3):  # a datagram may be lost
        await send(one, announcements())
    await run("ip", "-n", one.gateway[3], "address", "delete", ADDED, "dev", "lan0")
    said: Mapping[str, Any] = json.loads(await recording)
    return said


async def replay(one: Site, file: Path) -> str:
    words = ("--replay", str(file), "--on", "lan0", "--speed", "3", "--gateway", one.gateway[3])
    return await run(*one.children, sys.executable, "-m", "gatewayd.simulator", *words)


async def played(one: Site, file: Path, number: int) -> Sequence[str]:
    """Play a recording; return the names that are shown once there are so many."""
    parts = [part.split(" ", 1) for part in (await replay(one, file))[:-1].split(", ")]
    counts = {name: count for count, name in parts}
    assert int(counts["sent"]) >= number
    changes = changes_of(await asyncio.to_thread(file.read_text))
    assert changes >= 2, "an address came, and went"
    assert (counts["applied"], counts.get("failed")) == (str(changes), None)
    found = sorted(await shown(one))
    return found if len(found) >= number else ()


async def test_what_comes_is_recorded_and_played(tmp_path: Path) -> None:
    odd = announcements()
    open_file, anonymous = tmp_path / "open", tmp_path / "anonymous"
    async with site(tmp_path / "first") as one:
        before = sorted(await until_shown(one, len(odd), odd))
        said = await record(one, open_file)
        assert (said["Lost"], said["Reason"]) == (0, "time")
        assert said["Events"] >= len(odd)
        await record(one, anonymous, "--anonymous", "--keep", "model")
    async with site(tmp_path / "second") as one:
        assert (
            await one.until(partial(played, one, open_file, len(odd)), "all to be shown") == before
        )
    text = anonymous.read_text()
    assert "10.77.1.1" not in text
    assert not any(child.serial.partition("-")[2].encode() in data for child in odd_children()
                   for data in datagrams(text))  # fmt: skip


def changes_of(recorded: str) -> int:
    """Return how many addresses have come or gone in a recording."""
    lines = [json.loads(line) for line in recorded.splitlines()]
    own = [set(one["addresses"].split()) for one in lines if one["kind"] == "interface"]
    return sum(len(before ^ after) for before, after in pairwise(own))


def datagrams(text: str) -> list[bytes]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [base64.b64decode(one["data"]) for one in lines if one["kind"] == "datagram"]


async def test_a_recording_of_odd_devices_shows_as_many(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        number = len(announcements())
        names = await one.until(partial(played, one, RECORDING, number), "all to be shown")
        assert len(names) == number
        assert all(map(str.isprintable, names))


async def test_what_came_over_ipv6_is_played_too(tmp_path: Path) -> None:
    child = fleet(1, 3, network="10.77.1.0/24")[0]
    data = base64.b64encode(dns.encode(records.announcement(child))).decode()
    about = {"kind": "datagram", "interface": "lan0", "port": 5353, "data": data}
    file = tmp_path / "recording"
    lines = [
        {"at": 0, "kind": "recording", "version": 1},
        {"at": 0.1, "sender": "fe80::260a:c4ff:fe00:1%lan0", **about},
        {"at": 0.2, "sender": "2001:db8::7", **about, "port": 40_000},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with site(tmp_path / "site") as one:

        async def there() -> Sequence[str]:
            assert "2 sent, 0 left out" in await replay(one, file)
            return await shown(one)

        assert await one.until(there, "the device to be shown") == [child.instance]
