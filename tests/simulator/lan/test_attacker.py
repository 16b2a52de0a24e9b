"""The attacker: bounded, seeded, and as nasty as it says."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import islice

import pytest
import pytest_asyncio

from gatewayd.simulator.lan import attacker as hostile
from gatewayd.simulator.lan.attacker import Attacker
from gatewayd.simulator.lan.child import LanChild, fleet
from gatewayd.simulator.lan.dns import (
    MAX_MESSAGE,
    DnsMessage,
    MalformedDns,
    PointerData,
    TextData,
    decode,
    name,
)
from gatewayd.simulator.lan.floods import FLOODS, FOREVER
from gatewayd.simulator.lan.lan import SimulatedLan
from gatewayd.simulator.lan.records import records
from gatewayd.simulator.lan.segment import Segment

SERVICE = f"_h{secrets.token_hex(5)}._tcp.local"
RATE = 2000.0
PATIENCE = 60.0


def dice() -> random.Random:
    return random.Random(3)  # play


@pytest.fixture
def attacker() -> Attacker:
    return Attacker(rng=dice(), service=SERVICE)


class Witness:
    """Hears what is said about our service type on the segment."""

    def __init__(self) -> None:
        self.received: list[DnsMessage] = []
        self.unreadable = 0
        self._news = asyncio.Event()

    def receive(self, packet: bytes, _: object) -> None:
        try:
            message = decode(packet)
        except MalformedDns:
            self.unreadable += 1
            return
        if any(record.name == name(SERVICE) for record in message.answers):
            self.received.append(message)
            self._news.set()

    async def count(self, n: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < n:
                self._news.clear()
                await self._news.wait()

    @property
    def instances(self) -> list[str]:
        targets = (m.answers[0].data for m in self.received)
        return [t.target[0].decode() for t in targets if isinstance(t, PointerData)]


@pytest_asyncio.fixture
async def witness() -> AsyncIterator[Witness]:
    witness, segment = Witness(), Segment("127.0.0.1")
    segment.open(witness.receive)
    yield witness
    segment.close()


async def test_a_flood_has_as_many_names_as_were_ordered(
    attacker: Attacker, witness: Witness
) -> None:
    async with attacker:
        assert await attacker.flood(200, RATE) == 200
        assert await attacker.impersonate(50, RATE) == 50
    await witness.count(250)
    assert len(set(witness.instances)) == 250
    assert sum(instance.startswith("TH-20 ") for instance in witness.instances) == 50


async def test_oversized_text_is_as_big_as_a_message_may_be(
    attacker: Attacker, witness: Witness
) -> None:
    async with attacker:
        assert await attacker.oversize(3, RATE) == 3
    await witness.count(3)
    texts = [r.data for r in witness.received[0].answers if isinstance(r.data, TextData)]
    assert 8000 < sum(len(string) for string in texts[0].strings) < MAX_MESSAGE


async def test_hostile_names_and_serials_arrive_unharmed(
    attacker: Attacker, witness: Witness
) -> None:
    async with attacker:
        sent = await attacker.hostile_text(RATE)
    await witness.count(sent)
    assert set(hostile.NAMES) <= set(witness.instances)
    found = {string for message in witness.received for string in strings(message)}
    assert {f"serial={serial}".encode() for serial in hostile.SERIALS} <= found


def strings(message: DnsMessage) -> Iterator[bytes]:
    for record in message.answers:
        if isinstance(record.data, TextData):
            yield from record.data.strings


async def test_a_goodbye_in_the_name_of_another(attacker: Attacker, witness: Witness) -> None:
    child = fleet(1, 1, service=SERVICE)[0]
    async with attacker:
        assert attacker.spoof_goodbye(child)
    await witness.count(1)
    assert witness.instances == [child.instance]
    assert {record.ttl for record in witness.received[0].answers} == {0}


async def test_a_lan_survives_what_is_broken(attacker: Attacker, witness: Witness) -> None:
    async with SimulatedLan(fleet(2, 1, service=SERVICE), rng=dice(), spread=0.1) as lan, attacker:
        assert await attacker.malform(300, RATE) == 300
        await witness.count(4)
        assert [found["presence"] for found in lan.truth()["children"]] == ["present", "present"]
        lan.leave(0)
        await asyncio.wait_for(goodbye(witness, lan.child(0)), PATIENCE)


async def goodbye(witness: Witness, child: LanChild) -> None:
    said = replace(records(child)[0], ttl=0)
    while not any(said in message.answers for message in witness.received):
        await asyncio.sleep(0.02)


def test_broken_datagrams_are_broken_in_many_ways() -> None:
    reasons: Counter[str] = Counter()
    for packet in islice(hostile.malformed(dice(), SERVICE), 500):
        try:
            decode(packet)
        except MalformedDns as error:
            reasons[str(error)] += 1
    assert reasons.total() > 300
    assert len(reasons) >= 4


def test_the_same_seed_attacks_in_the_same_way() -> None:
    first, second = (list(islice(hostile.malformed(dice(), SERVICE), 50)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("n", "rate"), [(100_001, 1e6), (-1, 1), (1, 0), (1000, 1), (1, -5)])
async def test_an_attack_without_bounds_is_refused(n: int, rate: float, attacker: Attacker) -> None:
    async with attacker:
        with pytest.raises(ValueError, match="bounds"):
            await attacker.flood(n, rate)


async def test_a_slow_attack_ends_too(attacker: Attacker) -> None:
    async with attacker:
        assert await attacker.flood(2, 20) == 2


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_sends_the_largest_packets_and_no_two_alike(kind: str) -> None:
    packets = list(islice(FLOODS[kind](dice(), SERVICE), 20))
    assert len(set(packets)) == 20
    assert all(8000 < len(packet) <= 8966 for packet in packets) or kind == "unreadable-names"


@pytest.mark.parametrize("kind", ["heavy-texts", "many-names", "many-records"])
def test_what_floods_the_memory_can_be_read(kind: str) -> None:
    owners = set[object]()
    for packet in islice(FLOODS[kind](dice(), SERVICE), 20):
        message = decode(packet)
        assert all(record.ttl == FOREVER for record in message.answers)
        owners |= {record.data for record in message.answers}
    assert len(owners) > {"heavy-texts": 30, "many-names": 5000, "many-records": 10_000}[kind]


async def test_a_forged_sender_is_another_in_each_packet() -> None:
    senders = Counter[str]()
    segment = Segment("127.0.0.1")

    def receive(packet: bytes, sender: tuple[str, int]) -> None:
        if SERVICE.partition(".")[0].encode() in packet:
            senders[sender[0]] += 1

    segment.open(receive)
    try:
        async with Attacker(rng=dice(), service=SERVICE, forge="127.9.0.0/16") as attacker:
            sent = await attacker.exhaust("truncated-queries", 30, RATE)
            async with asyncio.timeout(PATIENCE):
                while senders.total() < sent:
                    await asyncio.sleep(0.01)
    finally:
        segment.close()
    assert len(senders) == 30
    assert all(sender.startswith("127.9.") for sender in senders)
