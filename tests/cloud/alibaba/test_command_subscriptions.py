"""Which children have their commands subscribed to, when not everything goes well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.commanding.subscriptions import (
    AGAIN,
    COMMANDED,
    CommandSubscriptions,
)
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.command_router import ChildCommands
from gatewayd.cloud.sub_devices.link import GatewayLink, NoAnswer
from gatewayd.device.command import ChildCommand
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.testing.waiting import until


class Uplink:
    """A session of the gateway.

    grants: whether a subscription is, or what is raised.  is_silent: about the next that ends.
    """

    def __init__(self) -> None:
        self.closed: asyncio.Future[ConnectionEnd] = asyncio.get_running_loop().create_future()
        self.grants: Callable[[SubName], bool] = lambda _: True
        self.asked: list[SubName] = []
        self.is_silent = False
        self.subscribed: set[SubName] = set()

    async def subscribe_to_commands(self, child: SubName) -> bool:
        await asyncio.sleep(0)
        self.asked.append(child)
        if granted := self.grants(child):
            self.subscribed.add(child)
        return granted

    async def unsubscribe_from_commands(self, child: SubName) -> None:
        await asyncio.sleep(0)
        if self.is_silent:
            self.is_silent = False
            raise NoAnswer
        self.subscribed.discard(child)


def child(number: int) -> SubName:
    return SubName("a1Child", f"child-{number:03}")


def ignore(_: ChildCommand) -> None:
    pass


class Children:
    """Children with sessions over which they receive commands."""

    def __init__(self, subscriptions: CommandSubscriptions) -> None:
        self._subscriptions = subscriptions

    def begin(self) -> None:
        """Note that the gateway has a new session."""
        self._subscriptions.begin()

    def open(self, number: int) -> ChildCommands:
        async def answer(*_: object) -> bool:
            return True

        session = ChildCommands(
            answer, list, lambda one: self._subscriptions.want(child(number), one)
        )
        session.receive_commands(ignore)
        return session


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[GatewayLink[AlibabaUplink], Uplink, Children]]:
    link, uplink = GatewayLink[AlibabaUplink](), Uplink()
    link.put(cast("AlibabaUplink", uplink))
    subscriptions = CommandSubscriptions(link)
    yield link, uplink, Children(subscriptions)
    await subscriptions.close()


async def test_a_refusal_is_not_repeated_before_the_child_comes_again() -> None:
    async with stage() as (_, uplink, children):
        uplink.grants = lambda one: one != child(0)
        session = children.open(0)
        children.open(1)
        await until(lambda: child(1) in uplink.subscribed)
        assert uplink.asked.count(child(0)) == 1
        uplink.grants = lambda _: True
        session.end()
        children.open(0)
        await until(lambda: child(0) in uplink.subscribed)


def unanswered(_: SubName) -> bool:
    raise NoAnswer


async def test_what_is_not_answered_is_asked_again_with_the_next_change() -> None:
    async with stage() as (_, uplink, children):
        uplink.grants = unanswered
        children.open(0)
        await until(lambda: bool(uplink.asked))
        uplink.grants = lambda _: True
        children.open(1)
        await until(lambda: uplink.subscribed == {child(0), child(1)})


@pytest.mark.jumping_clock
async def test_what_is_not_answered_is_asked_again_where_nothing_changes() -> None:
    async with stage() as (_, uplink, children):
        asked_at: list[float] = []

        def fail_twice(_: SubName) -> bool:
            asked_at.append(asyncio.get_running_loop().time())
            if len(asked_at) < 3:
                raise NoAnswer
            return True

        uplink.grants = fail_twice
        children.open(0)
        await asyncio.sleep(3 * AGAIN)
        assert uplink.subscribed == {child(0)}
        assert [round(at - asked_at[0]) for at in asked_at] == [0, AGAIN, 2 * AGAIN]


async def test_a_new_session_of_the_gateway_waits_for_no_second_request_over_the_older() -> None:
    async with stage() as (link, older, children):
        older.grants = unanswered
        children.open(0)
        await until(lambda: bool(older.asked))
        newer = Uplink()
        link.put(cast("AlibabaUplink", newer))
        children.begin()
        await until(lambda: newer.subscribed == {child(0)})


@pytest.mark.jumping_clock
async def test_an_end_that_is_not_answered_is_asked_for_again_and_makes_room() -> None:
    async with stage() as (_, uplink, children):
        session = children.open(0)
        await until(lambda: bool(uplink.subscribed))
        uplink.is_silent = True
        session.end()
        await asyncio.sleep(2 * AGAIN)
        assert not uplink.subscribed


async def test_a_new_session_of_the_gateway_has_all_of_them() -> None:
    async with stage() as (link, older, children):
        for number in range(3):
            children.open(number)
        await until(lambda: len(older.subscribed) == 3)
        newer = Uplink()
        link.put(cast("AlibabaUplink", newer))
        children.open(3)
        await until(lambda: len(newer.subscribed) == 4)


async def test_those_that_expect_commands_push_others_out_and_no_more_than_there_is_room() -> None:
    async with stage() as (_, uplink, children):
        sessions = [children.open(number) for number in range(COMMANDED + 5)]
        await until(lambda: len(uplink.subscribed) == COMMANDED)
        for session in sessions[-3:]:
            session.expect(expected=True)
        wanted = {child(number) for number in range(COMMANDED + 2, COMMANDED + 5)}
        await until(lambda: wanted <= uplink.subscribed)
        assert len(uplink.subscribed) == COMMANDED
        for session in sessions:
            session.end()
        await until(lambda: not uplink.subscribed)


async def test_without_a_session_of_the_gateway_nothing_is_done() -> None:
    subscriptions = CommandSubscriptions(GatewayLink[AlibabaUplink]())
    children = Children(subscriptions)
    children.open(0).end()
    await subscriptions.close()


async def test_that_there_is_no_room_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as (_, _, children):
        for number in range(COMMANDED + 3):
            children.open(number).expect(expected=True)
        for _ in range(5):
            children.open(COMMANDED).expect(expected=True)
        assert [entry.levelname for entry in caplog.records] == ["WARNING"]
