"""The bounds of the tracker: table and queues."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.mdns.records import InstanceName, ServiceInfo, sighting
from gatewayd.discovery.mdns.tracker import (
    NameTable,
    ResolveQueue,
    TrackedName,
)

TYPE = "_gatewayd-child._tcp"


def name(text: str) -> InstanceName:
    return InstanceName(TYPE, text)


def entry(text: str, *, wanted: bool = True) -> TrackedName:
    info = ServiceInfo("h.local.", 1, ("192.0.2.1",), b"", 0.0, 60.0)
    return TrackedName(name(text), wanted, sighting(name(text), info, "s", "eth1"))


def test_strangers_leave_before_the_wanted_and_the_oldest_first() -> None:
    table = NameTable(3)
    left = [table.put(one) for one in (entry("w1"), entry("s1", wanted=False), entry("w2"))]
    assert left == [None, None, None]
    assert table.put(entry("w3")) == entry("s1", wanted=False)
    assert table.put(entry("s2", wanted=False)) == entry("s2", wanted=False)
    assert table.put(entry("W1")) is None  # announced again: now the youngest
    assert table.put(entry("w4")) == entry("w2")
    assert [one.name.instance for one in table] == ["w3", "W1", "w4"]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans())), st.integers(1, 4))
def test_a_table_never_outgrows_its_limit_nor_loses_silently(
    puts: list[tuple[str, bool]], limit: int
) -> None:
    table, held = NameTable(limit), set[str]()
    for text, wanted in puts:
        held.add(name(text).key)
        left = table.put(entry(text, wanted=wanted))
        if left:
            held.remove(left.name.key)
        assert {one.name.key for one in table} == held
        assert len(table) <= limit


class Work:
    """Resolves when released, and records the order in which it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.drops: list[str] = []
        self.dropped: list[str] = []

    def drop(self, cause: str, one: InstanceName) -> None:
        self.drops.append(cause)
        self.dropped.append(one.instance)

    async def resolve(self, one: InstanceName) -> None:
        self.asked.append(one.instance)
        await self.go.wait()
        if one.instance == "bad":
            raise ValueError("the library has tripped")


async def test_a_queue_takes_the_newest_first_and_drops_the_oldest() -> None:
    work = Work()
    queue = ResolveQueue(work.resolve, work.drop, in_flight=2, waiting=3)
    for text in ("1", "2", "3", "4", "5", "6", "4", "1"):
        queue.put(name(text))
    queue.forget(name("5").key)
    await asyncio.sleep(0)
    assert work.asked == ["1", "2"]
    assert (work.drops, work.dropped) == (["queue-full"], ["3"])
    work.go.set()
    while len(work.asked) < 4:
        await asyncio.sleep(0)
    assert work.asked == ["1", "2", "4", "6"]
    await queue.clear()


async def test_a_queue_outlives_what_the_library_trips_over() -> None:
    work = Work()
    work.go.set()
    queue = ResolveQueue(work.resolve, work.drop, in_flight=1, waiting=3)
    queue.put(name("bad"))
    queue.put(name("good"))
    while len(work.asked) < 2:
        await asyncio.sleep(0)
    assert (work.drops, work.dropped) == (["resolve-failed"], ["bad"])
    await queue.clear()


@pytest.mark.parametrize("started", [True, False])
async def test_a_queue_that_is_cleared_can_be_used_again(started: bool) -> None:
    work = Work()
    queue = ResolveQueue(work.resolve, work.drop, in_flight=1, waiting=3)
    queue.put(name("a"))
    queue.put(name("b"))
    if started:
        await asyncio.sleep(0)
    await queue.clear()
    queue.put(name("c"))
    await asyncio.sleep(0)
    assert work.asked == (["a", "c"] if started else ["c"])
    await queue.clear()
