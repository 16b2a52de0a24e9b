"""WS-Discovery on a cable: a camera by PyPI's WSDiscovery, Debian's wsdd, and odd devices.

wsdd is in Debian 12, and not in 13: there, the camera is the only foreign program.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.presence import PresenceState
from gatewayd.discovery.protocols.ws_discovery.discoverer import (
    GROUP4,
    GROUP6,
    PORT,
    WsDiscovery,
    WsDiscoverySettings,
)
from gatewayd.discovery.protocols.ws_discovery.messages import (
    ADDRESSING,
    DISCOVERY,
    SOAP,
)
from gatewayd.testing.contracts.discoverer import DiscovererTestbed, running
from gatewayd.testing.waiting import until
from tests.support.cable import CHILD, CHILD6, INTERFACE, MOVED, Cable, laid
from tests.support.cable_device import AnsweringTestbed, CableDevice
from tests.support.household import household
from tests.support.source_contract import SourceContract

pytestmark = [pytest.mark.namespace, pytest.mark.root]

UUID = "833caecd-32b2-4ac6-9260-bb086f3c377a"
ADDRESSES = (CHILD, "10.77.0.3", "10.77.0.4")
SETTINGS = WsDiscoverySettings(interfaces=(INTERFACE,), max_entries=50)


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


@contextmanager
def camera(cable: Cable, name: str, address: str = CHILD) -> Iterator[None]:
    """Have a camera at the far end, which says goodbye at last."""
    program = str(Path(__file__).with_name("onvif_camera.py"))
    command = [*cable.prefix, sys.executable, program, UUID, name, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.communicate()


TRIES = 3


@contextmanager
def windows_host(cable: Cable, name: str, _address: str = CHILD) -> Iterator[None]:
    """Have what Debian's wsdd makes look like a host of Windows."""
    command = [*cable.prefix, "wsdd", "-4", "-i", INTERFACE, "-n", name, "-U", UUID]
    for _ in range(TRIES):
        with subprocess.Popen(command) as process:
            try:
                if not has_joined(cable):  # it has looked at the interface before that was up
                    continue
                yield
            finally:
                process.terminate()
        return
    pytest.fail("wsdd has not joined the group of WS-Discovery")


def has_joined(cable: Cable) -> bool:
    """Whether a program at the far end is in the group of WS-Discovery, soon at least."""
    shown = [*cable.prefix, "ip", "-4", "maddress", "show", "dev", INTERFACE]
    for _ in range(50):
        if GROUP4 in subprocess.run(shown, check=True, capture_output=True, text=True).stdout:
            return True
        time.sleep(0.1)
    return False


Peer = Callable[..., AbstractContextManager[None]]
PEERS: list[Peer] = [camera, *([windows_host] if shutil.which("wsdd") else [])]


async def test_a_camera_is_found_with_what_its_scopes_say(cable: Cable) -> None:
    with camera(cable, "Dock 3"):
        async with running(WsDiscovery("cameras", SETTINGS)) as sink:
            await until(lambda: sink.seen)
            (seen,) = sink.seen.values()
    assert seen.key == f"urn:uuid:{UUID}"
    assert seen.claims == {Claim("uuid", "wsd", UUID), Claim("mac", "wsd", "686dbc5cb15d")}
    assert seen.label == "Dock 3"
    assert seen.attributes == {
        "source": "ws-discovery", "interface": INTERFACE, "address": CHILD, "port": "8080",
        "wsd.path": "/onvif/device_service",
        "wsd.epr": f"urn:uuid:{UUID}", "wsd.types": "dn:NetworkVideoTransmitter", "uuid": UUID,
        "onvif.name": "Dock 3", "onvif.hardware": "DEMO-1", "model": "DEMO-1",
        "onvif.mac": "68:6d:bc:5c:b1:5d",
    }  # fmt: skip


@pytest.mark.parametrize("peer", PEERS)
async def test_a_name_an_address_and_a_restart_leave_it_the_same_child(
    cable: Cable, peer: Peer
) -> None:
    async with household(WsDiscovery("cameras", SETTINGS)) as home:
        with peer(cable, "Dock 3"):
            before = await home.shows(lambda one: one.views)
        with peer(cable, "Yard"):
            await home.shows(lambda one: one.views)
        cable.move()
        with peer(cable, "Yard", MOVED):
            after = await home.shows(
                lambda one: one.addresses == (MOVED,) and "yard" in one.label.lower()
            )
    assert not after.conflict
    assert Claim("uuid", "wsd", UUID) in before.claims & after.claims


def message(word: str, epr: str, question: bytes = b"", more: str = "") -> bytes:
    """Return what a device says: in answer to a question, if there is one."""
    asked = question.partition(b"MessageID>")[2].partition(b"<")[0].decode()
    inside = (
        f"<a:EndpointReference><a:Address>{epr}</a:Address></a:EndpointReference>{more}"
    )  # fmt: skip
    one = f"<d:{word[:-2]}>{inside}</d:{word[:-2]}>" if word.endswith("Matches") else inside
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:d="{DISCOVERY}">'
        f"<s:Header><a:RelatesTo>{asked}</a:RelatesTo></s:Header>"
        f"<s:Body><d:{word}>{one}</d:{word}></s:Body></s:Envelope>"
    ).encode()


def answering(epr: str) -> Callable[[bytes], Iterable[bytes]]:
    """Return what a device answers: twice, as the standard has it."""

    def answer(question: bytes) -> Iterable[bytes]:
        if b"<d:Probe>" in question:
            return [message("ProbeMatches", epr, question)] * 2
        return [message("ResolveMatches", epr, question)] * 2 if epr.encode() in question else ()

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
                epr = f"urn:uuid:camera-number-{number}"
                device = CableDevice(self.cable, (address, PORT), GROUP4, answering(epr))
                made[epr] = await stack.enter_async_context(device)
            stranger = made["urn:uuid:camera-number-0"]
            yield AnsweringTestbed(WsDiscovery("cameras", SETTINGS), made, stranger, forged)


def forged(question: bytes, number: int) -> bytes:
    word = ("ProbeMatches", "Hello", "Bye", "ResolveMatches")[number % 4]
    return message(word, f"urn:uuid:{'x' * (number % 40)}{number}", question)


@asynccontextmanager
async def listening(cable: Cable, address: str, port: int) -> AsyncIterator[None]:
    """Accept connections at the far end."""
    with cable.at_the_far_end():
        one = socket.create_server((address, port))

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, sock=one):
        yield


async def test_a_service_that_still_accepts_refutes_a_goodbye_and_renews_nothing(
    cable: Cable,
) -> None:
    more = f"<d:XAddrs>http://{CHILD}:8080/onvif</d:XAddrs>"
    one = WsDiscovery("cameras", SETTINGS)
    device = CableDevice(
        cable, (CHILD, PORT), GROUP4, lambda asked: [message("ProbeMatches", "uuid:x", asked, more)]
    )
    async with device, running(one) as sink:
        await until(lambda: sink.seen)
        seen = sink.seen["uuid:x"]
        device.is_silent = True
        too_old = replace(seen, at=seen.at - seen.valid_for)
        async with listening(cable, CHILD, 8080):
            answers = await asyncio.gather(one.verify(seen), one.verify(too_old))
        assert [*answers] == [seen, None]
        assert await one.verify(seen) is None


async def test_what_a_camera_says_by_ipv6_counts_too(cable: Cable) -> None:
    device = CableDevice(cable, (CHILD6, PORT), GROUP6, answering("uuid:x"))
    async with device, running(WsDiscovery("cameras", SETTINGS)) as sink:
        await until(lambda: sink.seen)
    assert sink.seen["uuid:x"].addresses == (f"{CHILD6}%{INTERFACE}",)


async def test_a_goodbye_counts_from_the_device_alone_and_is_only_a_hint(cable: Cable) -> None:
    cable.far_ip("addr", "add", f"{MOVED}/16", "dev", INTERFACE)
    one, bye = WsDiscovery("cameras", SETTINGS), message("Bye", "uuid:x")
    async with AsyncExitStack() as stack:
        device = CableDevice(cable, (CHILD, PORT), GROUP4, answering("uuid:x"))
        stranger = CableDevice(cable, (MOVED, PORT), GROUP4, lambda _: ())
        for opened in (device, stranger):
            await stack.enter_async_context(opened)
        home = await stack.enter_async_context(household(one))
        await home.shows(lambda found: found.views)
        stranger.say(bye, (GROUP4, PORT))
        await until(lambda: one.health.dropped.get("foreign-goodbye"))
        assert not one.health.lost
        device.say(bye, (GROUP4, PORT))
        await until(lambda: home.inventory.counters().get("loss-goodbye"))
        await until(lambda: home.inventory.state(*home.seen_ids) is PresenceState.PRESENT)
        assert home.only().views
