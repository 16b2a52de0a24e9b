"""When a child answers, on a clock that jumps, and to whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import fleet
from gatewayd.simulator.lan.dns import PTR, SRV, TRUNCATED, TXT, A, DnsMessage, DnsQuestion
from gatewayd.simulator.lan.responder import (
    MAX_PENDING,
    MdnsCounters,
    MdnsResponder,
    QueryAssembler,
)
from gatewayd.simulator.lan.segment import GROUP, Endpoint

CHILD = fleet(1, seed=1)[0]
POINTER, SERVICE, TEXT, ADDRESS = records.records(CHILD)
ASKER: Endpoint = ("127.0.0.1", 5353)

pytestmark = pytest.mark.jumping_clock


@dataclass
class Bench:
    """One responder with ears, and what it said: when, what, to whom."""

    counters: MdnsCounters = field(default_factory=MdnsCounters)
    said: list[tuple[float, DnsMessage, Endpoint]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(1)  # play
        self.responder = MdnsResponder(CHILD, self._send, rng, self.counters)
        self.hearing = QueryAssembler(self.responder.handle_query, rng, self.counters)

    def ask(self, message: DnsMessage, sender: Endpoint = ASKER) -> None:
        self.hearing.receive(dns.encode(message), sender)

    def _send(self, message: DnsMessage, to: Endpoint, source: str) -> bool:
        assert source == CHILD.address
        self.said.append((asyncio.get_running_loop().time(), message, to))
        return True


@asynccontextmanager
async def an_hour() -> AsyncIterator[Bench]:
    """Wait an hour after the block for all that follows."""
    bench = Bench()
    yield bench
    await asyncio.sleep(3600)


async def test_it_announces_itself_twice() -> None:
    async with an_hour() as bench:
        bench.responder.announce(0.5)
    assert [(at, to) for at, _, to in bench.said] == [(0.5, GROUP), (1.5, GROUP)]
    assert bench.said[0][1].answers == (POINTER, SERVICE, TEXT, ADDRESS)


async def test_a_shared_record_is_delayed_and_brings_the_others_along() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),)))
    [(at, message, to)] = bench.said
    assert 0.020 <= at <= 0.120
    assert message.answers == (POINTER,)
    assert message.additionals == (SERVICE, TEXT, ADDRESS)
    assert to == GROUP


async def test_unique_records_are_sent_at_once() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(SERVICE.name, SRV), DnsQuestion(TEXT.name, TXT))))
    [(at, message, _)] = bench.said
    assert at == 0
    assert message.answers == (SERVICE, TEXT)
    assert message.additionals == (ADDRESS,)


async def test_what_is_known_is_not_said() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), (replace(POINTER, ttl=2250),)))
    assert bench.said == []
    assert bench.counters.suppressed == 1


async def test_what_is_known_no_longer_than_half_its_life_is_said_again() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), (replace(POINTER, ttl=2249),)))
    assert len(bench.said) == 1


async def test_known_answers_in_several_parts_are_waited_for() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), flags=TRUNCATED))
        await asyncio.sleep(0.3)
        bench.ask(DnsMessage(answers=(POINTER,)))
    assert bench.said == []


async def test_parts_that_never_come_are_not_waited_for() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), flags=TRUNCATED))
    [(at, _, _)] = bench.said
    assert 0.42 <= at <= 0.62


async def test_a_record_is_multicast_once_a_second() -> None:
    async with an_hour() as bench:
        for _ in range(3):
            bench.ask(DnsMessage((DnsQuestion(ADDRESS.name, A),)))
            await asyncio.sleep(0.4)
        await asyncio.sleep(0.1)
        bench.ask(DnsMessage((DnsQuestion(ADDRESS.name, A),)))
    assert [round(at, 6) for at, _, _ in bench.said] == [0, 1.3]


async def test_a_unicast_answer_needs_a_recent_multicast() -> None:
    async with an_hour() as bench:
        question = DnsQuestion(POINTER.name, PTR, unicast=True)
        bench.ask(DnsMessage((question,)))
        await asyncio.sleep(1)
        bench.ask(DnsMessage((question,)))
        await asyncio.sleep(1200)
        bench.ask(DnsMessage((question,)))
    assert [to for _, _, to in bench.said] == [GROUP, ASKER, GROUP]


async def test_a_resolver_of_unicast_dns_is_answered_in_its_own_way() -> None:
    question = DnsQuestion(SERVICE.name, SRV)
    async with an_hour() as bench:
        bench.ask(DnsMessage((question,), id=4711), ("127.0.0.1", 40_000))
    [(_, message, to)] = bench.said
    assert to == ("127.0.0.1", 40_000)
    assert (message.id, message.questions) == (4711, (question,))
    assert {(r.ttl, r.flush) for r in (*message.answers, *message.additionals)} == {(10, False)}


async def test_pending_answers_are_bounded() -> None:
    async with an_hour() as bench:
        for port in range(40_000, 40_000 + 2 * MAX_PENDING):
            bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),)), ("127.0.0.1", port))
    assert len(bench.said) == MAX_PENDING


async def test_a_silenced_responder_sends_nothing() -> None:
    async with an_hour() as bench:
        bench.responder.announce(0)
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),)))
        bench.responder.silence()
    assert bench.said == []


async def test_a_goodbye_takes_everything_back() -> None:
    async with an_hour() as bench:
        bench.responder.leave()
    [(_, message, to)] = bench.said
    assert to == GROUP
    assert message.answers == tuple(
        replace(record, ttl=0) for record in (POINTER, SERVICE, TEXT, ADDRESS)
    )


async def test_a_new_name_takes_back_the_old_one_and_keeps_the_host() -> None:
    async with an_hour() as bench:
        bench.responder.rename()
    [(_, message, _)] = bench.said
    assert message.answers == tuple(replace(r, ttl=0) for r in (POINTER, SERVICE, TEXT))


async def test_noise_is_counted_and_answers_are_no_queries() -> None:
    async with an_hour() as bench:
        bench.hearing.receive(b"noise", ASKER)
        bench.hearing.receive(dns.encode(records.announcement(CHILD)), ASKER)
    assert (bench.counters.malformed, bench.counters.queries) == (1, 0)


async def test_a_closed_assembler_waits_for_no_more_parts() -> None:
    async with an_hour() as bench:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), flags=TRUNCATED))
        bench.hearing.close()
    assert bench.said == []
