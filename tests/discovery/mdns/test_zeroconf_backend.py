"""What zeroconf keeps: its records are counted in bytes, and of its faults nothing is kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from zeroconf import DNSAddress, DNSCache, DNSText, RecordUpdate

from gatewayd.discovery.mdns.traffic import ENTRY
from gatewayd.discovery.mdns.zeroconf_backend import RecordCounter


def record(number: int) -> Any:
    return DNSAddress(f"host-{number}.local.", 1, 1, 120, bytes((10, 0, 0, 1)))


def text(number: int) -> Any:
    return DNSText(f"host-{number}.local.", 16, 1, 120, bytes(8000))


class Kept:
    """A counter, and the cache whose bytes it counts."""

    def __init__(self, limit: int) -> None:
        self.zeroconf: Any = SimpleNamespace(cache=DNSCache())
        self.alarms: list[int] = []
        self.counter = RecordCounter(limit, lambda: self.alarms.append(self.kept))

    @property
    def kept(self) -> int:
        cache = self.zeroconf.cache
        return sum(len(cache.entries_with_name(name)) for name in cache.names())

    def receive(self, one: Any, *, old: Any = None, keep: bool = True) -> None:
        self.counter.async_update_records(self.zeroconf, 0.0, [RecordUpdate(one, old)])
        if keep:
            self.zeroconf.cache.async_add_records([one])


@pytest.mark.parametrize(("make", "most"), [(record, 100), (text, 8)])
def test_it_is_full_before_the_records_take_more_than_the_limit(make: Any, most: int) -> None:
    kept = Kept(100 * ENTRY)
    for number in range(200):
        kept.receive(make(number))
    assert kept.alarms
    assert 0.5 * most < kept.alarms[0] <= most


def test_what_has_expired_is_not_counted() -> None:
    kept = Kept(10 * ENTRY)
    for number in range(1000):
        kept.receive(record(number), keep=False)
    assert kept.alarms == []


def test_a_repeated_record_is_not_counted_again() -> None:
    kept = Kept(100 * ENTRY)
    for number in range(50):
        kept.receive(record(number))
    for _ in range(1000):
        kept.receive(record(1), old=record(1))
    assert kept.alarms == []
