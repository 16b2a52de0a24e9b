"""Killed at each durable step of a gain and a registration, a gateway goes on from there."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device.record import unchanged
from gatewayd.device.secret import Secret
from gatewayd.runtime.sqlite import Database
from gatewayd.site.etcd import EtcdClient
from tests.support.etcd import Cluster, running_etcd
from tests.support.replicas import NOW, Gateway, child, gateway

FEWEST = 4
"""Durable steps of either: fewer would mean that they are not counted."""


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with running_etcd() as cluster:
        yield cluster


def killed_at(step: int, act: Callable[[Connection], Awaitable[None]]) -> tuple[bool, list[Any]]:
    """Do something in a process of its own, killed right after a durable step.

    act: sends what has been acknowledged.  Returns whether it was killed, and what was sent.
    """
    receive, send = Pipe(duplex=False)
    process = os.fork()
    if not process:
        try:
            _count_down(step)
            asyncio.run(act(send))  # type: ignore[arg-type]  # it is a coroutine
            os._exit(0)
        finally:
            os._exit(1)
    send.close()
    status = os.waitpid(process, 0)[1]
    sent = []
    try:
        while True:
            sent.append(receive.recv())
    except EOFError:
        receive.close()
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
    return os.WIFSIGNALED(status), sent


def _count_down(step: int) -> None:
    """Have this process killed after so many commits that wrote, and transactions of etcd."""
    left = step
    commit, txn = Database.commit, EtcdClient.txn

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def committed(self: Database) -> None:
        wrote = self._begun
        commit(self)
        if wrote:
            count()

    async def answered(self: EtcdClient, *arguments: Any) -> Any:  # as of txn
        result = await txn(self, *arguments)
        count()
        return result

    Database.commit = committed  # type: ignore[method-assign]  # in a process that ends with it
    EtcdClient.txn = answered  # type: ignore[method-assign,assignment]  # likewise


async def register(one: Gateway, number: int, acknowledge: Callable[[str], object]) -> None:
    """Register a child as the registrar does; acknowledge each step that has returned."""
    record = await one.admit(number)
    acknowledge("admitted")
    await one.records.update(record.device, lambda r: unchanged(r).with_intent(NOW))
    acknowledge("intent")
    await one.secrets.put(record.slot(1), Secret(b"issued"))
    acknowledge("secret")
    await one.records.update(record.device, lambda r: unchanged(r).with_secret(1, NOW))
    acknowledge("pointer")


def test_a_gain_that_was_killed_at_any_step_is_done_again(etcd: Cluster, tmp_path: Path) -> None:
    """No secret is found lost, none is quarantined, and nothing is doubted."""
    numbers = (1, 2, 3)

    async def prepare() -> None:
        async with gateway(tmp_path / "b", etcd, "b") as b:
            for number in (2, 4):  # which it knows by ids of its own; the last one alone
                one = child(number, "b")
                await b.storage.records.update(one.device, lambda _, one=one: one)  # type: ignore[misc]  # bound now
        async with gateway(tmp_path / "a", etcd, "a") as a:
            await a.take(*numbers)
            for number in numbers:
                await register(a, number, lambda _: None)

    async def gain(_: Connection) -> None:
        async with gateway(tmp_path / "copy", etcd, "b") as b:
            await b.take(*numbers, 4)

    async def check() -> None:
        async with gateway(tmp_path / "copy", etcd, "b") as b:
            assert not b.storage.without_secret
            assert not b.storage.doubtful
            await b.take(*numbers, 4)
            assert len(list(b.records.all())) == len(numbers) + 1
            for number in numbers:
                record = b.records[child(number, "b" if number == 2 else "a").device]
                assert record.stored == 1
                assert await b.secrets.get(record.slot(1)) == Secret(b"issued")

    asyncio.run(prepare())
    for step in range(1000):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "b", tmp_path / "copy")
        was_killed, _ = killed_at(step, gain)
        asyncio.run(check())
        if not was_killed:
            break
    assert step >= FEWEST


def test_what_was_acknowledged_before_a_kill_is_at_the_taker(etcd: Cluster, tmp_path: Path) -> None:
    """And the gateway itself goes on with what it has, if no one took over."""
    for step in range(1000):
        number = 100 + step

        async def work(send: Connection, number: int = number) -> None:
            async with gateway(tmp_path / "a", etcd, "a") as a:
                await a.take(number)
                await register(a, number, send.send)

        was_killed, done = killed_at(step, work)
        asyncio.run(_compare(etcd, tmp_path, number, done))
        if not was_killed:
            break
    assert done[-1] == "pointer"
    assert step >= 3 * FEWEST


async def _compare(etcd: Cluster, tmp_path: Path, number: int, done: list[str]) -> None:
    device = child(number, "a").device
    async with gateway(tmp_path / "taker", etcd, "b") as taker:
        await taker.take(number)
        there = taker.records.get(device)
        assert (there is not None) or "admitted" not in done
        if there is not None:
            assert there.attempt or "intent" not in done
            has_secret = await taker.secrets.holds(there.slot(1))
            assert has_secret or "secret" not in done
            assert bool(there.stored) is has_secret
    async with gateway(tmp_path / "a", etcd, "a") as a:
        assert not a.storage.without_secret
        await a.take(number)
        here = a.records.get(device)
        if there is not None:
            assert here is not None
            assert here.stored >= there.stored
        if here is not None and here.attempt and not here.stored:
            assert not await a.secrets.holds(here.slot(1))
