"""When a child answers, on a clock that jumps, and to whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

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
from gatewayd.testing import clock

CHILD = fleet(1, seed=1)[0]
POINTER, SERVICE, TEXT, ADDRESS = records.records(CHILD)
ASKER: Endpoint = ("127.0.0.1", 5353)


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


def play(script: Callable[[Bench], Awaitable[None]]) -> Bench:
    """Run a script, and wait an hour for all that follows."""

    async def main() -> Bench:
        bench = Bench()
        await script(bench)
        await asyncio.sleep(3600)
        return bench

    return clock.run(main())


def test_it_announces_itself_twice() -> None:
    async def script(bench: Bench) -> None:
        bench.responder.announce(0.5)

    bench = play(script)
    assert [(at, to) for at, _, to in bench.said] == [(0.5, GROUP), (1.5, GROUP)]
    assert bench.said[0][1].answers == (POINTER, SERVICE, TEXT, ADDRESS)


def test_a_shared_record_is_delayed_and_brings_the_others_along() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),)))

    [(at, message, to)] = play(script).said
    assert 0.020 <= at <= 0.120
    assert message.answers == (POINTER,)
    assert message.additionals == (SERVICE, TEXT, ADDRESS)
    assert to == GROUP


def test_unique_records_are_sent_at_once() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(SERVICE.name, SRV), DnsQuestion(TEXT.name, TXT))))

    [(at, message, _)] = play(script).said
    assert at == 0
    assert message.answers == (SERVICE, TEXT)
    assert message.additionals == (ADDRESS,)


def test_what_is_known_is_not_said() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), (replace(POINTER, ttl=2250),)))

    bench = play(script)
    assert bench.said == []
    assert bench.counters.suppressed == 1


def test_what_is_known_no_longer_than_half_its_life_is_said_again() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), (replace(POINTER, ttl=2249),)))

    assert len(play(script).said) == 1


def test_known_answers_in_several_parts_are_waited_for() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), flags=TRUNCATED))
        await asyncio.sleep(0.3)
        bench.ask(DnsMessage(answers=(POINTER,)))

    assert play(script).said == []


def test_parts_that_never_come_are_not_waited_for() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), flags=TRUNCATED))

    [(at, _, _)] = play(script).said
    assert 0.42 <= at <= 0.62


def test_a_record_is_multicast_once_a_second() -> None:
    async def script(bench: Bench) -> None:
        for _ in range(3):
            bench.ask(DnsMessage((DnsQuestion(ADDRESS.name, A),)))
            await asyncio.sleep(0.4)
        await asyncio.sleep(0.1)
        bench.ask(DnsMessage((DnsQuestion(ADDRESS.name, A),)))

    assert [round(at, 6) for at, _, _ in play(script).said] == [0, 1.3]


def test_who_wants_unicast_gets_it_if_all_heard_it_lately() -> None:
    async def script(bench: Bench) -> None:
        question = DnsQuestion(POINTER.name, PTR, unicast=True)
        bench.ask(DnsMessage((question,)))
        await asyncio.sleep(1)
        bench.ask(DnsMessage((question,)))
        await asyncio.sleep(1200)
        bench.ask(DnsMessage((question,)))

    assert [to for _, _, to in play(script).said] == [GROUP, ASKER, GROUP]


def test_a_resolver_of_unicast_dns_is_answered_in_its_own_way() -> None:
    question = DnsQuestion(SERVICE.name, SRV)

    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((question,), id=4711), ("127.0.0.1", 40_000))

    [(_, message, to)] = play(script).said
    assert to == ("127.0.0.1", 40_000)
    assert (message.id, message.questions) == (4711, (question,))
    assert {(r.ttl, r.flush) for r in (*message.answers, *message.additionals)} == {(10, False)}


def test_it_hears_so_many_askers_at_once_and_no_more() -> None:
    async def script(bench: Bench) -> None:
        for port in range(40_000, 40_000 + 2 * MAX_PENDING):
            bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),)), ("127.0.0.1", port))

    assert len(play(script).said) == MAX_PENDING


def test_who_falls_silent_says_nothing_more() -> None:
    async def script(bench: Bench) -> None:
        bench.responder.announce(0)
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),)))
        bench.responder.silence()

    assert play(script).said == []


def test_a_goodbye_takes_everything_back() -> None:
    async def script(bench: Bench) -> None:
        bench.responder.leave()

    [(_, message, to)] = play(script).said
    assert to == GROUP
    assert message.answers == tuple(
        replace(record, ttl=0) for record in (POINTER, SERVICE, TEXT, ADDRESS)
    )


def test_a_new_name_takes_back_the_old_one_and_keeps_the_host() -> None:
    async def script(bench: Bench) -> None:
        bench.responder.rename()

    [(_, message, _)] = play(script).said
    assert message.answers == tuple(replace(r, ttl=0) for r in (POINTER, SERVICE, TEXT))


def test_noise_is_counted_and_answers_are_no_queries() -> None:
    async def script(bench: Bench) -> None:
        bench.hearing.receive(b"noise", ASKER)
        bench.hearing.receive(dns.encode(records.announcement(CHILD)), ASKER)

    bench = play(script)
    assert (bench.counters.malformed, bench.counters.queries) == (1, 0)


def test_who_stops_listening_waits_for_no_more_parts() -> None:
    async def script(bench: Bench) -> None:
        bench.ask(DnsMessage((DnsQuestion(POINTER.name, PTR),), flags=TRUNCATED))
        bench.hearing.close()

    assert play(script).said == []
