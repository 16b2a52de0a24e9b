"""SSDP on a cable: Debian's minidlna, devices that are odd, and hosts that lie."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.device_table import TWO_CLAIMANTS
from gatewayd.discovery.presence import PresenceState
from gatewayd.discovery.probing.fetch import GuardedFetcher
from gatewayd.discovery.protocols.upnp.discoverer import Ssdp, SsdpSettings
from gatewayd.discovery.protocols.upnp.ssdp import GROUP4, GROUP6, PORT, ROOT
from gatewayd.testing.contracts.discoverer import DiscovererTestbed, running
from gatewayd.testing.waiting import until
from tests.support.bridged_lan import bridged_lan
from tests.support.cable import CHILD, CHILD6, GATEWAY, INTERFACE, MOVED, Cable, laid
from tests.support.cable_device import AnsweringTestbed, CableDevice
from tests.support.household import household
from tests.support.source_contract import SourceContract

pytestmark = [pytest.mark.namespace, pytest.mark.root]

UDN = "4d696e69-444c-164e-9d41-b827eb000001"
ADDRESSES = (CHILD, "10.77.0.3", "10.77.0.4")
SETTINGS = SsdpSettings(interfaces=(INTERFACE,), max_entries=50)
GROUP = (GROUP4, PORT)
IPV4, TIME_TO_LIVE, PROTOCOL = 0x0800, 8, 9
"""The type of Ethernet frames, and the places of two octets of a header (RFC 791, 3.1)."""


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


@contextmanager
def media_server(prefix: Sequence[str], home: Path, name: str) -> Iterator[None]:
    """Have Debian's minidlna run: it says goodbye when it starts, and when it ends.

    prefix: of its command, which runs it elsewhere.
    """
    settings = {
        "port": 8200, "network_interface": INTERFACE, "media_dir": home, "db_dir": home,
        "log_dir": home, "serial": "00112277", "model_number": 7, "uuid": UDN,
        "friendly_name": name, "notify_interval": 20, "inotify": "no",
    }  # fmt: skip
    config = home / "minidlna.conf"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    command = [*prefix, "minidlnad", "-d", "-f", str(config), "-P", str(home / "pid")]
    with (
        (home / "output").open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


async def test_a_media_server_is_found_with_what_its_description_says(
    cable: Cable, tmp_path: Path
) -> None:
    one = Ssdp("media", SETTINGS)
    async with running(one) as sink:
        with media_server(cable.prefix, tmp_path, "Hall"):
            await until(lambda: UDN in sink.seen and "vendor" in sink.seen[UDN].attributes)
            seen = sink.seen[UDN]
            again = await one.verify(seen)
    assert set(sink.seen) == {UDN}
    assert seen.claims == {Claim("uuid", "upnp", UDN)}
    assert seen.label == "Hall"
    assert seen.attributes.items() >= {
        "source": "ssdp", "interface": INTERFACE, "address": CHILD, "port": "8200",
        "ssdp.path": "/rootDesc.xml", "ssdp.udn": UDN, "uuid": UDN,
        "model": "Windows Media Connect compatible (MiniDLNA)", "vendor": "Justin Maggard",
        "serial": "00112277", "upnp.name": "Hall", "upnp.model-number": "7",
        "upnp.type": "urn:schemas-upnp-org:device:MediaServer:1",
    }.items()  # fmt: skip
    assert again is not None
    assert (again.attributes, again.claims) == (seen.attributes, seen.claims)
    assert not one.health.dropped


async def test_a_name_an_address_and_a_restart_leave_it_the_same_child(
    cable: Cable, tmp_path: Path
) -> None:
    async with household(Ssdp("media", SETTINGS)) as home:
        with media_server(cable.prefix, tmp_path, "Hall"):
            before = await home.shows(lambda one: one.label == "Hall")
        cable.move()
        with media_server(cable.prefix, tmp_path, "Yard"):
            after = await home.shows(lambda one: one.label == "Yard")
    assert (before.addresses, after.addresses) == ((CHILD,), (MOVED,))
    assert not after.conflict
    assert Claim("uuid", "upnp", UDN) in before.claims & after.claims


async def test_two_media_servers_of_one_image_are_in_conflict(tmp_path: Path) -> None:
    """Each has the UUID of the other, and its own MAC."""
    with bridged_lan() as lan, ExitStack() as stack:
        for number in (2, 3):
            host = lan.host(f"00:1b:1b:34:34:0{number}", f"10.77.0.{number}/24")
            (tmp_path / host.port).mkdir()
            stack.enter_context(media_server(host.inside, tmp_path / host.port, "Hall"))
        async with household(Ssdp("media", SETTINGS)) as home:
            found = await home.shows(lambda one: one.conflict)
    assert (found.conflict, found.trust) == (TWO_CLAIMANTS, Trust.CLAIMED)


def response(udn: str, target: str = ROOT, location: str = "") -> bytes:
    name = f"uuid:{udn}" if target.startswith("uuid:") else f"uuid:{udn}::{target}"
    where = f"LOCATION: {location}\r\n" if location else ""
    return (
        f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: {target}\r\nUSN: {name}\r\n"
        f"{where}\r\n"
    ).encode()


def notify(kind: str, udn: str, target: str = ROOT, location: str = "") -> bytes:
    _, _, fields = response(udn, target, location).partition(b"\r\n")
    return f"NOTIFY * HTTP/1.1\r\nNTS: ssdp:{kind}\r\n".encode() + fields.replace(b"ST:", b"NT:")


def answering(udn: str, location: str = "") -> Callable[[bytes], Iterable[bytes]]:
    """Return what a device answers to a search: for root devices, or for itself."""

    def answer(question: bytes) -> Iterable[bytes]:
        for target in (ROOT, f"uuid:{udn}"):
            if f"ST: {target}\r\n".encode() in question:
                return (response(udn, target, location),)
        return ()

    return answer


class TestContract(SourceContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        self.cable = cable
        for address in ADDRESSES[1:]:
            cable.far_ip("addr", "add", f"{address}/16", "dev", INTERFACE)

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        async with AsyncExitStack() as stack:
            made = {}
            for number, address in enumerate(ADDRESSES):
                udn = f"device-number-{number}"
                device = CableDevice(self.cable, (address, PORT), GROUP4, answering(udn))
                made[udn] = await stack.enter_async_context(device)
            yield AnsweringTestbed(
                Ssdp("media", SETTINGS), made, made["device-number-0"], forged
            )  # fmt: skip


def forged(_: bytes, number: int) -> bytes:
    udn = f"{'x' * (number % 40)}{number}"
    said = (
        response(udn),
        response("\x1b[2J" + udn),
        notify("alive", udn, location=f"http://{GATEWAY}/"),
        notify("byebye", udn),
    )
    return said[number % len(said)]


@dataclass
class DescriptionServer:
    """A server at the far end.  udn: of the description.  requests: what came."""

    udn: str
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\n\r\n"
            b'<root xmlns="urn:schemas-upnp-org:device-1-0"><device>'
            b"<manufacturer>Acme</manufacturer><serialNumber>A-17</serialNumber>"
            b"<UDN>uuid:" + self.udn.encode() + b"</UDN></device></root>"
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def described(cable: Cable, udn: str, port: int) -> AsyncIterator[DescriptionServer]:
    """Serve a description at the far end."""
    made = DescriptionServer(udn)
    with cable.at_the_far_end():
        one = socket.create_server(("", port))
    async with await asyncio.start_server(made.serve, sock=one):
        yield made


async def test_a_device_that_answers_no_search_is_verified_by_its_description(
    cable: Cable,
) -> None:
    location = f"http://{CHILD}:8080/d.xml"
    one = Ssdp("media", SETTINGS)
    device = CableDevice(cable, (CHILD, PORT), GROUP4, lambda _: ())
    async with device, running(one) as sink, described(cable, "mute", 8080) as server:
        await until(lambda: device.asked)
        device.say(notify("alive", "mute", location=location), GROUP)
        await until(lambda: "mute" in sink.seen and "vendor" in sink.seen["mute"].attributes)
        seen = sink.seen["mute"]
        again = await one.verify(seen)
        assert again is not None
        assert again.at > seen.at
        assert (again.claims, again.attributes) == (seen.claims, seen.attributes)
        server.udn = "another"
        assert await one.verify(seen) is None
        assert one.health.dropped["description-of-another"] == 1
    assert len(server.requests) == 3


async def test_no_connection_is_made_to_where_a_stranger_points(cable: Cable) -> None:
    connected: list[object] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        writer.close()

    one, locations = Ssdp("media", SETTINGS), (
        f"http://{GATEWAY}:8080/", "http://127.0.0.1:8080/", f"http://{MOVED}:8080/",
        f"http://{CHILD}@{GATEWAY}:8080/", f"http://{CHILD}:22/", "http://[::1]:8080/",
    )  # fmt: skip
    cable.far_ip("addr", "add", f"{MOVED}/16", "dev", INTERFACE)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(await asyncio.start_server(serve, "", 8080))
        neighbour = await stack.enter_async_context(described(cable, "x", 8080))
        device = CableDevice(cable, (CHILD, PORT), GROUP4, lambda _: ())
        await stack.enter_async_context(device)
        sink = await stack.enter_async_context(running(one))
        await until(lambda: device.asked)
        for number, location in enumerate(locations):
            device.say(notify("alive", f"liar-{number}", location=location), GROUP)
        await until(lambda: sum(one.health.dropped.values()) == len(locations))
    assert len(sink.seen) == len(locations)  # the address that they came from is theirs
    assert {seen.addresses for seen in sink.seen.values()} == {(CHILD,)}
    assert one.health.dropped == {"description-elsewhere": len(locations)}
    assert not connected
    assert not neighbour.requests


async def test_what_is_fetched_stays_on_the_link(cable: Cable) -> None:
    with cable.at_the_far_end():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4))
        wire.bind((INTERFACE, IPV4))
    wire.setblocking(False)
    device = CableDevice(cable, (CHILD, PORT), GROUP4, lambda _: ())
    with wire:
        async with device, running(Ssdp("media", SETTINGS)):
            await until(lambda: device.asked)
            device.say(notify("alive", "x", location=f"http://{CHILD}:8080/"), GROUP)
            packet = b""
            while packet[PROTOCOL : PROTOCOL + 1] != bytes([socket.IPPROTO_TCP]):
                packet = await asyncio.get_running_loop().sock_recv(wire, 2000)
    assert packet[TIME_TO_LIVE] == 1


async def test_what_is_fetched_leaves_by_its_interface_alone(cable: Cable) -> None:
    connected: list[object] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 8080):
        with pytest.raises(OSError):  # noqa: PT011  # no route, or no answer in time
            await GuardedFetcher(seconds=0.3).fetch("127.0.0.1", 8080, "/", INTERFACE)
    assert not connected


async def test_a_goodbye_counts_from_the_device_alone_and_is_only_a_hint(cable: Cable) -> None:
    cable.far_ip("addr", "add", f"{MOVED}/16", "dev", INTERFACE)
    one, goodbye = Ssdp("media", SETTINGS), notify("byebye", "x")
    async with AsyncExitStack() as stack:
        device = CableDevice(cable, (CHILD, PORT), GROUP4, answering("x"))
        stranger = CableDevice(cable, (MOVED, PORT), GROUP4, lambda _: ())
        for opened in (device, stranger):
            await stack.enter_async_context(opened)
        home = await stack.enter_async_context(household(one))
        device.say(goodbye, GROUP)  # before it was ever seen, as some do when they start
        await home.shows(lambda found: found.views)
        stranger.say(goodbye, GROUP)
        await until(lambda: one.health.dropped.get("foreign-goodbye"))
        assert not one.health.lost
        device.say(goodbye, GROUP)
        await until(lambda: home.inventory.counters().get("loss-goodbye"))
        await until(lambda: home.inventory.state(*home.seen_ids) is PresenceState.PRESENT)
        assert home.only().views


async def test_all_that_a_device_announces_in_a_round_is_one_device(cable: Cable) -> None:
    one = Ssdp("media", SETTINGS)
    device = CableDevice(cable, (CHILD, PORT), GROUP4, lambda _: ())
    async with device, running(one) as sink:
        await until(lambda: device.asked)
        for udn in ("root", "part-1", "part-2"):
            for target in (ROOT, f"uuid:{udn}", "urn:schemas-upnp-org:device:X:1"):
                if udn == "root" or target != ROOT:
                    for _ in range(3):
                        device.say(notify("alive", udn, target), GROUP)
        device.say(notify("alive", "last"), GROUP)
        await until(lambda: "last" in sink.seen)
    assert set(sink.seen) == {"root", "last"}
    assert sink.sightings == 2


async def test_what_a_device_says_by_ipv6_counts_too(cable: Cable) -> None:
    location = f"http://[{CHILD6}]:8080/d.xml"
    device = CableDevice(cable, (CHILD6, PORT), GROUP6, answering("x", location))
    with cable.at_the_far_end():
        listening = socket.create_server(("::", 8080), family=socket.AF_INET6)
    server = DescriptionServer("x")
    async with (
        device,
        await asyncio.start_server(server.serve, sock=listening),
        running(Ssdp("media", SETTINGS)) as sink,
    ):
        await until(lambda: "x" in sink.seen and "vendor" in sink.seen["x"].attributes)
    assert sink.seen["x"].addresses == (f"{CHILD6}%{INTERFACE}",)
    assert f"Host: [{CHILD6}]:8080\r\n".encode() in server.requests[0]
