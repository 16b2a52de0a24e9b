"""Killed at each durable step of a gain and a registration, a gateway goes on from there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from gatewayd.device.record import Record
from gatewayd.device.secret import Secret
from tests.support.etcd import Cluster, running_etcd
from tests.support.replica_kills import Killing, Place, register
from tests.support.replicas import child, gateway

pytestmark = pytest.mark.integration

FEWEST = 10
"""Durable steps of either: fewer would mean that they are not counted."""


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with running_etcd() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def killing() -> Iterator[Killing]:
    made = Killing()
    yield made
    made.close()


def instead(one: Record, _: Record | None) -> Record:
    return one


def test_a_gain_that_was_killed_at_any_step_is_done_again(
    etcd: Cluster, killing: Killing, tmp_path: Path
) -> None:
    """No secret is found lost, none is quarantined, and nothing is doubted."""
    numbers = (1, 2, 3)
    place = Place(tmp_path / "copy", "b", etcd.settings())

    async def prepare() -> None:
        async with gateway(tmp_path / "b", etcd, "b") as b:
            for number in (2, 4):  # which it knows by ids of its own; the last one alone
                one = child(number, "b")
                await b.storage.records.update(one.device, partial(instead, one))
        async with gateway(tmp_path / "a", etcd, "a") as a:
            await a.take(*numbers)
            for number in numbers:
                await register(a, number, lambda _: None)

    async def check() -> None:
        async with gateway(place.directory, etcd, "b") as b:
            assert not b.storage.without_secret
            assert not b.storage.doubtful
            await b.take(*numbers, 4)
            assert len(list(b.records.all())) == len(numbers) + 1
            for number in numbers:
                record = b.records[child(number, "b" if number == 2 else "a").device]
                assert record.stored == 1
                assert await b.secrets.get(record.slot(1)) == Secret(b"issued")

    asyncio.run(prepare())
    for step in count():
        shutil.rmtree(place.directory, ignore_errors=True)
        shutil.copytree(tmp_path / "b", place.directory)
        was_killed, _ = killing.killed_at(step, "gain", place, *numbers, 4)
        asyncio.run(check())
        if not was_killed:
            break
    assert step >= FEWEST


def test_what_was_acknowledged_before_a_kill_is_at_the_taker(
    etcd: Cluster, killing: Killing, tmp_path: Path
) -> None:
    """And the gateway itself goes on with what it has, if no one took over."""
    place = Place(tmp_path / "a", "a", etcd.settings())
    for step in count():
        was_killed, done = killing.killed_at(step, "gain_and_register", place, 100 + step)
        asyncio.run(compare(etcd, tmp_path, 100 + step, done))
        if not was_killed:
            break
    assert done == ["admitted", "intent", "secret", "pointer"]
    assert step >= FEWEST


async def compare(etcd: Cluster, tmp_path: Path, number: int, done: list[str]) -> None:
    """Compare what a taker gets with what was acknowledged, and with what the gateway has."""
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
