"""The D-Bus thread, and the ways to it and to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar

import pytest

from gatewayd.dbus.glib import BusThread
from gatewayd.errors import Busy
from gatewayd.testing.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def thread() -> AsyncIterator[BusThread]:
    made = BusThread(asyncio.get_running_loop(), limit=3)
    made.start()
    yield made
    await made.stop()


async def test_results_and_errors_come_back(thread: BusThread) -> None:
    assert await thread.run(lambda: threading.current_thread().name) == "dbus"
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)
    await thread.ping()


async def test_a_call_that_fails_does_not_end_the_thread(
    thread: BusThread, caplog: pytest.LogCaptureFixture
) -> None:
    thread.post(lambda: 1 / 0)
    await thread.ping()
    assert caplog.records[0].exc_info is not None


async def test_the_thread_calls_on_the_event_loop(thread: BusThread) -> None:
    names: list[str] = []
    thread.post(thread.call_on_loop, lambda: names.append(threading.current_thread().name))
    await until(lambda: names)
    assert names == ["MainThread"]


async def test_what_a_call_begins_has_the_context_of_the_start() -> None:
    """As the fence of a site, which each connection to a cloud looks for in its context."""
    bound: ContextVar[str] = ContextVar("bound", default="")
    bound.set("by the start")
    made, seen = BusThread(asyncio.get_running_loop(), limit=3), list[str]()

    async def note() -> None:
        seen.append(bound.get())

    def begin() -> None:
        begun.append(asyncio.get_running_loop().create_task(note()))

    begun: list[asyncio.Task[None]] = []
    made.start()
    try:
        made.post(made.call_on_loop, begin)
        await until(lambda: seen)
    finally:
        await made.stop()
    assert seen == ["by the start"]
    assert begun[0].done()


async def test_calls_are_made_in_order(thread: BusThread) -> None:
    done: list[int] = []
    for number in range(3):
        thread.post(done.append, number)
    await until(lambda: len(done) == 3)
    assert done == [0, 1, 2]


async def test_calls_that_are_awaited_are_bounded(thread: BusThread) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(20)

    thread.post(hold)
    await until(held.is_set)
    for _ in range(3):
        thread.post(int)
    with pytest.raises(Busy):
        await thread.ping()
    posted = list[int]()
    thread.post(posted.append, 1)
    go.set()
    await until(lambda: posted)


async def test_a_call_that_is_not_awaited_any_more_does_no_harm(thread: BusThread) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(20)

    thread.post(hold)
    await until(held.is_set)
    waiting = asyncio.create_task(thread.ping())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    await thread.ping()


async def test_what_a_callback_gets_later_is_returned(thread: BusThread) -> None:
    callbacks: list[Callable[[int], None]] = []
    waiting = asyncio.create_task(thread.run_async(callbacks.append))
    await until(lambda: callbacks)
    assert not waiting.done()
    thread.post(callbacks[0], 7)
    assert await waiting == 7


async def test_a_callback_may_come_too_late(thread: BusThread) -> None:
    callbacks: list[Callable[[int], None]] = []
    waiting = asyncio.create_task(thread.run_async(callbacks.append))
    await until(lambda: callbacks)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    thread.post(callbacks[0], 7)
    await thread.ping()
