"""Who is logged in over a gateway's link: each child once, and none before it has logged out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatewayd.cloud.batch import Batcher, BatchRefused
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.provider import (
    LoginFailed,
    LoginRemoved,
    MessageDelayed,
    Publication,
    SessionEnd,
)
from gatewayd.cloud.publisher import ACCEPTED
from gatewayd.cloud.sub_devices import sessions
from gatewayd.cloud.sub_devices.result_codes import LINK_LOST
from gatewayd.cloud.sub_devices.sessions import OpenSessions, SubDeviceSession
from gatewayd.device.message import Message
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import cancel
from gatewayd.testing.waiting import until
from tests.cloud.stand_ins import commands_of_no_kind

NAME = CloudName("cloud", "product", "child")


@dataclass
class Cloud:
    """said: what was asked, in order.  open: whether the cloud answers.
    slow: for whom alone it is waited; all where it is empty."""

    said: list[str] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def log_in(self, child: str) -> None:
        self.said.append(f"in {child}")
        await self.open.wait()

    async def log_out(self, children: Sequence[str]) -> Sequence[None]:
        if self.slow and len(children) > 1:
            raise BatchRefused
        self.said.extend(f"out {child}" for child in children)
        if not self.slow or self.slow & set(children):
            await self.open.wait()
        return [None] * len(children)


@dataclass
class Publisher:
    """A publisher with a planned outcome, once it may end.  Implements MessagePublisher."""

    max_payload: int = 100
    outcome: Publication | Exception = ACCEPTED
    may: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, _: Message, ended: asyncio.Future[Any]) -> Publication:
        await self.may.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass
class Stage:
    cloud: Cloud
    online: OpenSessions[str]
    publisher: Publisher = field(default_factory=Publisher)

    async def enter(self, child: str) -> SubDeviceSession:
        async def log_in() -> None:
            await self.online.commit(child, self.cloud.log_in(child))

        return await self.online.open(child, NAME, Secret(b""), self.publisher, log_in)


@asynccontextmanager
async def stage(*, answers: bool = True) -> AsyncIterator[Stage]:
    cloud = Cloud()
    batcher = Batcher[str, None](10, 0.01, cloud.log_out)
    one = Stage(cloud, OpenSessions(batcher, time.monotonic, commands_of_no_kind()))
    if answers:
        cloud.open.set()
    try:
        yield one
    finally:
        await one.online.close()
        await batcher.close()


SAID = Message("properties", b"{}", 0)
BY_CLOUD = SessionEnd(Reason("cloud-no-session", "It has ended."), by_cloud=True)


async def test_what_a_child_says_goes_by_its_publisher() -> None:
    async with stage() as one:
        session = await one.enter("a")
        one.publisher.may.set()
        assert await session.publish(SAID) == ACCEPTED
        assert session.max_payload == 100


@pytest.mark.parametrize("by_cloud", [True, False])
async def test_what_is_accepted_while_the_cloud_ends_the_session_is_delayed(
    *, by_cloud: bool
) -> None:
    """A cloud acknowledges also what it drops, as the child is not online there."""
    async with stage() as one:
        session = await one.enter("a")
        saying = asyncio.create_task(session.publish(SAID))
        await asyncio.sleep(0)
        if by_cloud:
            one.online.end("a", BY_CLOUD)
        else:
            await session.close()
        one.publisher.may.set()
        assert await saying == (MessageDelayed(BY_CLOUD.reason) if by_cloud else ACCEPTED)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_message_without_a_link_is_delayed(*, ended: bool) -> None:
    async with stage() as one:
        session = await one.enter("a")
        one.publisher.outcome = Gone()
        one.publisher.may.set()
        if ended:
            one.online.end("a", BY_CLOUD)
        expected = BY_CLOUD.reason if ended else LINK_LOST
        assert await session.publish(SAID) == MessageDelayed(expected)


async def test_a_child_that_closes_is_logged_out() -> None:
    async with stage() as one:
        session = await one.enter("a")
        assert one.online.get("a") is session
        assert one.online.busy("a")
        await session.close()
        assert one.cloud.said == ["in a", "out a"]
        assert not one.online.busy("a")


async def test_a_session_closes_in_time_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "CLOSE_TIME", 0.1)
    async with stage() as one:
        session = await one.enter("a")
        one.cloud.open.clear()
        await session.close()
        assert one.online.busy("a")
        again = asyncio.create_task(one.enter("a"))
        await asyncio.sleep(0)
        assert one.cloud.said == ["in a", "out a"]
        one.cloud.open.set()
        assert (await again).name == NAME
        assert one.cloud.said == ["in a", "out a", "in a"]


async def test_a_login_that_is_given_up_is_undone_when_it_is_done() -> None:
    async with stage(answers=False) as one:
        task: asyncio.Task[object] = asyncio.create_task(one.enter("a"))
        await until(lambda: one.cloud.said == ["in a"])
        assert await cancel(task)
        one.cloud.open.set()
        await until(lambda: one.cloud.said == ["in a", "out a"])
        await until(lambda: not one.online.busy("a"))


async def test_a_link_that_is_lost_ends_all_and_opens_none() -> None:
    async with stage() as one:
        session = await one.enter("a")
        one.cloud.open.clear()
        late = asyncio.create_task(one.enter("b"))
        await until(lambda: "in b" in one.cloud.said)
        assert one.online.end_all() == [NAME]
        assert (await session.wait_closed()).reason.code == "gateway-link-lost"
        one.cloud.open.set()
        with pytest.raises(LoginFailed):
            await late
        assert not one.online.sessions()


async def test_leaving_logs_out_all_even_who_is_about_to_come() -> None:
    async with stage() as one:
        session = await one.enter("a")
        one.cloud.open.clear()
        late = asyncio.create_task(one.enter("b"))
        await until(lambda: "in b" in one.cloud.said)
        leaving = asyncio.create_task(one.online.leave(20.0, 20.0))
        await until(lambda: "out a" in one.cloud.said)
        closing = asyncio.create_task(session.close())
        one.cloud.open.set()
        await asyncio.gather(leaving, closing)
        with pytest.raises(LoginFailed):
            await late
        assert sorted(one.cloud.said) == ["in a", "in b", "out a", "out b"]


@pytest.mark.parametrize(("patience", "most"), [(0.05, 60.0), (60.0, 0.05)])
async def test_leaving_takes_so_long_and_no_longer(patience: float, most: float) -> None:
    async with stage() as one:
        await one.enter("a")
        one.cloud.open.clear()
        await one.online.leave(patience, most)
        assert one.online.busy("a")


async def test_leaving_goes_on_as_long_as_the_cloud_does() -> None:
    async with stage() as one:
        for child in "ab":
            await one.enter(child)
        one.cloud.slow = {"b"}
        one.cloud.open.clear()
        leaving = asyncio.create_task(one.online.leave(0.5, 20.0))
        await until(lambda: {"out a", "out b"} <= set(one.cloud.said))
        one.cloud.open.set()
        await leaving
        assert sorted(one.cloud.said[2:]) == ["out a", "out b"]


@pytest.mark.parametrize("known", [True, False])
async def test_who_was_removed_while_away_learns_it_once(*, known: bool) -> None:
    async with stage() as one:
        one.online.remove("a", known=known)
        if known:
            with pytest.raises(LoginRemoved):
                await one.enter("a")
        await one.enter("a")
        one.online.remove("b", known=known)
        one.online.expect("b")
        await one.enter("b")


async def test_a_child_removed_while_online_ends() -> None:
    async with stage() as one:
        session = await one.enter("a")
        one.online.remove("a", known=True)
        assert (await session.wait_closed()).removed
        await one.enter("a")


async def test_whom_we_remove_is_not_taken_for_removed() -> None:
    async with stage() as one:
        session = await one.enter("a")
        with one.online.unbinding("a"):
            one.online.remove("a", known=True)
        one.online.unbound("a")
        assert not (await session.wait_closed()).removed
        await one.enter("a")


async def test_a_stranger_is_logged_out() -> None:
    async with stage() as one:
        await one.online.log_out("a")
        assert one.cloud.said == ["out a"]
