"""The counter of the records that zeroconf keeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from zeroconf import DNSAddress, DNSCache, RecordUpdate

from gatewayd.discovery.mdns.zeroconf_backend import RecordCounter


def record(number: int) -> Any:
    return DNSAddress(f"host-{number}.local.", 1, 1, 120, bytes((10, 0, 0, 1)))


def test_what_has_expired_is_no_flood_and_what_is_kept_is() -> None:
    alarms: list[bool] = []
    library: Any = SimpleNamespace(cache=DNSCache())
    counter = RecordCounter(10, lambda: alarms.append(True))

    def receive(number: int, *, keep: bool) -> None:
        counter.async_update_records(library, 0.0, [RecordUpdate(record(number), None)])
        if keep:
            library.cache.async_add_records([record(number)])

    for number in range(1000):
        receive(number, keep=False)
    assert alarms == []
    for number in range(50):
        receive(number, keep=True)
    assert alarms


def test_a_repeated_record_is_not_counted_again() -> None:
    alarms: list[bool] = []
    library: Any = SimpleNamespace(cache=DNSCache())
    library.cache.async_add_records([record(number) for number in range(50)])
    counter = RecordCounter(10, lambda: alarms.append(True))
    for _ in range(100):
        counter.async_update_records(library, 0.0, [RecordUpdate(record(1), record(1))])
    assert alarms == []
