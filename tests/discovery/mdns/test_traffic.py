"""Which packets are read: the budgets, on a clock that the test sets."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.mdns import traffic
from gatewayd.discovery.mdns.traffic import (
    KNOWN,
    NAMED,
    OTHER,
    PacketVerdict,
    Traffic,
    count_entries,
)
from gatewayd.runtime.rate_limiter import Budget
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import fleet

TYPE = "_gatewayd-child._tcp"
CHILD = dns.encode(records.announcement(fleet(1, 1)[0]))
"""What a real child announces: four records in some 300 bytes."""


def response(records: int = 0, size: int = 12) -> bytes:
    return struct.pack("!6H", 0, 0x8400, 0, records, 0, 0) + bytes(size - 12)


def query(flags: int = 0, size: int = 100) -> bytes:
    return struct.pack("!6H", 0, flags, 0, 0, 0, 0) + bytes(size - 12)


def address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def judge(known: Iterable[str] = ()) -> Traffic:
    return Traffic([TYPE], frozenset(known).__contains__, 0.0)


def verdicts(
    one: Traffic, sender: str | None, packet: bytes, count: int, now: float = 0.0
) -> Counter[PacketVerdict]:
    """Judge packets that come at once.  sender: None for another with each."""
    return Counter(one.judge(sender or address(n), packet, now) for n in range(count))


def test_a_child_is_read() -> None:
    assert judge().judge("10.0.0.1", CHILD, 0.0) is PacketVerdict.PASS


@pytest.mark.parametrize("flags", [0, dns.TRUNCATED, 0x7FFF])
@pytest.mark.parametrize("sender", ["10.0.0.1", "10.0.0.2"])
def test_no_query_is_ever_read(flags: int, sender: str) -> None:
    judged = verdicts(judge(known=["10.0.0.1"]), sender, query(flags, 8900), 10_000)
    assert set(judged) == {PacketVerdict.QUERY, PacketVerdict.QUERY_FLOOD}


def test_a_few_queries_are_no_flood() -> None:
    one = judge()
    for second in range(600):
        assert set(verdicts(one, None, query(), 50, now=second)) == {PacketVerdict.QUERY}


@pytest.mark.parametrize(
    ("packet", "entries"),
    [
        (b"", None),
        (bytes(11), None),
        (response(), 0),
        (CHILD, 4),
        (response(1, 22), None),
        (response(1, 23), 1),
        (response(65535, 9000), None),
        (struct.pack("!6H", 0, 0, 1, 1, 1, 1) + bytes(37), None),
        (struct.pack("!6H", 0, 0, 1, 1, 1, 1) + bytes(38), 4),
    ],
)
def test_entries_are_counted_where_there_is_room_for_them(
    packet: bytes, entries: int | None
) -> None:
    assert count_entries(packet) == entries


@given(st.binary(max_size=60))
def test_no_packet_makes_it_fail(packet: bytes) -> None:
    assert judge().judge("10.0.0.1", packet, 0.0) in PacketVerdict


def test_one_sender_does_not_use_up_the_budget_of_another() -> None:
    one = judge()
    assert verdicts(one, "10.0.0.1", CHILD, 10_000)[PacketVerdict.SENDER_FLOOD] > 9000
    assert one.judge("10.0.0.2", CHILD, 0.0) is PacketVerdict.PASS


def test_a_new_address_in_every_packet_does_not_help() -> None:
    judged = verdicts(judge(), None, CHILD, 20_000)
    assert judged[PacketVerdict.PASS] < 8000
    assert judged[PacketVerdict.LINK_FLOOD] > 12_000


@pytest.mark.parametrize("packet", [CHILD, response(800, 8900), response(0, 12)])
def test_devices_on_record_are_read_whatever_strangers_send(packet: bytes) -> None:
    one = judge(known=["10.9.0.1"])
    verdicts(one, None, packet, 40_000)
    assert one.judge("10.9.0.1", CHILD, 0.0) is PacketVerdict.PASS


def test_who_forges_the_address_of_one_child_does_not_silence_another() -> None:
    one = judge(known=["10.9.0.1", "10.9.0.2"])
    verdicts(one, "10.9.0.1", CHILD, 10_000)
    assert one.judge("10.9.0.2", CHILD, 0.0) is PacketVerdict.PASS


def test_who_forges_the_addresses_of_all_children_is_bounded() -> None:
    children = [address(n) for n in range(20_000)]
    assert verdicts(judge(known=children), None, CHILD, 20_000)[PacketVerdict.PASS] < 8000


def test_what_names_no_type_does_not_keep_out_what_does() -> None:
    one = judge()
    assert verdicts(one, None, response(1, 3000), 40_000)[PacketVerdict.LINK_FLOOD] > 30_000
    assert one.judge("10.9.0.1", CHILD, 0.0) is PacketVerdict.PASS
    assert (
        one.judge("10.9.0.2", CHILD.replace(b"_gatewayd", b"_GATEWAYD"), 0.0) is PacketVerdict.PASS
    )


def test_a_budget_comes_back_with_time_and_no_further() -> None:
    one = judge()
    verdicts(one, "10.0.0.1", CHILD, 10_000)
    for now, least in ((1.0, 4), (2.0, 4), (10_000.0, 300), (10_001.0, 4)):
        passed = verdicts(one, "10.0.0.1", CHILD, 10_000, now)[PacketVerdict.PASS]
        assert least <= passed < 2 * least


def test_a_clock_that_stands_still_gives_nothing_back() -> None:
    one = judge()
    verdicts(one, "10.0.0.1", CHILD, 10_000, now=5.0)
    assert one.judge("10.0.0.1", CHILD, 4.0) is PacketVerdict.SENDER_FLOOD


@pytest.mark.parametrize("size", [12, 300, 1400, 8900])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_read_in_a_minute_is_bounded_whatever_is_sent(size: int, known: bool) -> None:
    """In cost, which is what it takes of memory, and in packets, which is what it takes of time."""
    rng = random.Random(size)
    one = Traffic([TYPE], lambda _: known, 0.0)
    packets = cost = 0
    for n in range(60_000):
        entries = rng.choice((0, (size - 12) // 11))
        packet = response(entries, size)
        if one.judge(address(rng.randrange(1 << 24)), packet, n / 1000) is PacketVerdict.PASS:
            packets, cost = packets + 1, cost + traffic.PACKET + size + traffic.ENTRY * entries
    budget = KNOWN if known else OTHER
    assert cost <= budget.cost * (budget.burst + 60)
    assert packets <= budget.packets * (budget.burst + 60)


@pytest.mark.parametrize("budget", [KNOWN, NAMED])
def test_five_thousand_children_that_answer_at_once_are_all_read(budget: Budget) -> None:
    children = [address(n) for n in range(5000)]
    one = judge(known=children if budget is KNOWN else ())
    assert verdicts(one, None, CHILD, 5000) == {PacketVerdict.PASS: 5000}
