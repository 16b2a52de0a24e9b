"""The users of callers, and limits on what is under way."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.dbus import dispatch
from gatewayd.dbus.dispatch import CallerUsers, ConcurrencyLimit
from gatewayd.errors import AccessDenied, Busy


def test_each_owner_has_a_limit() -> None:
    limit = ConcurrencyLimit(2)
    for owner in (1, 1, 2):
        limit.acquire(owner)
    with pytest.raises(Busy):
        limit.acquire(1)
    limit.release(1)
    limit.acquire(1)
    for owner in (1, 1, 2):
        limit.release(owner)
    assert len(limit) == 0
    assert not limit._held


def test_all_owners_together_have_a_limit() -> None:
    limit = ConcurrencyLimit(2, total=3)
    for owner in (1, 1, 2):
        limit.acquire(owner)
    with pytest.raises(Busy):
        limit.acquire(3)
    limit.release(1)
    limit.acquire(3)


def test_what_is_refused_holds_nothing() -> None:
    limit = ConcurrencyLimit(1)
    with limit.hold(1), pytest.raises(Busy), limit.hold(1):
        pass
    assert len(limit) == 0
    assert not limit._held


class Bus:
    """Replies when a test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[int | None]] = []

    async def unix_user(self, _sender: str) -> int | None:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def test_a_user_is_asked_for_once() -> None:
    bus = Bus()
    users = CallerUsers(bus.unix_user, own=990, limit=2)
    first = asyncio.create_task(users.of(":1.7"))
    await asyncio.sleep(0)
    bus.asked[0].set_result(1000)
    assert [await first, await users.of(":1.7")] == [1000, 1000]
    assert len(bus.asked) == 1


async def test_a_user_that_is_not_reported_is_asked_for_again() -> None:
    bus = Bus()
    users = CallerUsers(bus.unix_user, own=990, limit=1)
    for _ in range(2):
        waiting = asyncio.create_task(users.of(":1.7"))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await users.of(":1.7")
        bus.asked.pop().set_result(None)
        with pytest.raises(AccessDenied):
            await waiting


async def test_what_is_remembered_is_bounded() -> None:
    async def one(_sender: str) -> int:
        return 1

    users = CallerUsers(one, own=990, limit=1)
    for number in range(dispatch.MAX_KNOWN + 5):
        await users.of(f":1.{number}")
    assert len(users._known) == dispatch.MAX_KNOWN


def test_root_and_the_daemons_own_user_are_trusted() -> None:
    users = CallerUsers(Bus().unix_user, own=990, limit=1)
    assert [users.trusts(uid) for uid in (0, 990, 1000, 65534)] == [True, True, False, False]
