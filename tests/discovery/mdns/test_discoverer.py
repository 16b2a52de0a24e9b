"""mDNS over real multicast on `lo`, against simulated children and an attacker."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from itertools import count
from uuid import uuid4

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Context, Discoverer, Interest, LossReason
from gatewayd.discovery.mdns.discoverer import Mdns
from gatewayd.discovery.mdns.records import MAX_TXT
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.simulator.lan import dns
from gatewayd.simulator.lan import dns as wire
from gatewayd.simulator.lan import segment as lan
from gatewayd.simulator.lan.attacker import NAMES, Attacker
from gatewayd.simulator.lan.child import LanChild, fleet
from gatewayd.simulator.lan.lan import SimulatedLan
from gatewayd.simulator.lan.records import records
from gatewayd.testing.contracts.discoverer import (
    DiscovererTestbed,
    RecordingSink,
    running,
)
from gatewayd.testing.waiting import until
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.integration


RECORDS = {"DNSPointer", "DNSService", "DNSText", "DNSAddress"}


class Segment:
    """A simulated LAN of a service type of its own, so that parallel tests are not received."""

    def __init__(self, count: int = 3, limit: int = 50, **settings: int) -> None:
        self.type = f"_gw{uuid4().hex[:10]}._tcp"
        self.rng = random.Random(self.type)
        self.children = fleet(count, self.rng.getrandbits(32), service=f"{self.type}.local")
        self.lan = SimulatedLan(self.children, rng=self.rng, spread=0.0)
        chosen = MdnsSettings(("lo",), (self.type,), max_entries=limit, **settings)
        self.discoverer: Discoverer = Mdns("mdns", chosen)
        self.count, self.limit = count, limit

    def key(self, number: int) -> str:
        return f"{self.type}|{self.lan.child(number).instance}".lower()

    async def remove(self, key: str) -> bool:
        numbers = [n for n in range(self.count) if self.key(n) == key]
        self.lan.die(numbers[0])
        return True

    async def abuse(self) -> None:
        service = f"{self.type}.local"
        async with Attacker(rng=self.rng, service=service) as attacker:
            await attacker.hostile_text(rate=1000)
            await attacker.malform(300, rate=1000)
            await attacker.oversize(20, rate=1000)
            await attacker.impersonate(300, rate=1000)


@asynccontextmanager
async def simulated(count: int = 3, limit: int = 50, **settings: int) -> AsyncIterator[Segment]:
    segment = Segment(count, limit, **settings)
    async with segment.lan:
        yield segment


def pointer(type_: str, instance: bytes) -> bytes:
    """The announcement of one instance, in raw bytes."""
    owner = dns.name(f"{type_}.local")
    record = dns.DnsRecord(owner, dns.PointerData((instance, *owner)), ttl=4500)
    return wire.encode(dns.DnsMessage(answers=(record,), flags=dns.RESPONSE))


class TestContract(SourceContract):
    def make_testbed(self) -> AbstractAsyncContextManager[DiscovererTestbed]:
        return simulated()


async def test_two_hundred_children_at_once_are_all_seen_as_they_are() -> None:
    async with simulated(200, 300) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 200)
        for number, child in enumerate(segment.children):
            seen = sink.seen[segment.key(number)]
            assert seen.addresses == (child.address,)
            assert seen.port == child.port
            assert seen.attributes["txt.model"] == child.model
            assert seen.claims == {
                Claim("serial", segment.type, child.serial.lower()),
                Claim("mac", segment.type, child.mac.replace(":", "")),
            }
        assert segment.discoverer.health.dropped == {}


async def test_what_policy_ignores_is_never_asked_for() -> None:
    asked: list[Mapping[str, str]] = []

    def ignore(view: Mapping[str, str]) -> Interest:
        asked.append(view)
        return Interest.IGNORED

    async with simulated(1) as segment, running(segment.discoverer, ignore) as sink:
        await until(lambda: segment.discoverer.health.dropped.get("ignored", 0) > 0)
        assert sink.seen == {}
        assert asked[0] == {
            "source": "mdns", "interface": "lo",
            "service": segment.type, "instance": segment.children[0].instance,
        }  # fmt: skip


async def test_a_goodbye_is_reported_as_such() -> None:
    async with simulated() as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 3)
        segment.lan.leave(1)
        await until(lambda: bool(sink.lost))
        assert [(one.key, one.reason) for one in sink.lost] == [
            (segment.key(1), LossReason.GOODBYE)
        ]


async def test_a_child_whose_goodbye_was_forged_is_found_again() -> None:
    async with simulated() as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 3)
        known = sink.seen[segment.key(0)]
        async with Attacker(rng=segment.rng, service=f"{segment.type}.local") as attacker:
            attacker.spoof_goodbye(segment.lan.child(0))
        await until(lambda: bool(sink.lost))
        assert await segment.discoverer.verify(known) is not None


async def test_a_cached_record_does_not_answer_for_a_dead_child() -> None:
    async with simulated(1) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 1)
        known = sink.seen[segment.key(0)]
        segment.lan.die(0)
        assert await segment.discoverer.verify(known) is None
        assert sink.lost == []
        segment.lan.rejoin(0)
        assert await segment.discoverer.verify(known) is not None


async def test_a_child_with_dots_in_its_name_is_found_again() -> None:
    async with simulated(0) as segment, running(segment.discoverer) as sink:
        template = fleet(1, 7, service=f"{segment.type}.local")[0]
        segment.lan.add(replace(template, instance="Kitchen 2.0 v1.4"))
        await until(lambda: len(sink.seen) == 1)
        known = sink.seen[segment.key(0)]
        assert known.label == "Kitchen 2.0 v1.4"
        assert await segment.discoverer.verify(known) is not None


async def test_a_new_address_is_reported_without_the_old_one() -> None:
    async with simulated(1) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 1)
        # It announces itself again after a second, and only records that are older than another
        # are replaced (RFC 6762, 8.3 and 10.2).
        await asyncio.sleep(2.5)
        segment.lan.move(0, "127.1.200.7")
        await until(lambda: sink.seen[segment.key(0)].addresses == ("127.1.200.7",))


async def test_hostile_text_is_bounded_or_dropped_and_real_children_stay() -> None:
    async with simulated(2) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 2)
        async with Attacker(rng=segment.rng, service=f"{segment.type}.local") as attacker:
            await attacker.hostile_text(rate=500)
            await attacker.oversize(5, rate=500)
        dropped = segment.discoverer.health.dropped
        await until(lambda: "bad-name" in dropped and len(sink.seen) > 2 + len(NAMES))
        assert {segment.key(0), segment.key(1)} <= set(sink.seen)
        for seen in sink.seen.values():
            assert sum(map(len, seen.attributes.values())) < 2 * MAX_TXT
            assert all(map(str.isprintable, (seen.key, seen.label, *seen.attributes.values())))


def usurped(child: LanChild, number: int) -> bytes:
    """An announcement in the name of a child by another host; each differs a little."""
    service, owner = dns.name(child.service), (child.instance.encode(), *dns.name(child.service))
    text = (b"serial=TH20-0B5E55", f"n={number}".encode())
    host = (f"nowhere-{number}".encode(), b"local")
    records = (
        dns.DnsRecord(service, dns.PointerData(owner), 4500),
        dns.DnsRecord(owner, dns.SrvData(0, 0, 1, host), 120, flush=True),
        dns.DnsRecord(owner, dns.TextData(text), 4500, flush=True),
    )
    return wire.encode(dns.DnsMessage(answers=records, flags=dns.RESPONSE))


def lies(child: LanChild, said: list[int]) -> Iterator[bytes]:
    for number in count():
        said.append(number)
        yield usurped(child, number)


async def test_who_shouts_in_the_name_of_a_child_does_not_answer_for_it() -> None:
    async with simulated(1) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 1)
        known, child = sink.seen[segment.key(0)], segment.lan.child(0)
        async with Attacker(rng=segment.rng, service=child.service) as attacker:
            said: list[int] = []
            shouting = asyncio.create_task(attacker.send(lies(child, said), 10_000, rate=200))
            await until(lambda: len(said) > 100)
            found = [await segment.discoverer.verify(known) for _ in range(3)]
            shouting.cancel()
            await asyncio.gather(shouting, return_exceptions=True)
        assert [one and one.claims for one in found] == [known.claims] * 3
        segment.lan.die(0)
        assert await segment.discoverer.verify(known) is None


async def test_records_without_end_are_a_flood_whatever_they_are_of() -> None:
    """The library keeps them all, for as long as they say themselves."""
    async with simulated(1, flood_limit=20) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 1)
        owner = (b"one-and-the-same", b"local")
        addresses = (f"10.{n >> 8}.{n & 255}.1" for n in range(2000))
        records = [dns.DnsRecord(owner, dns.AddressData(one), 2**31 - 1) for one in addresses]
        packets = [
            wire.encode(dns.DnsMessage(answers=tuple(records[n : n + 50]), flags=dns.RESPONSE))
            for n in range(0, 2000, 50)
        ]
        async with Attacker(rng=segment.rng, service=f"{segment.type}.local") as attacker:
            await attacker.send(packets, len(packets), rate=1000)
        await until(lambda: segment.discoverer.health.dropped.get("flood", 0) > 0)


ODD = (
    "Lamp.", ".lamp", "Lamp..2", " ", "Lamp\u00a0x", "Lamp x", "\U0001f469\u200d\U0001f52c",
    "Lamp\0", "Lamp\r\n", "Lamp\x1b[2J", r"Lamp\x00", "\u202eLamp",
)  # fmt: skip
"""Names that no two devices share, though what is shown of them may be alike."""


@contextmanager
def without_collector() -> Iterator[None]:
    """Nothing that refers to itself leaves the memory, unless the product has it removed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def cached() -> int:
    """Return how many of the library's records are in memory."""
    return sum(type(one).__name__ in RECORDS for one in gc.get_objects())


async def test_what_is_closed_takes_no_memory_any_more() -> None:
    async with simulated() as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == segment.count)
        with without_collector():
            before = cached()
            for _ in range(8):
                seen = sink.sightings
                await asyncio.sleep(0.1)  # what the one before has under way ends, too
                await segment.discoverer.rescan()
                await until(lambda seen=seen: sink.sightings >= seen + segment.count)  # type: ignore[misc]  # bound early
            assert cached() <= 2 * before, "those in use, and those of what was just closed"


async def are_one_device_each(segment: Segment, sink: RecordingSink, serials: set[str]) -> None:
    await until(lambda: len(sink.seen) == len(serials))
    assert {one.attributes["txt.serial"] for one in sink.seen.values()} == serials
    for seen in tuple(sink.seen.values()):
        assert all(map(str.isprintable, (seen.key, seen.label, *seen.attributes.values())))
        found = await segment.discoverer.verify(seen)
        assert found is not None
        assert found.claims == seen.claims
    assert segment.discoverer.health.dropped == {}


async def test_a_device_with_an_odd_name_is_one_device_and_answers_for_itself() -> None:
    async with simulated(0) as segment, running(segment.discoverer) as sink:
        made = fleet(len(ODD), 7, service=f"{segment.type}.local")
        for child, name in zip(made, ODD, strict=True):
            segment.lan.add(replace(child, instance=name))
        await are_one_device_each(segment, sink, {child.serial for child in made})


async def test_a_device_with_an_odd_name_is_asked_for_what_it_did_not_announce() -> None:
    async with simulated(0) as segment, running(segment.discoverer) as sink:
        made = fleet(len(ODD), 7, service=f"{segment.type}.local")
        children = {
            name.encode(): replace(child, instance=name)
            for child, name in zip(made, ODD, strict=True)
        }
        shy = lan.Segment("127.0.0.1")

        def answer(packet: bytes, _: tuple[str, int]) -> None:
            message = dns.decode(packet)
            asked = {one.name[0] for one in message.questions}
            if (
                segment.type.partition(".")[0].encode() in asked
            ):  # all are asked for: pointers alone
                for name in children:
                    shy.send(pointer(segment.type, name))
            for child in (children[name] for name in asked & children.keys()):
                answers = records(child)[1:]
                shy.send(dns.encode(dns.DnsMessage(answers=answers, flags=dns.RESPONSE)))

        shy.open(answer)
        try:
            await are_one_device_each(segment, sink, {child.serial for child in made})
        finally:
            shy.close()


@pytest.mark.parametrize("poison", [b"x" + b"\xff" * 40, b"a..b", b".a", b"a."])
async def test_no_announcement_can_silence_our_questions(poison: bytes) -> None:
    """Listed as a known answer, such a name would break each question that lists it."""
    async with simulated(1) as segment, running(segment.discoverer) as sink:
        await until(lambda: len(sink.seen) == 1)
        async with Attacker(rng=segment.rng, service=f"{segment.type}.local") as attacker:
            await attacker.send([pointer(segment.type, poison)], 1, rate=100)
        dropped = segment.discoverer.health.dropped
        await until(lambda: {"bad-name", "unresolved"} & dropped.keys())
        before = segment.lan.counters.queries
        await until(lambda: segment.lan.counters.queries > before)


async def test_children_are_seen_through_a_flood_of_strangers() -> None:
    def interest(view: Mapping[str, str]) -> Interest:
        return Interest.WANTED if view["instance"].startswith("TH-20") else Interest.STRANGER

    async with simulated(5, 60) as segment, running(segment.discoverer, interest) as sink:
        async with Attacker(rng=segment.rng, service=f"{segment.type}.local") as attacker:
            await attacker.flood(1000, rate=2000)
        late: list[LanChild] = list(fleet(5, 99, service=f"{segment.type}.local"))
        for child in late:
            segment.lan.add(replace(child, address=f"127.1.201.{late.index(child) + 1}"))
        keys = {segment.key(number) for number in range(10)}
        await until(lambda: keys <= set(sink.seen))
        assert segment.discoverer.health.entries <= 60


async def test_one_interface_that_is_missing_does_not_stop_the_others() -> None:
    async with simulated(1) as segment:
        both = Mdns("mdns", MdnsSettings(("nosuch0", "lo"), (segment.type,)))
        async with running(both) as sink:
            await until(lambda: len(sink.seen) == 1)
            assert both.health.dropped == {"no-interface": 1}


async def test_no_interface_at_all_is_tried_later() -> None:
    nowhere = Mdns("mdns", MdnsSettings(("nosuch0",), ("_http._tcp",)))
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, lambda _: Interest.WANTED)
    with pytest.raises(DiscoveryRetry, match="nosuch0") as raised:
        await nowhere.run(context, RecordingSink())
    assert raised.value.after > 0


async def test_a_device_is_not_gone_while_the_kernel_is_still_read() -> None:
    async with simulated(1) as segment:
        async with running(segment.discoverer) as sink:
            await until(lambda: len(sink.seen) == 1)
            known = sink.seen[segment.key(0)]
        async with running(segment.discoverer):
            await asyncio.sleep(0)
            with pytest.raises(DiscoveryRetry):
                await segment.discoverer.verify(known)


async def test_a_discoverer_that_does_not_run_finds_nothing() -> None:
    async with simulated(1) as segment:
        async with running(segment.discoverer) as sink:
            await until(lambda: len(sink.seen) == 1)
            known = sink.seen[segment.key(0)]
        assert await segment.discoverer.verify(known) is None
        assert [one.reason for one in sink.lost] == [LossReason.STOPPED]


@pytest.mark.parametrize(
    ("interfaces", "types", "remedy"),
    [
        ((), ("_http._tcp",), "interfaces must name"),
        (("lo",), (), "types must name"),
        (("lo",), ("http",), "types must hold"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    interfaces: tuple[str, ...], types: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(ConfigError, match=remedy):
        Mdns("mdns", MdnsSettings(interfaces, types))
