"""Budgets of what is read, on a clock that the test sets."""

from __future__ import annotations

from gatewayd.runtime.rate_limiter import Bucket, Budget, FloodAlarm, Senders

EACH = Budget(packets=20, cost=16 << 10, burst=64)


def test_the_senders_that_are_remembered_are_bounded() -> None:
    senders = Senders(EACH, limit=10)
    first = senders.of("first", 0.0)
    for n in range(1000):
        senders.of(f"{n}", 0.0)
        assert senders.of("first", 0.0) is first
        assert len(senders) <= 10


def test_a_sender_may_spend_its_budget_and_no_more() -> None:
    bucket = Bucket(EACH, 0.0)
    spent = 0
    while bucket.covers(4096, 0.0):
        bucket.spend(4096)
        spent += 4096
    assert spent == EACH.cost * EACH.burst


def test_an_alarm_rings_once_until_it_has_been_calm() -> None:
    alarm = FloodAlarm(calm=60.0)
    assert not alarm.is_on(0.0)
    assert [alarm.ring(now) for now in (0.0, 1.0, 60.9, 120.8)] == [True, False, False, False]
    assert alarm.is_on(180.0)
    assert not alarm.is_on(181.0)
    assert alarm.ring(181.0)
