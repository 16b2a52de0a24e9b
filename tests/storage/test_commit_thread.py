"""The commit thread: order, groups, and the results of the waiters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NoReturn

import pytest
import pytest_asyncio

from gatewayd.errors import StoreFull, StoreUnavailable
from gatewayd.runtime.sqlite import UndoesOthers
from gatewayd.storage.commit_thread import CommitThread


class Ledger:
    """A store in memory that writes down what it is asked; lines count when committed."""

    def __init__(self, reserves: int = 0) -> None:
        self.durable: list[str] = []
        self.open: list[str] = []
        self.calls: list[str] = []
        self.mark_at = 0
        self.reserves = reserves
        self.fail: Callable[[], None] = lambda: None

    def write(self, line: str) -> None:
        self.open.append(line)

    def begin(self) -> None:
        self.calls.append("begin")
        self.open = []

    def mark(self) -> None:
        self.mark_at = len(self.open)

    def undo(self) -> None:
        del self.open[self.mark_at :]

    def commit(self) -> None:
        self.fail()
        self.calls.append("commit")
        self.durable += self.open

    def rollback(self) -> None:
        self.calls.append("rollback")

    def make_room(self) -> bool:
        self.reserves -= 1
        return self.reserves >= 0

    def close(self) -> None:
        self.calls.append("close")


@pytest_asyncio.fixture
async def thread() -> AsyncIterator[CommitThread]:
    thread = CommitThread(limit=100)
    thread.start()
    yield thread
    await thread.aclose()


class Gate:
    """Holds the thread, so that what comes meanwhile becomes one group."""

    def __init__(self, thread: CommitThread) -> None:
        self.thread, self.released, self.entered = thread, threading.Event(), asyncio.Event()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()

        def hold() -> None:
            loop.call_soon_threadsafe(self.entered.set)
            assert self.released.wait(30)

        self.task = asyncio.create_task(self.thread.run(hold))
        await self.entered.wait()

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # the tasks made meanwhile queue their works
        self.released.set()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_whatever_is_queued_is_one_group(thread: CommitThread) -> None:
    ledger = await thread.open(Ledger)
    async with Gate(thread):
        works = [asyncio.create_task(thread.run(partial(ledger.write, str(n)))) for n in range(50)]
    await asyncio.gather(*works)
    assert ledger.durable == [str(n) for n in range(50)]
    assert ledger.calls == ["begin", "commit"] * 2


async def test_what_is_asked_for_in_one_turn_of_the_loop_is_one_group(
    thread: CommitThread,
) -> None:
    """However late the thread is, and however early."""
    ledger = await thread.open(Ledger)
    for batch in range(1, 21):
        await asyncio.gather(*(thread.run(partial(ledger.write, str(n))) for n in range(30)))
        assert ledger.calls == ["begin", "commit"] * batch


async def test_nobody_is_answered_before_the_commit_and_the_check(thread: CommitThread) -> None:
    ledger = await thread.open(Ledger)
    seen: list[list[str]] = []
    await thread.run(lambda: ledger.write("x"), lambda _: seen.append(list(ledger.durable)))
    assert seen == [["x"]]


async def test_a_result_is_returned(thread: CommitThread) -> None:
    assert await thread.run(lambda: 42) == 42


async def test_a_work_that_fails_fails_alone(thread: CommitThread) -> None:
    ledger = await thread.open(Ledger)

    def fail() -> NoReturn:
        ledger.write("half")
        raise ValueError("mine")

    async with Gate(thread):
        before = asyncio.create_task(thread.run(lambda: ledger.write("before")))
        failing = asyncio.create_task(thread.run(fail))
        after = asyncio.create_task(thread.run(lambda: ledger.write("after")))
    await asyncio.gather(before, after)
    with pytest.raises(ValueError, match="mine"):
        await failing
    assert ledger.durable == ["before", "after"]


class Undoing(Ledger):
    """A ledger in which a work is undone alone only where it is the first that has written."""

    def undo(self) -> None:
        if self.mark_at and len(self.open) > self.mark_at:
            raise UndoesOthers
        super().undo()


@pytest.mark.parametrize("failing", [{0}, {1}, {3}, {1, 2}, {0, 1, 2, 3}])
async def test_a_work_that_cannot_be_undone_alone_fails_alone(
    thread: CommitThread, failing: set[int]
) -> None:
    ledger = await thread.open(Undoing)

    def work(number: int) -> int:
        ledger.write(str(number))
        if number in failing:
            raise ValueError("mine")
        return number

    works = [thread.run(partial(work, number)) for number in range(4)]
    found = await asyncio.gather(*works, return_exceptions=True)
    assert [one for one in found if isinstance(one, int)] == [
        number for number in range(4) if number not in failing
    ]
    assert sum(isinstance(one, ValueError) for one in found) == len(failing)
    assert ledger.durable == [str(number) for number in range(4) if number not in failing]


async def test_a_store_that_never_undoes_fails_its_work(thread: CommitThread) -> None:
    class Never(Ledger):
        def undo(self) -> NoReturn:
            raise UndoesOthers

    await thread.open(Never)

    def fail() -> NoReturn:
        raise ValueError("mine")

    with pytest.raises(StoreUnavailable):
        await thread.run(fail)
    await thread.ping()


async def test_a_check_that_fails_is_raised(thread: CommitThread) -> None:
    def check(_: None) -> NoReturn:
        raise StoreUnavailable("read back differently")

    with pytest.raises(StoreUnavailable, match="differently"):
        await thread.run(lambda: None, check)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (StoreFull("full"), StoreFull),
        (StoreUnavailable("bad disk"), StoreUnavailable),
        (ZeroDivisionError(), StoreUnavailable),
    ],
)
async def test_a_commit_that_fails_fails_the_group_and_the_thread_lives(
    thread: CommitThread, fault: Exception, error: type[Exception]
) -> None:
    ledger = await thread.open(Ledger)

    def fail() -> NoReturn:
        raise fault

    async with Gate(thread):
        works = [asyncio.create_task(thread.run(lambda: ledger.write("lost"))) for _ in range(3)]
        ledger.fail = fail
    for work in works:
        with pytest.raises(error):
            await work
    ledger.fail = lambda: None
    await thread.run(lambda: ledger.write("kept"))
    assert ledger.durable == ["kept"]


async def test_a_full_disk_is_met_with_the_reserve(thread: CommitThread) -> None:
    ledger = await thread.open(lambda: Ledger(reserves=1))

    def fail_while_reserved() -> None:
        if ledger.reserves:
            raise StoreFull("full")

    ledger.fail = fail_while_reserved
    await thread.run(lambda: ledger.write("x"))
    assert ledger.durable == ["x"]
    assert ledger.calls == ["begin", "rollback", "begin", "commit"]


async def test_a_work_that_loses_the_group_fails_all_of_it(thread: CommitThread) -> None:
    class Lossy(Ledger):
        def undo(self) -> None:
            raise StoreUnavailable("no such savepoint")

    lossy = await thread.open(Lossy)

    def fail() -> NoReturn:
        raise StoreFull("full")

    async with Gate(thread):
        other = asyncio.create_task(thread.run(lambda: lossy.write("x")))
        failing = asyncio.create_task(thread.run(fail))
    for work in (other, failing):
        with pytest.raises(StoreFull):
            await work
    assert lossy.durable == []


async def test_who_is_cancelled_changes_nothing_for_the_others(thread: CommitThread) -> None:
    ledger = await thread.open(Ledger)
    async with Gate(thread):
        put = asyncio.create_task(thread.run(lambda: ledger.write("put")))
        await asyncio.sleep(0)
        put.cancel()
        delete = asyncio.create_task(thread.run(lambda: ledger.write("delete")))
    await delete
    assert put.cancelled()
    assert ledger.durable == ["put", "delete"]


async def test_a_work_that_is_shared_is_done_once_for_all_who_ask(thread: CommitThread) -> None:
    ledger = await thread.open(Ledger)
    outcomes = iter(["one", "", "another"])

    def work() -> str:
        outcome = next(outcomes)
        if not outcome:
            raise ValueError("mine")
        ledger.write(outcome)
        return outcome

    async with Gate(thread):
        asked = [asyncio.create_task(thread.share(work)) for _ in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
    assert await asyncio.gather(*asked[1:]) == ["one", "one"]
    assert asked[0].cancelled()
    failed = await asyncio.gather(*(thread.share(work) for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in failed] == ["mine"] * 3
    assert await thread.share(work) == "another"
    assert ledger.durable == ["one", "another"]


async def test_more_than_the_limit_is_refused(thread: CommitThread) -> None:
    async with Gate(thread):
        works = [asyncio.create_task(thread.run(lambda: None)) for _ in range(100)]
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [type(r) for r in results] == [type(None)] * 99 + [StoreUnavailable]
    await thread.ping()


async def test_what_cannot_be_opened_takes_no_part(thread: CommitThread) -> None:
    def make() -> Ledger:
        raise StoreUnavailable("locked")

    with pytest.raises(StoreUnavailable, match="locked"):
        await thread.open(make)
    await thread.ping()


async def test_closing_finishes_what_is_queued_and_closes_in_reverse() -> None:
    thread = CommitThread()
    thread.start()
    one = await thread.open(Ledger)
    two = await thread.open(Ledger)
    one.calls = two.calls = []
    async with Gate(thread):
        work = asyncio.create_task(thread.run(lambda: one.write("last")))
        await asyncio.sleep(0)
        closing = asyncio.create_task(thread.aclose())
    await asyncio.gather(work, closing, thread.aclose())
    assert one.durable == ["last"]
    assert one.calls[-2:] == ["close", "close"]
    with pytest.raises(StoreUnavailable):
        await thread.run(lambda: None)


async def test_a_thread_that_was_never_started_closes() -> None:
    await CommitThread().aclose()


def test_a_loop_that_is_gone_does_not_keep_the_thread() -> None:
    """The thread answers no waiter, and ends when it is closed."""
    thread = CommitThread()
    released = threading.Event()

    async def main() -> None:
        thread.start()
        asyncio.get_running_loop().create_task(thread.run(lambda: released.wait(30)))
        asyncio.get_running_loop().create_task(thread.aclose())
        await asyncio.sleep(0)

    asyncio.run(main())
    released.set()
