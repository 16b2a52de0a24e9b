"""How tasks are ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gatewayd.runtime.tasks import (
    BackgroundTask,
    cancel_and_wait,
    first_of,
    going_on,
    is_cancelled,
    to_the_end,
)
from gatewayd.testing.waiting import until

Wait = Callable[[Coroutine[object, object, Any]], Coroutine[object, object, Any]]


async def _forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(1)
        ended.append("")


async def _fails_at_its_end() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError


@pytest.mark.parametrize("error", [None, ValueError()])
async def test_what_cannot_be_cancelled_ends_before_its_caller(error: Exception | None) -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        ended.append("")
        if error:
            raise error

    caller = asyncio.create_task(to_the_end(work()))
    await begun.wait()
    caller.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    await asyncio.wait({caller})
    assert ended
    assert caller.cancelled()


@pytest.mark.parametrize("error", [None, ValueError()])
async def test_what_goes_on_without_its_caller_ends_and_leaves_no_error_behind(
    error: Exception | None,
) -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    left: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))

    async def work() -> None:
        begun.set()
        await go_on.wait()
        ended.set()
        if error:
            raise error

    caller = asyncio.create_task(going_on(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert not ended.is_set()
    go_on.set()
    await ended.wait()
    del caller
    await asyncio.sleep(0)
    gc.collect()
    assert not left


@pytest.mark.parametrize("wait", [to_the_end, going_on])
async def test_its_result_and_its_error_reach_a_caller_that_is_not_cancelled(wait: Wait) -> None:
    assert await wait(asyncio.sleep(0, 7)) == 7
    with pytest.raises(TimeoutError):
        await wait(asyncio.wait_for(asyncio.Event().wait(), 0.01))


async def test_all_are_cancelled_and_waited_for() -> None:
    """Also where one fails at its end, and where each removes itself from the set."""
    ended: list[str] = []
    tasks: set[asyncio.Task[None]] = {
        asyncio.create_task(work)
        for work in (_forever(ended), _fails_at_its_end(), _forever(ended))
    }
    for task in tasks:
        task.add_done_callback(tasks.discard)
    everyone = tuple(tasks)
    await asyncio.sleep(0)
    await cancel_and_wait(tasks)
    assert all(task.done() for task in everyone)
    assert len(ended) == 2


async def test_only_a_request_to_end_counts_as_cancelled() -> None:
    seen: list[bool] = []

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            raise asyncio.CancelledError
        seen.append(is_cancelled())
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(is_cancelled())

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_and_wait([task])
    assert seen == [False, True]


async def test_background_work_is_done_once_at_a_time() -> None:
    begun, going = list[int](), asyncio.Event()

    async def work() -> None:
        begun.append(len(begun))
        await going.wait()

    task = BackgroundTask(work)
    task.begin()
    task.begin()
    await until(lambda: begun == [0])
    task.stop()
    assert task.stop() is None
    task.begin()
    await until(lambda: begun == [0, 1])
    going.set()
    await task.close()
    await task.close()
    task.begin()
    await until(lambda: begun == [0, 1, 2])
    await task.close()


async def _after(steps: int, result: str | None, ended: list[str]) -> str | None:
    try:
        for _ in range(steps):
            await asyncio.sleep(0)
        return result
    finally:
        ended.append(str(result))


@pytest.mark.parametrize(
    ("works", "first"),
    [
        ([(9, "late"), (1, "early")], "early"),
        ([(1, None), (9, "late")], "late"),
        ([(1, None), (2, None)], None),
    ],
)
async def test_the_first_result_counts_and_the_others_end(
    works: list[tuple[int, str | None]], first: str | None
) -> None:
    ended: list[str] = []
    assert await first_of(*(_after(*one, ended) for one in works)) == first
    assert len(ended) == len(works)


async def test_what_fails_before_there_is_a_result_is_raised() -> None:
    ended: list[str] = []

    async def fail() -> str:
        raise OSError("first")

    with pytest.raises(OSError, match="first"):
        await first_of(fail(), _after(9, "late", ended))
    assert ended == ["late"]
