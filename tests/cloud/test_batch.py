"""Batches: each item has its own end, whatever became of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.batch import BATCHES, Batcher, BatcherClosed, BatchRefused

LONG = 3600.0
"""Seconds for which no test waits."""


class Cloud:
    """Takes batches of numbers, and answers with their squares.

    bad: items for which a whole batch is refused.  held: whether answers wait for `go`.
    """

    def __init__(self, bad: Sequence[int] = (), *, held: bool = False) -> None:
        self.bad, self.batches = bad, list[list[int]]()
        self.go = asyncio.Event()
        self.changed = asyncio.Condition()
        if not held:
            self.go.set()

    async def send(self, items: Sequence[int]) -> Sequence[int | Exception]:
        async with self.changed:
            self.batches.append(list(items))
            self.changed.notify_all()
        await self.go.wait()
        if set(items) & set(self.bad):
            raise BatchRefused(*items)
        return [KeyError(item) if item < 0 else item * item for item in items]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: len(self.batches) == count)


@asynccontextmanager
async def batching(
    cloud: Cloud, size: int = 3, wait: float = LONG
) -> AsyncIterator[Batcher[int, int]]:
    batcher = Batcher[int, int](size, wait, cloud.send)
    try:
        async with asyncio.timeout(30):
            yield batcher
    finally:
        await batcher.close()


async def all_of(batcher: Batcher[int, int], items: Sequence[int]) -> list[int | BaseException]:
    return await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True)


async def test_a_full_batch_goes_at_once_and_in_order() -> None:
    cloud = Cloud()
    async with batching(cloud) as batcher:
        assert await all_of(batcher, range(6)) == [0, 1, 4, 9, 16, 25]
    assert cloud.batches == [[0, 1, 2], [3, 4, 5]]


async def test_one_that_is_not_full_goes_after_a_while() -> None:
    cloud = Cloud()
    async with batching(cloud, wait=0.01) as batcher:
        assert await all_of(batcher, range(4)) == [0, 1, 4, 9]
        assert await batcher.submit(5) == 25
    assert cloud.batches == [[0, 1, 2], [3], [5]]


async def test_an_error_of_one_item_is_its_own() -> None:
    async with batching(Cloud()) as batcher:
        first, second, third = await all_of(batcher, [1, -2, 3])
    assert (first, third) == (1, 9)
    assert isinstance(second, KeyError)


async def test_of_a_batch_that_is_refused_each_goes_alone() -> None:
    cloud = Cloud(bad=[2])
    async with batching(cloud) as batcher:
        first, second, third = await all_of(batcher, [1, 2, 3])
    assert (first, third) == (1, 9)
    assert isinstance(second, BatchRefused)
    assert cloud.batches == [[1, 2, 3], [1], [2], [3]]


@pytest.mark.parametrize("error", [ValueError(), TimeoutError()])
async def test_an_error_of_the_whole_is_that_of_each(error: Exception) -> None:
    async def fail(_: Sequence[int]) -> Sequence[int]:
        raise error

    batcher = Batcher[int, int](2, LONG, fail)
    assert await all_of(batcher, [1, 2]) == [error, error]
    await batcher.close()


async def test_too_few_results_are_an_error_of_each() -> None:
    async def forget(items: Sequence[int]) -> Sequence[int]:
        return items[1:]

    batcher = Batcher[int, int](2, LONG, forget)
    assert {type(one) for one in await all_of(batcher, [1, 2])} == {ValueError}
    await batcher.close()


async def test_whoever_gives_up_in_time_is_not_sent() -> None:
    cloud = Cloud()
    async with batching(cloud) as batcher:
        first, given_up = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait({given_up})
        assert await batcher.submit(3) == 9
        assert await first == 1
    assert cloud.batches == [[1, 3]]


async def test_cancelled_items_are_not_sent() -> None:
    cloud = Cloud()
    async with batching(cloud, wait=0.01) as batcher:
        given_up = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait({given_up})
        assert await batcher.submit(2) == 4
    assert cloud.batches == [[2]]


async def test_a_cancelled_item_does_not_harm_others() -> None:
    cloud = Cloud(held=True)
    async with batching(cloud) as batcher:
        waiting = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await cloud.until(1)
        waiting[0].cancel()
        await asyncio.wait({waiting[0]})
        cloud.go.set()
        assert await asyncio.gather(*waiting[1:]) == [4, 9]


async def test_no_more_is_taken_than_can_be_under_way() -> None:
    cloud = Cloud(held=True)
    async with batching(cloud, size=2) as batcher:
        waiting = [asyncio.create_task(batcher.submit(n)) for n in range(2 * BATCHES + 2)]
        await cloud.until(BATCHES)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(cloud.batches) == BATCHES
        cloud.go.set()
        assert await asyncio.gather(*waiting) == [n * n for n in range(2 * BATCHES + 2)]
    assert [n for batch in cloud.batches for n in batch] == list(range(2 * BATCHES + 2))


async def test_one_that_gives_up_before_its_turn_is_not_sent() -> None:
    cloud = Cloud(held=True)
    async with batching(cloud, size=2) as batcher:
        posted = [batcher.post(n) for n in range(2 * BATCHES + 3)]
        await cloud.until(BATCHES)
        given_up = posted.pop(-2)
        given_up.cancel()
        cloud.go.set()
        numbers = [n for n in range(2 * BATCHES + 3) if n != 2 * BATCHES + 1]
        assert await asyncio.gather(*posted) == [n * n for n in numbers]
        assert await all_of(batcher, [2, 3]) == [4, 9]
    assert [n for batch in cloud.batches for n in batch] == [*numbers, 2, 3]


async def test_closed_it_lets_everybody_go() -> None:
    cloud = Cloud(held=True)
    async with batching(cloud, size=2) as batcher:
        waiting = [asyncio.create_task(batcher.submit(n)) for n in range(2 * BATCHES + 3)]
        await cloud.until(BATCHES)
        await batcher.close()
        await batcher.close()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(one) for one in ended} == {BatcherClosed}
        with pytest.raises(BatcherClosed):
            await batcher.submit(1)
    assert len(cloud.batches) == BATCHES


async def test_closed_before_a_batch_was_sent() -> None:
    cloud = Cloud()
    async with batching(cloud) as batcher:
        waiting = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        await batcher.close()
        with pytest.raises(BatcherClosed):
            await waiting
    assert not cloud.batches


@given(
    st.lists(st.integers(-9, 9), max_size=40),
    st.integers(1, 7),
    st.sets(st.integers(-9, 9)),
)
async def test_each_item_has_the_end_that_it_would_have_alone(
    items: list[int], size: int, bad: set[int]
) -> None:
    def alone(item: int) -> object:
        return BatchRefused if item in bad else KeyError if item < 0 else item * item

    cloud = Cloud(sorted(bad))
    async with batching(cloud, size, wait=0.0) as batcher:
        ended = await all_of(batcher, items)
    shown = [type(one) if isinstance(one, BaseException) else one for one in ended]
    assert shown == [alone(item) for item in items]
    assert all(0 < len(batch) <= size for batch in cloud.batches)
