"""A toy protocol over a real cable: what is asked, what is read, and what becomes of it."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from itertools import count

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Context, Discoverer, EventHook, Interest, LossReason
from gatewayd.discovery.probing import reading
from gatewayd.discovery.probing.protocol import Datagram, Enquiry, Found, News, Own, Probe
from gatewayd.errors import DiscoveryRetry
from gatewayd.simulator.lan.recording import RecordedDatagram, RecordedLine
from gatewayd.simulator.lan.replay import ReplaySockets
from gatewayd.testing.contracts.discoverer import (
    DiscovererContract,
    DiscovererTestbed,
    RecordingSink,
    running,
    want_all,
)
from gatewayd.testing.waiting import until
from tests.support.cable import BROADCAST, CHILD, CHILD6, GATEWAY, INTERFACE, Cable, laid
from tests.support.tasks import in_background
from tests.support.toy import (
    BOTH,
    GROUP4,
    NO_TOKEN,
    PORT,
    Forger,
    ToyDevice,
    ToyProtocol,
    bound,
    toys,
)

ADDRESSES = (CHILD, "10.77.0.3", "10.77.0.4")

CONTEXT = Context(time.monotonic, lambda: 0.5, want_all)

pytestmark = pytest.mark.namespace


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


class ToyTestbed:
    """Three toys at the far end of a cable."""

    def __init__(self, devices: dict[str, ToyDevice]) -> None:
        self._devices = devices
        self.discoverer: Discoverer = toys(max_entries=50)
        self.count, self.limit = len(devices), 50

    async def remove(self, key: str) -> bool:
        self._devices[key].is_silent = True
        return True

    async def abuse(self) -> None:
        one = next(iter(self._devices.values()))
        for number in range(300):
            one.say(b"toy!        " + f"liar-{number} \x1b[2J".encode(), (GROUP4, PORT))
            one.say(b"toy-" + f"liar-{number}".encode(), (GROUP4, PORT))
            one.say(b"toy!" + bytes([number % 256]) * number, (GROUP4, PORT))
            one.say(b"bug!", (GROUP4, PORT))
            one.say(b"toy-\xff", (GROUP4, PORT))
            await asyncio.sleep(0)
        one.say(b"x" * 9000, (GROUP4, PORT))


class TestContract(DiscovererContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        self.cable = cable
        for address in ADDRESSES[1:]:
            cable.far_ip("addr", "add", f"{address}/16", "dev", "lan0")

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        async with AsyncExitStack() as stack:
            made = {}
            for number, address in enumerate(ADDRESSES):
                device = ToyDevice(self.cable, f"toy-{number}", address)
                made[f"toy-{number}"] = await stack.enter_async_context(device)
            yield ToyTestbed(made)


async def test_a_device_is_found_in_both_families_and_is_one(cable: Cable) -> None:
    async with ToyDevice(cable, "ann red", *BOTH), running(toys()) as sink:
        await until(lambda: "ann" in sink.seen and len(sink.seen["ann"].addresses) == 2)
        seen = sink.seen["ann"]
        assert seen.addresses == (CHILD, f"{CHILD6}%lan0")
        assert seen.attributes["toy.red"] == "yes"
        assert seen.source == "toys/lan0"


async def test_by_broadcast_a_device_is_found_that_answers_by_broadcast(cable: Cable) -> None:
    protocol = ToyProtocol(groups=(), ipv4_only=True, by_broadcast=True)
    async with ToyDevice(cable, "ann") as device, running(toys(protocol)) as sink:
        await until(lambda: "ann" in sink.seen)
        device.words = "bob"
        device.say(b"toy!" + NO_TOKEN + b"bob", (BROADCAST, PORT))
        await until(lambda: "bob" in sink.seen)
        device.say(b"toy!" + NO_TOKEN + b"eve", ("255.255.255.255", PORT))
        await until(lambda: "eve" in sink.seen)


async def test_copies_of_an_answer_are_one_sighting(cable: Cable) -> None:
    async with ToyDevice(cable, "ann") as device, running(toys()) as sink:
        device.copies = 4
        await until(lambda: "ann" in sink.seen)
        await asyncio.sleep(0.2)  # the probe is repeated after 0.05 s
        assert len(device.asked) == 2
        assert sink.sightings == 1


async def test_what_is_announced_is_found_unasked_and_a_goodbye_is_a_loss(cable: Cable) -> None:
    async with ToyDevice(cable, "ann") as device, running(toys()) as sink:
        device.is_silent = True
        await until(lambda: len(device.asked) == 2)
        device.announce()
        await until(lambda: "ann" in sink.seen)
        device.say(b"toy-bob")
        device.say(b"toy-ann")
        await until(lambda: [one.reason for one in sink.lost] == [LossReason.GOODBYE])


async def test_a_goodbye_of_another_host_is_no_loss(cable: Cable) -> None:
    cable.far_ip("addr", "add", "10.77.0.66/16", "dev", "lan0")
    found = toys()
    eve = ToyDevice(cable, "eve", "10.77.0.66")
    async with ToyDevice(cable, "ann"), eve, running(found) as sink:
        await until(lambda: len(sink.seen) == 2)
        eve.say(b"toy-ann")
        await until(lambda: found.health.dropped.get("foreign-goodbye") == 1)
        assert not sink.lost


async def test_an_answer_to_no_question_of_ours_is_not_believed(cable: Cable) -> None:
    found = toys()
    async with ToyDevice(cable, "ann") as device, running(found) as sink:
        await until(lambda: len(device.asked) == 2 and "ann" in sink.seen)
        port = device.ports[0]
        device.say(b"toy!" + b"FORGED!!" + b"eve", (GATEWAY, port))
        await until(lambda: found.health.dropped.get("not-asked") == 1)
        assert "eve" not in sink.seen


async def test_who_is_on_the_link_is_judged_by_how_it_was_sent(cable: Cable) -> None:
    """A device of another subnet is believed where it speaks to the group, or to all."""
    cable.far_ip("addr", "add", "192.168.9.9/24", "dev", "lan0")
    found = toys()
    async with ToyDevice(cable, "ann") as device, running(found) as sink:
        await until(lambda: "ann" in sink.seen)
        with cable.at_the_far_end():
            factory = bound("192.168.9.9", 0)
        with factory:
            factory.sendto(b"toy!" + NO_TOKEN + b"fay", (GROUP4, PORT))
            await until(lambda: "fay" in sink.seen)
            assert sink.seen["fay"].addresses == ("192.168.9.9",)
            factory.sendto(b"toy!" + NO_TOKEN + b"eve", (GATEWAY, device.ports[0]))
            await until(lambda: found.health.dropped.get("off-link") == 1)
            assert "eve" not in sink.seen


@pytest.mark.parametrize("by_broadcast", [False, True])
async def test_devices_of_each_network_of_the_interface_are_found(
    cable: Cable, by_broadcast: bool
) -> None:
    """Each answers only where it has a route to: in its own network."""
    cable.ip("addr", "add", "192.168.9.1/24", "brd", "192.168.9.255", "dev", "lan0")
    cable.far_ip("addr", "add", "192.168.9.9/24", "dev", "lan0")
    groups = () if by_broadcast else (GROUP4,)
    protocol = ToyProtocol(groups=groups, ipv4_only=True, by_broadcast=by_broadcast)
    found = toys(protocol)
    plc = ToyDevice(cable, "plc", "192.168.9.9", broadcast="192.168.9.255")
    async with ToyDevice(cable, "ann"), plc, running(found) as sink:
        await until(lambda: {"ann", "plc"} <= sink.seen.keys())
        assert sink.seen["plc"].addresses == ("192.168.9.9",)
        assert await found.verify(sink.seen["plc"])
        assert {"192.168.9.1"} <= {whence for _, whence in plc.asked}
        cable.ip("addr", "del", "192.168.9.1/24", "dev", "lan0")
        before = len(plc.asked)
        await found.rescan()
        await asyncio.sleep(0.2)
        assert not [whence for _, whence in plc.asked[before:] if whence == "192.168.9.1"]


async def test_what_comes_by_another_interface_is_not_seen(cable: Cable) -> None:
    cable.ip("link", "add", "wan0", "type", "veth", "peer", "wan0", "netns", cable.far)
    for ip, address in ((cable.ip, "10.88.0.1/24"), (cable.far_ip, "10.88.0.2/24")):
        ip("addr", "add", address, "dev", "wan0")
        ip("link", "set", "wan0", "up")
    protocol = ToyProtocol(groups=(), ipv4_only=True, by_broadcast=True)
    for one in (toys(), toys(protocol)):
        async with ToyDevice(cable, "ann"), running(one) as sink:
            await until(lambda sink=sink: "ann" in sink.seen)  # type: ignore[misc]  # bound early
            with cable.at_the_far_end():
                away = bound("10.88.0.2", 0, interface="wan0")
            with away:
                for to in (GROUP4, "10.88.0.255", "10.88.0.1", "255.255.255.255"):
                    away.sendto(b"toy!" + NO_TOKEN + b"eve", (to, PORT))
                await asyncio.sleep(0.1)
            assert set(sink.seen) == {"ann"}


async def test_the_sockets_follow_the_interface(cable: Cable) -> None:
    """It goes down, gets another address, and is made again: each time it is asked again."""
    found = toys()
    async with ToyDevice(cable, "ann") as device, running(found) as sink:
        await until(lambda: "ann" in sink.seen)
        cable.ip("link", "set", "lan0", "down")
        await until(lambda: found.health.dropped.get("no-interface") == 1)
        with pytest.raises(DiscoveryRetry, match="is down"):
            await found.verify(sink.seen["ann"])
        cable.ip("link", "set", "lan0", "up")
        before = len(device.asked)
        await until(lambda: len(device.asked) > before)
        cable.ip("addr", "del", f"{GATEWAY}/16", "dev", "lan0")
        cable.ip("addr", "add", "10.77.0.9/16", "dev", "lan0")
        await until(lambda: device.asked[-1][1] == "10.77.0.9")
        assert not sink.lost
        assert await found.verify(sink.seen["ann"])


async def test_an_interface_that_comes_later_is_waited_for(cable: Cable) -> None:
    cable.ip("link", "set", "lan0", "down")
    found = toys()
    with pytest.raises(DiscoveryRetry, match="none of lan0 is up"):
        await found.run(CONTEXT, RecordingSink())


async def test_what_cannot_be_sent_is_counted_and_tried_again_soon(cable: Cable) -> None:
    class TooLong(ToyProtocol):
        def probes(self, token: bytes, own: Own) -> list[Probe]:
            return [Probe(b"?" * 70_000, GROUP4, PORT, "more than UDP has room for")]

    found = toys(TooLong(ipv4_only=True))
    async with running(found):
        await until(lambda: found.health.dropped.get("send-failed", 0) >= 2)


async def test_a_port_that_another_program_has_is_named_and_tried_again(
    cable: Cable, caplog: pytest.LogCaptureFixture
) -> None:
    found = toys(ToyProtocol(groups=(), ipv4_only=True, by_broadcast=True))
    async with ToyDevice(cable, "ann"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", PORT))
            async with running(found) as sink:
                await until(lambda: found.health.dropped.get("no-socket") == 1)
                assert "UDP port 7777 is in use" in caplog.text
                other.close()
                await until(lambda: "ann" in sink.seen)


@pytest.mark.jumping_clock
async def test_it_asks_by_rounds_and_believes_for_two_more(cable: Cable) -> None:
    with cable.at_the_far_end():
        device = bound(GROUP4, PORT)
    found = toys(ToyProtocol(ipv4_only=True))
    loop = asyncio.get_running_loop()
    sink, asked = RecordingSink(), []
    context = replace(CONTEXT, now=loop.time)
    with device:
        async with in_background(found.run(context, sink)):
            for _ in range(9):
                question, whence = await loop.sock_recvfrom(device, 100)
                asked.append(loop.time())
                if len(asked) <= 2:
                    device.sendto(b"toy!" + question[4:] + b"ann", whence)
            assert [round(later - asked[0], 2) for later in asked] == [
                0.0, 0.05, 600.0, 600.05, 1200.0, 1200.05, 1800.0, 1800.05, 2400.0,
            ]  # fmt: skip
            assert [one.reason for one in sink.lost] == [LossReason.EXPIRED]
            assert 1500 <= sink.lost[0].at - asked[0] <= 1530


async def test_one_device_is_asked_by_itself(cable: Cable) -> None:
    found = toys()
    async with ToyDevice(cable, "ann") as device, running(found) as sink:
        await until(lambda: "ann" in sink.seen)
        await until(lambda: len(device.asked) == 2)
        seen = sink.seen["ann"]
        answer = await found.verify(seen)
        assert answer is not None
        assert answer.claims == seen.claims
        assert answer.at > seen.at
        assert sink.sightings == 1
        device.words = "eve"
        assert await found.verify(seen) is None  # another device is there now


async def test_an_answer_by_broadcast_is_one_to_what_was_asked(cable: Cable) -> None:
    protocol = ToyProtocol(groups=(), ipv4_only=True, by_broadcast=True)
    found = toys(protocol)
    async with ToyDevice(cable, "ann") as device, running(found) as sink:
        await until(lambda: "ann" in sink.seen)
        device.is_silent = True
        asking = asyncio.create_task(found.verify(sink.seen["ann"]))
        before = len(device.asked)
        await until(lambda: len(device.asked) > before)
        device.say(b"toy!" + NO_TOKEN + b"ann", (BROADCAST, PORT))
        assert await asking


async def test_what_is_wanted_is_enquired_once_and_what_that_added_stays(cable: Cable) -> None:
    def details(found: Found) -> Sequence[Found]:
        serial = Claim("serial", "toy.more", "0042")
        more = replace(found, claims=found.claims | {serial}, label="Ann's toy",
                       attributes={**found.attributes, "model": "T1"})  # fmt: skip
        behind = replace(found, key="bob", claims=frozenset(), is_behind=True)
        return (more, behind)

    protocol = ToyProtocol(details=details)
    found = toys(protocol)
    async with ToyDevice(cable, "ann detail", *BOTH) as device, running(found) as sink:
        await until(lambda: sink.seen["ann"].label == "Ann's toy" if "ann" in sink.seen else False)
        await until(lambda: "bob" in sink.seen and len(sink.seen["ann"].addresses) == 2)
        for _ in range(2):
            await found.rescan()
            before = sink.sightings
            await until(lambda before=before: sink.sightings > before)  # type: ignore[misc]  # bound early
            assert sink.seen["ann"].attributes["model"] == "T1"
            assert Claim("serial", "toy.more", "0042") in sink.seen["ann"].claims
        assert [one for one in protocol.enquired if one[0] == "ann"] in (
            [("ann", CHILD)], [("ann", f"{CHILD6}%lan0")],
        )  # fmt: skip
        answer = await found.verify(sink.seen["ann"])
        assert answer is not None
        assert answer.attributes["model"] == "T1"
        assert sink.seen["bob"].is_behind
        assert device.asked


async def test_what_a_directory_lists_is_reported_and_not_enquired_in_turn(cable: Cable) -> None:
    def details(found: Found) -> Sequence[Found]:
        listed = (replace(found, key=f"toy-{n}", claims=frozenset(), is_behind=True,
                          is_directory=False) for n in range(200))  # fmt: skip
        return (found, *listed)

    protocol = ToyProtocol(details=details)
    found = toys(protocol)
    async with ToyDevice(cable, "lib detail directory"), running(found) as sink:
        await until(lambda: len(sink.seen) == 201)
        assert {key for key, _ in protocol.enquired} == {"lib"}
        assert found.health.dropped == {}


def strange(_: Mapping[str, str]) -> Interest:
    """Rules that want nothing."""
    return Interest.STRANGER


class PatientProtocol(ToyProtocol):
    """A protocol whose enquiries end without an answer, after a while."""

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        await asyncio.sleep(0.5)
        return (found,)


async def test_the_end_of_an_enquiry_is_no_answer_to_whether_a_device_is_there(
    cable: Cable,
) -> None:
    one = toys(PatientProtocol())
    async with ToyDevice(cable, "ann") as device, running(one) as sink:
        await until(lambda: "ann" in sink.seen)
        device.is_silent = True
        assert await one.verify(sink.seen["ann"]) is None


async def test_strangers_are_not_enquired_and_directories_are(cable: Cable) -> None:
    protocol = ToyProtocol()
    cable.far_ip("addr", "add", "10.77.0.3/16", "dev", "lan0")
    library = ToyDevice(cable, "lib directory", "10.77.0.3")
    found = toys(protocol)
    async with ToyDevice(cable, "ann"), library, running(found, strange) as sink:
        await until(lambda: len(sink.seen) == 2 and len(protocol.enquired) == 1)
        assert protocol.enquired == [("lib", "10.77.0.3")]


def recorded(events: list[RecordedLine]) -> Context:
    """A context that adds what comes to these events, as a file has them."""

    def observe(kind: str, at: float, data: Mapping[str, str | int | bytes]) -> None:
        members = {
            key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for key, value in data.items()
        }
        events.append(RecordedLine(at, kind, members))

    return replace(CONTEXT, hook=EventHook(observe))


@pytest.mark.parametrize("by_broadcast", [False, True])
async def test_what_comes_can_be_recorded_and_played(cable: Cable, by_broadcast: bool) -> None:
    protocol = ToyProtocol(groups=(), by_broadcast=True) if by_broadcast else ToyProtocol()
    events: list[RecordedLine] = []
    context, sink = recorded(events), RecordingSink()
    device = ToyDevice(cable, "ann")
    async with device, in_background(toys(protocol).run(context, sink)):
        await until(lambda: "ann" in sink.seen)
        device.words = "bob"
        device.say(b"toy!" + NO_TOKEN + b"bob", (BROADCAST if by_broadcast else GROUP4, PORT))
        await until(lambda: "bob" in sink.seen)
        for state in context.hook.states.values():
            state()
    assert {one.kind for one in events} == {"datagram", "interface"}
    datagrams = [one for one in events if one.kind == "datagram"]
    assert {one.text("source") for one in datagrams} == {"toys"}
    played = [RecordedDatagram.of(one) for one in datagrams]
    assert {bool(one.data) for one in played} == {False, True}  # answers are no use again
    async with ToyDevice(cable, "ann"), running(toys(protocol)) as sink:
        await until(lambda: "ann" in sink.seen)
        with cable.at_the_far_end(), closing(ReplaySockets(INTERFACE)) as sockets:
            for one in played:
                if one.data:
                    sockets.send(one)
        await until(lambda: "bob" in sink.seen)
        assert sink.seen["bob"].addresses == (CHILD,)


async def flood(forger: Forger) -> None:
    """Announce what is not there, as fast as others get their turn."""
    for number in count():
        forger.say(b"toy!" + NO_TOKEN + b"liar-%d" % number, number)
        if number % 100 == 0:
            await asyncio.sleep(0)


async def test_a_flood_of_strangers_is_bounded_and_hides_neither_children_nor_answers(
    cable: Cable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a parser gets in a flood is what its budget allows; who is known is read beside it, and
    who answers a question."""
    read: list[str] = []

    class Counting(ToyProtocol):
        def read(self, datagram: Datagram) -> Iterable[News]:
            read.append(datagram.sender)
            return super().read(datagram)

    few = replace(reading.STRANGERS, burst=4)  # so that they are spent soon
    monkeypatch.setattr(reading, "STRANGERS", few)
    Forger.allow(cable)
    cable.far_ip("addr", "add", "10.77.0.3/16", "dev", "lan0")
    found, sink = toys(Counting()), RecordingSink()
    context = replace(CONTEXT, is_known=lambda address: address == CHILD)
    async with ToyDevice(cable, "ann") as device, in_background(found.run(context, sink)):
        await until(lambda: "ann" in sink.seen)
        began = time.monotonic()
        with closing(Forger(cable)) as forger:
            async with in_background(flood(forger)):
                await until(lambda: found.health.dropped.get("link-flood", 0) > 0)
                before = read.count(CHILD)
                device.announce()
                await until(lambda: read.count(CHILD) > before)
                async with ToyDevice(cable, "new", "10.77.0.3"):  # nothing is on record of it
                    await found.rescan()
                    await until(lambda: "new" in sink.seen)
        spent = time.monotonic() - began
        strangers = len([sender for sender in read if sender != CHILD])
        assert strangers <= few.packets * (few.burst + spent + 1)
        assert found.health.entries <= 2000
    assert len([one for one in caplog.records if vars(one).get("message_id") == "lan-flooded"]) == 1
