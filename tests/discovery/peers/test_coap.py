"""CoAP on a cable: the contract, libcoap's server and directory, and aiocoap's directory."""

from __future__ import annotations

import asyncio
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.protocols.coap.discoverer import GROUPS, PORT, Coap, CoapSettings
from gatewayd.errors import ConfigError
from gatewayd.testing.contracts.discoverer import (
    DiscovererTestbed,
    RecordingSink,
    running,
)
from gatewayd.testing.waiting import until
from tests.support.cable import CHILD, CHILD6, INTERFACE, MOVED, Cable, laid
from tests.support.cable_device import AnsweringTestbed, CableDevice
from tests.support.cable_peer import CablePeer
from tests.support.household import PATIENCE, household
from tests.support.source_contract import SourceContract

pytestmark = [pytest.mark.namespace, pytest.mark.root]

HERE, TOP = Path(__file__).parent, Path(__file__).parents[3]
PYTHON = TOP / ".venv-peers/bin/python"
OTHER, STRANGER = "10.77.0.3", "10.77.0.66"
MAC = "00:22:d1:04:00:37"
SERVER = ("coap-server-notls", "-g", GROUPS[0], "-d", "20")


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        one.far_ip("link", "set", INTERFACE, "address", MAC)
        one.far_ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
        yield one


def discoverer(identity_path: str = "", limit: int = AnsweringTestbed.limit) -> Coap:
    return Coap("nodes", CoapSettings((INTERFACE,), max_entries=limit, identity_path=identity_path))


def answer(question: bytes, body: str) -> list[bytes]:
    """Return the list of resources of a device."""
    if question[1:2] != b"\1":
        return []
    token = question[4 : 4 + (question[0] & 0xF)]
    head = bytes((0x50 | len(token), 0x45)) + question[2:4] + token
    return [head + b"\xc1\x28\xff" + body.encode()]


class TestContract(SourceContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        for address in (OTHER, STRANGER):
            cable.far_ip("addr", "add", f"{address}/16", "dev", INTERFACE)
        self.cable = cable

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        async with AsyncExitStack() as stack:
            devices = {}
            for place in (CHILD, OTHER, STRANGER):
                says = partial(answer, body=f'</>;title="At {place}",</t>;rt="t"')
                device = CableDevice(self.cable, (place, PORT), GROUPS[0], says)
                devices[place] = await stack.enter_async_context(device)
            stranger = devices.pop(STRANGER)
            stranger.is_silent = True
            yield AnsweringTestbed(
                discoverer(), devices, stranger,
                lambda q, n: answer(q, body=f'</{n}>;ep="evil-{n}";rt="core.rd-ep"')[0],
            )  # fmt: skip


@pytest.fixture
async def peer(cable: Cable) -> AsyncIterator[CablePeer]:
    async with CablePeer(cable) as made:
        yield made


def move(cable: Cable) -> None:
    """Give the other end another address."""
    cable.move()
    cable.far_ip("route", "replace", "224.0.0.0/4", "dev", INTERFACE)


@contextmanager
def unasked(cable: Cable) -> Iterator[None]:
    """Have no question reach the other end until the block ends."""
    filtering = (*cable.prefix, "nft")
    chain = "chain ip unasked in { type filter hook input priority 0; }"
    rule = f"rule ip unasked in iifname {INTERFACE} udp dport {PORT} drop"
    subprocess.run([*filtering, f"add table ip unasked; add {chain}; add {rule}"], check=True)
    try:
        yield
    finally:
        subprocess.run([*filtering, "delete table ip unasked"], check=True)


async def put(cable: Cable, uri: str, text: str) -> None:
    """Have libcoap's server keep a resource, once it runs."""
    command = (*cable.prefix, "coap-client-notls", "-B", "20", "-m", "put", "-e", text, uri)
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_a_device_with_an_identity_stays_one_child_restarted_and_elsewhere(
    cable: Cable, peer: CablePeer
) -> None:
    serial = Claim("serial", "coap", "sn-0042")
    await peer.start(*SERVER)
    await put(cable, f"coap://{CHILD}/serial", "SN-0042")
    async with household(discoverer("/serial")) as home:
        first = await home.shows(lambda one: serial in one.claims)
        assert first.label == "General Info"
        assert first.views[0]["coap.rt"] == "ticks"
        assert first.views[0]["serial"] == "SN-0042"

        await peer.stop()
        move(cable)
        with unasked(cable):  # it would be remembered as one that has no identity
            await peer.start(*SERVER)
            await put(cable, f"coap://{MOVED}/serial", "SN-0042")
        last = await home.shows(
            lambda one: any("serial" in v and v["address"] == MOVED for v in one.views)
        )
        assert serial in last.claims
        assert not last.conflict


async def found(made: Coap, sink: RecordingSink, key: str, attribute: str) -> Sighting:
    """Look again until a key is seen with an attribute."""
    async with asyncio.timeout(PATIENCE):
        while key not in sink.seen or attribute not in sink.seen[key].attributes:
            await made.rescan()
            await asyncio.sleep(0.5)
    return sink.seen[key]


async def test_a_list_that_comes_in_blocks_is_read_to_its_end(
    cable: Cable, peer: CablePeer
) -> None:
    await peer.start(*SERVER)
    for letter in "abcdefghijklm":  # more than 1,024 bytes in all
        await put(cable, f"coap://{CHILD}/{letter * 85}", "x")
    made = discoverer()
    async with running(made) as sink:
        seen = await found(made, sink, CHILD, "coap.rt")
        assert seen.attributes["coap.rt"] == "ticks"
        assert seen.attributes["coap.title"] == "General Info"
        assert await made.verify(seen) is not None


async def test_a_directory_without_a_look_up_is_a_device(peer: CablePeer) -> None:
    await peer.start("coap-rd-notls", "-g", GROUPS[0])
    made = discoverer()
    async with running(made) as sink:
        assert (await found(made, sink, CHILD, "coap.rt")).attributes["coap.rt"] == "core.rd"
        assert set(sink.seen) == {CHILD}


async def test_a_device_is_found_by_ipv6(peer: CablePeer) -> None:
    await peer.start("coap-server-notls", "-g", GROUPS[1])
    made = discoverer()
    async with running(made) as sink:
        seen = await found(made, sink, f"{CHILD6}%{INTERFACE}", "coap.rt")
        assert seen.addresses == (f"{CHILD6}%{INTERFACE}",)
        assert await made.verify(seen) is not None


async def register(cable: Cable, peer: CablePeer, at: str, *endpoints: str) -> None:
    """Have a directory with these endpoints; return when it has them.

    at: its address.  An enquiry before would find none, and would be the only one for 10 min.
    """
    await peer.start(str(PYTHON), str(HERE / "coap_directory.py"), INTERFACE, *endpoints)
    command = (*cable.prefix, "coap-client-notls", "-B", "2", f"coap://{at}/endpoint-lookup/")
    async with asyncio.timeout(PATIENCE):
        listed = b""
        while listed.count(b"core.rd-ep") < len(endpoints):
            asking = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
            listed, _ = await asking.communicate()


async def test_endpoints_of_a_directory_stay_children_renamed_restarted_and_elsewhere(
    cable: Cable, peer: CablePeer
) -> None:
    meter, valve = (Claim("serial", "coap.ep", name) for name in ("meter-7", "valve-1"))
    await register(cable, peer, CHILD, "ep=meter-7&et=meter&base=coap://10.77.0.7", "ep=valve-1")
    async with household(discoverer()) as home:
        first = await home.shows(lambda one: one.label == "meter-7", meter)
        (view,) = first.views
        assert (view["serial"], view["coap.et"]) == ("meter-7", "meter")
        assert (view["coap.base"], view["address"]) == ("coap://10.77.0.7", CHILD)
        assert not [one for one in first.claims if one.kind == "mac"]  # it is behind the directory
        await home.shows(lambda one: one.label == "valve-1", valve)
        assert len(home.seen_ids) == 3  # with the directory itself

        await peer.stop()
        move(cable)
        await register(cable, peer, MOVED, "ep=meter-7&et=pump&base=coap://10.77.0.8", "ep=valve-1")
        last = await home.shows(lambda one: MOVED in one.addresses, meter)
        assert not last.conflict
        assert {(v["coap.et"], v["coap.base"]) for v in last.views} == {
            ("pump", "coap://10.77.0.8")
        }
        assert len(home.seen_ids) == 3


async def test_a_directory_of_many_endpoints_leaves_room_for_other_enquiries(cable: Cable) -> None:
    nodes = ",".join(f'</{n}>;ep="n{n}";rt="core.rd-ep"' for n in range(200))

    def directory(question: bytes) -> list[bytes]:
        looked_up = b"\xb2ep" in question
        return answer(question, nodes if looked_up else '</ep>;rt="core.rd-lookup-ep"')

    made = discoverer(limit=1000)
    async with CableDevice(cable, (CHILD, PORT), GROUPS[0], directory), running(made) as sink:
        await until(lambda: len(sink.seen) == 201)
        assert made.health.dropped == {}


async def test_an_endpoint_is_verified_at_its_directory(cable: Cable, peer: CablePeer) -> None:
    await register(cable, peer, CHILD, "ep=meter 7/ü&d=hall", "ep=valve-1")
    made = discoverer()
    async with running(made) as sink:
        meter = await found(made, sink, "ep=meter+7%2F%C3%BC&d=hall", "coap.ep")
        again = await made.verify(meter)
        assert again is not None
        assert (again.claims, again.attributes) == (meter.claims, meter.attributes)
        await register(cable, peer, CHILD, "ep=valve-1")
        assert await made.verify(sink.seen["ep=valve-1"]) is not None
        assert await made.verify(meter) is None


@pytest.mark.parametrize(
    "path",
    [
        "dev/serial",
        "coap://192.0.2.1/x",
        pytest.param("/a" * 9, id="nine-segments"),
        pytest.param(f"/{'n' * 256}", id="a-long-segment"),
    ],
)
def test_a_path_that_cannot_be_asked_for_is_a_fault_of_the_configuration(path: str) -> None:
    with pytest.raises(ConfigError, match="identity_path"):
        discoverer(path)
