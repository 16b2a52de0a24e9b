"""Deadlines, what is evicted first, and sightings that wait."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.discoverer import Loss, LossReason, Origin, Sighting
from gatewayd.discovery.queues import (
    DeadlineQueue,
    EvictionQueue,
    QueuedSighting,
    SightingQueue,
    UnprovenOrigins,
)


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 99)))))
def test_each_key_is_due_once_at_its_newest_deadline(
    steps: list[tuple[int, int | None]],
) -> None:
    queue = DeadlineQueue[int]()
    model: dict[int, int] = {}
    for key, moment in steps:
        if moment is None:
            queue.discard(key)
            model.pop(key, None)
        else:
            queue.put(key, moment)
            model[key] = moment
    assert len(queue) == len(model)
    for now in range(100):
        due = set()
        while (key_due := queue.pop(now)) is not None:
            due.add(key_due)
        assert due == {key for key, moment in model.items() if moment == now}
        assert queue.next() == min((m for m in model.values() if m > now), default=None)


def test_replaced_deadlines_do_not_pile_up() -> None:
    queue = DeadlineQueue[str]()
    for n in range(10_000):
        queue.put("x", 1e6 + n)
    assert len(queue._heap) < 100
    assert queue.pop(1e6 + 9_998) is None
    assert queue.pop(1e6 + 9_999) == "x"


def test_an_empty_queue_has_no_lowest_key() -> None:
    with pytest.raises(LookupError):
        EvictionQueue[str]().lowest()


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 3)))))
def test_the_oldest_of_the_lowest_rank_is_lowest(steps: list[tuple[int, int | None]]) -> None:
    queue = EvictionQueue[int]()
    model: dict[int, int] = {}
    for key, rank in steps:
        model.pop(key, None)
        if rank is None:
            queue.discard(key)
        else:
            queue.put(key, rank)
            model[key] = rank
        assert len(queue) == len(model)
        assert (key in queue) == (rank is not None)
        if model:
            assert queue.lowest() == min(model, key=lambda k: model[k])


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1), st.sampled_from("abc")), max_size=99)
)
def test_no_share_pushes_out_what_another_has_within_an_equal_part(
    steps: list[tuple[int, int, str]],
) -> None:
    queue, limit = EvictionQueue[int](), 9
    model: dict[int, tuple[int, str]] = {}
    for key, rank, share in steps:
        model.pop(key, None)
        model[key] = rank, share
        queue.put(key, rank, (share,))
        if len(queue) > limit:
            lowest = queue.lowest()
            low = min(rank for rank, _ in model.values())
            shares = Counter(share for rank, share in model.values() if rank == low)
            assert model[lowest][0] == low
            most = model[lowest][1]
            assert shares[most] == max(shares.values())
            assert lowest == next(k for k, place in model.items() if place == (low, most))
            queue.discard(lowest)
            del model[lowest]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.sampled_from("abc")), max_size=99)
)
def test_each_share_keeps_so_many_whatever_another_has(steps: list[tuple[int, int, str]]) -> None:
    queue, limit = EvictionQueue[int](), 4
    model: dict[int, tuple[int, str]] = {}
    for key, rank, share in steps:
        model.pop(key, None)
        model[key] = rank, share
        queue.put(key, rank, (share,))
        shares = Counter(share for _, share in model.values())
        excess = queue.excess(limit)
        assert (excess is None) == (max(shares.values()) <= limit)
        if excess is not None:
            own = [one for one, (_, of) in model.items() if shares[of] > limit]
            assert excess == min(own, key=lambda one: model[one][0]), "the oldest of the lowest"
            queue.discard(excess)
            del model[excess]


def test_what_several_shares_have_counts_for_the_one_with_the_fewest() -> None:
    queue = EvictionQueue[str]()
    queue.put("lamp", 0, ("mdns", "ssdp"))
    for number in range(5):
        queue.put(f"liar-{number}", 0, ("ssdp",))
        queue.put("lamp", 0, ("mdns", "ssdp"))
    assert queue.lowest() == "liar-0"


def sighting(key: str, label: str = "", source: str = "mdns") -> Sighting:
    return Sighting(source, key, 0, 60, "", (), None, frozenset(), {}, label)


def loss(key: str) -> Loss:
    return Loss("mdns", key, 0, LossReason.GOODBYE)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_flood_of_one_source_neither_pushes_out_nor_delays_another(rank: int) -> None:
    dropped: list[Origin] = []
    queue = SightingQueue(100, dropped.append)
    for number in range(40):
        queue.sight(sighting(f"child-{number}", source="mdns/lan0"), rank)
        for liar in range(50):
            queue.sight(sighting(f"liar-{number}-{liar}", source=f"ssdp/lan{liar % 2}"), rank)
    assert {source.partition("/")[0] for source, _ in dropped} == {"ssdp"}
    assert (len(queue), queue.waiting("mdns"), queue.waiting("ssdp")) == (100, 40, 60)
    popped = [queue.pop() for _ in range(80)]
    children = [one for one in popped if one and one.sighting and one.sighting.source[:1] == "m"]
    assert len(children) == 40


def test_of_one_source_what_came_first_is_first() -> None:
    queue = SightingQueue(10)
    for key, source in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y/lan0"), ("e", "x")):
        queue.sight(sighting(key, source=source), 0)
    order = [one.sighting.key for _ in range(5) if (one := queue.pop()) and one.sighting]
    assert order == ["a", "c", "b", "d", "e"]


def test_the_newest_of_an_origin_takes_the_turn_of_the_first() -> None:
    queue = SightingQueue(10)
    for key, label in (("a", "old"), ("b", ""), ("a", "new")):
        queue.sight(sighting(key, label), 0)
    assert [queue.pop(), queue.pop(), queue.pop()] == [
        QueuedSighting(sighting("a", "new")), QueuedSighting(sighting("b")), None,
    ]  # fmt: skip


def test_a_loss_comes_after_the_sighting_and_a_sighting_ends_it() -> None:
    queue = SightingQueue(10)
    queue.sight(sighting("a"), 0)
    queue.lose(loss("a"), 0)
    queue.lose(loss("b"), 0)
    queue.sight(sighting("b"), 0)
    assert queue.pop() == QueuedSighting(sighting("a"), loss("a"))
    assert queue.pop() == QueuedSighting(sighting("b"))


def test_without_room_the_lowest_rank_goes_first_and_is_counted() -> None:
    queue = SightingQueue(2)
    for key, rank in (("a", 1), ("b", 0), ("c", 1), ("d", 0)):
        queue.sight(sighting(key), rank)
    assert (len(queue), queue.overflow) == (2, 2)
    assert [queue.pop(), queue.pop()] == [
        QueuedSighting(sighting("a")),
        QueuedSighting(sighting("c")),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "discard", "found", "pop"]), st.integers(0, 5), st.integers()
        )
    )
)
def test_an_origin_is_judged_again_once_its_address_is_known(
    steps: list[tuple[str, int, int]],
) -> None:
    unproven, model, due = UnprovenOrigins(3), dict[Origin, set[str]](), dict[Origin, None]()
    for step, number, more in steps:
        origin, addresses = ("mdns", str(number)), {f"10.0.0.{number % 3}", f"fe80::{more % 4}"}
        if step in ("put", "discard"):
            unproven.discard(origin)
            model.pop(origin, None)
            due.pop(origin, None)
        if step == "put":
            unproven.put(origin, [f"{one}%lan0" if ":" in one else one for one in addresses])
            model[origin] = addresses
            for oldest in list(model)[:-3]:
                del model[oldest]
                due.pop(oldest, None)
        elif step == "found":
            there = [one for one, at in model.items() if f"10.0.0.{number % 3}" in at]
            assert unproven.found(f"10.0.0.{number % 3}") is bool(there)
            due |= dict.fromkeys(there)
        elif step == "pop":
            popped = unproven.pop()
            assert popped in due if due else popped is None
            if popped is not None:
                del due[popped], model[popped]
        assert (len(unproven), unproven.is_due) == (len(model), bool(due))
