"""EtherNet/IP on a cable: the contract, and a simulated controller of cpppo that moves."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.device.identity import KERNEL, Claim
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.protocols.ethernet_ip.discoverer import EthernetIp, EthernetIpSettings
from gatewayd.discovery.protocols.ethernet_ip.messages import PORT
from gatewayd.discovery.resolver import MOVED_OR_CLONED
from gatewayd.testing.contracts.discoverer import (
    DiscovererTestbed,
    running,
)
from gatewayd.testing.waiting import PATIENCE, until
from tests.support.cable import BROADCAST, CHILD, INTERFACE, MOVED, Cable, laid
from tests.support.cable_device import AnsweringTestbed, CableDevice
from tests.support.cable_peer import CablePeer
from tests.support.household import household
from tests.support.source_contract import SourceContract

pytestmark = [pytest.mark.namespace, pytest.mark.root]

TOP = Path(__file__).parents[3]
CPPPO = (str(TOP / ".venv-peers/bin/python"), "-m", "cpppo.server.enip")
OTHER, STRANGER = "10.77.0.3", "10.77.0.66"
LIMIT = AnsweringTestbed.limit
LIST_IDENTITY = b"\x63\0"
CONTEXT = b"[token!]"
"""Where the context of the question is put."""


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


def discoverer() -> EthernetIp:
    return EthernetIp("field", EthernetIpSettings((INTERFACE,), max_entries=LIMIT), gap=0.1)


def identity(serial: int, context: bytes, vendor: int = 5) -> bytes:
    about = struct.pack("<H16xHHHBBHIB", 1, vendor, 12, 58, 4, 3, 48, serial, 6) + b"Widget\3"
    body = struct.pack("<HHH", 1, 0x0C, len(about)) + about
    return struct.pack("<HHII8sI", 0x63, len(body), 0, 0, context, 0) + body


def answering(*serials: int, vendor: int = 5) -> Callable[[bytes], Iterable[bytes]]:
    """Return what answers as several devices at one address."""
    return lambda question: [identity(one, question[12:20], vendor) for one in serials]


class TestContract(SourceContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        for address in (OTHER, STRANGER):
            cable.far_ip("addr", "add", f"{address}/16", "dev", INTERFACE)
        self.cable = cable

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        async with AsyncExitStack() as stack:

            async def device(address: str, *serials: int) -> CableDevice:
                made = CableDevice(self.cable, (address, PORT), BROADCAST, answering(*serials))
                return await stack.enter_async_context(made)

            rack = await device(OTHER, 2, 3)
            devices = {"5 00a1b2c3": await device(CHILD, 0xA1B2C3), "5 00000002": rack,
                       "5 00000003": rack}  # fmt: skip
            yield AnsweringTestbed(
                discoverer(), devices, await device(STRANGER),
                lambda question, number: identity(number << 8, question[12:20]),
            )  # fmt: skip


class Controller(CablePeer):
    """A controller that cpppo simulates, in a directory of its own."""

    def __init__(self, cable: Cable, directory: Path) -> None:
        super().__init__(cable)
        self._directory = directory

    async def run(self, serial: int | None, product: str, *options: str) -> None:
        """Start it, or start it again: with its default identity, if it has no serial number."""
        given = f"Serial Number = {serial}\n" if serial is not None else ""
        text = f"[Identity]\nProduct Name = {product}\n{given}"
        (self._directory / "cpppo.cfg").write_text(text)
        place = ("-a", f"0.0.0.0:{PORT}")
        await self.start(*CPPPO, *place, *options, "SPEED=INT[1]", cwd=self._directory)


@pytest.fixture
async def controller(cable: Cable, tmp_path: Path) -> AsyncIterator[Controller]:
    async with Controller(cable, tmp_path) as made:
        yield made


async def test_a_controller_stays_one_child_renamed_restarted_and_elsewhere(
    cable: Cable, controller: Controller
) -> None:
    await controller.run(0x00C0FFEE, "Line 1")
    async with household(discoverer()) as home:
        first = await home.shows(lambda one: one.label == "Line 1")
        assert Claim("serial", "enip.1", "00c0ffee") in first.claims
        (view,) = first.views
        assert view["enip.device-type"] == "14"
        assert view["address"] == CHILD

        await controller.run(0x00C0FFEE, "Line 2")
        await home.shows(lambda one: one.label == "Line 2")

        cable.move()
        await controller.run(0x00C0FFEE, "Line 2")
        last = await home.shows(lambda one: MOVED in one.addresses)
        assert not last.conflict
        assert last.views[0]["model"] == "Line 2"


@pytest.fixture
async def silent(cable: Cable) -> AsyncIterator[CableDevice]:
    """Yield a device that answers by UDP until it is silent."""
    async with CableDevice(cable, (CHILD, PORT), BROADCAST, answering(0xC0FFEE, vendor=1)) as one:
        yield one


@pytest.fixture
async def known(silent: CableDevice) -> AsyncIterator[tuple[EthernetIp, Sighting]]:
    """Yield a discoverer, and what it has seen of a device that is silent now."""
    made = discoverer()
    async with running(made) as sink:
        await until(lambda: sink.seen)
        silent.is_silent = True
        yield made, sink.seen["1 00c0ffee"]


async def test_a_device_that_answers_by_tcp_alone_is_verified(
    controller: Controller, known: tuple[EthernetIp, Sighting]
) -> None:
    made, sighting = known
    await controller.run(0x00C0FFEE, "Line 1", "--no-udp")
    async with asyncio.timeout(60):
        while (found := await made.verify(sighting)) is None:
            pass  # it is starting
    assert found.claims == sighting.claims
    assert (found.key, found.label) == ("1 00c0ffee", "Line 1")


@asynccontextmanager
async def tcp_server(cable: Cable, answer: bytes) -> AsyncIterator[list[bytes]]:
    """Yield what a server at the far end receives of each connection, which it answers once."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read(1000)
        writer.write(answer.replace(CONTEXT, question[12:20]))
        came.append(question + await reader.read())
        writer.close()

    with cable.at_the_far_end():
        sock = socket.create_server((CHILD, PORT))
    async with await asyncio.start_server(serve, sock=sock):
        yield came


async def test_by_tcp_one_question_is_sent_and_nothing_else(
    cable: Cable, known: tuple[EthernetIp, Sighting]
) -> None:
    made, sighting = known
    async with tcp_server(cable, identity(0xC0FFEE, CONTEXT, vendor=1)) as came:
        assert await made.verify(sighting) is not None
        await until(lambda: came)
    (question,) = came
    assert (len(question), question[:12]) == (24, LIST_IDENTITY + bytes(10))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="it-never-answers"),
        pytest.param(identity(0xC0FFEF, CONTEXT, vendor=1), id="another-device"),
        pytest.param(b"\x63\0\xff\xff" + bytes(20) + b"x" * 70000, id="too-long"),
    ],
)
async def test_what_is_no_answer_by_tcp_verifies_nothing(
    cable: Cable, known: tuple[EthernetIp, Sighting], answer: bytes
) -> None:
    made, sighting = known
    async with tcp_server(cable, answer), asyncio.timeout(PATIENCE):
        assert await made.verify(sighting) is None


async def test_no_device_is_sent_anything_but_the_one_question(
    silent: CableDevice, known: tuple[EthernetIp, Sighting]
) -> None:
    made, sighting = known
    await made.verify(sighting)
    assert len(silent.asked) >= 3
    assert {(len(question), question[:12]) for question, _ in silent.asked} == {
        (24, LIST_IDENTITY + bytes(10))
    }


def second_host(cable: Cable) -> None:
    """Have a host at the far end with a MAC of its own, at OTHER."""
    cable.far_ip("link", "set", INTERFACE, "address", "00:22:d1:00:00:11")
    cable.far_ip("link", "add", "link", INTERFACE, "name", "other", "address", "00:22:d1:00:00:99",
                 "type", "macvlan", "mode", "bridge")  # fmt: skip
    own_address_alone = ("net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
    subprocess.run([*cable.prefix, "sysctl", "-qw", *own_address_alone], check=True)
    cable.far_ip("addr", "add", f"{OTHER}/32", "dev", "other")
    cable.far_ip("link", "set", "other", "up")
    cable.far_ip("rule", "add", "from", OTHER, "lookup", "77")
    cable.far_ip("route", "add", "10.77.0.0/16", "dev", "other", "table", "77")


@pytest.fixture
def two_hosts(cable: Cable) -> Cable:
    second_host(cable)
    return cable


async def test_a_host_that_shows_the_serial_number_of_another_is_in_conflict_with_it(
    two_hosts: Cable,
) -> None:
    genuine, other = (
        CableDevice(two_hosts, (place, PORT), BROADCAST, answering(0xC0FFEE))
        for place in (CHILD, OTHER)
    )
    async with genuine, household(discoverer()) as home:
        await home.shows(lambda one: any(claim.namespace == KERNEL for claim in one.claims))
        async with other:
            shown = await home.shows(lambda one: one.conflict)
    assert shown.conflict == MOVED_OR_CLONED


async def test_what_every_simulator_shows_identifies_nothing(controller: Controller) -> None:
    await controller.run(None, "Simulated")
    async with household(discoverer()) as home:
        shown = await home.shows(lambda one: one.label == "Simulated")
        assert not [one for one in shown.claims if one.kind == "serial"]
