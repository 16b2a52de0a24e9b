"""Deadlines, what is evicted first, and sightings that wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.discoverer import Loss, LossReason, Sighting
from gatewayd.discovery.queues import (
    DeadlineQueue,
    EvictionQueue,
    QueuedSighting,
    SightingQueue,
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


def sighting(key: str, label: str = "") -> Sighting:
    return Sighting("mdns", key, 0, 60, "", (), None, frozenset(), {}, label)


def loss(key: str) -> Loss:
    return Loss("mdns", key, 0, LossReason.GOODBYE)


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
