"""Pending requests: each gets its own reply, or an error."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.cloud.sub_devices.link import LinkDown, NoAnswer, NotSent
from gatewayd.cloud.sub_devices.pending_requests import PendingRequests
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.rate_limiter import RateLimiter, SlidingWindow
from gatewayd.testing.waiting import until


async def send() -> None:
    """Send the request."""


def closed() -> asyncio.Future[ConnectionEnd]:
    return asyncio.get_running_loop().create_future()


async def test_each_request_has_its_own_answer() -> None:
    pending = PendingRequests[int, str](closed(), 30.0)
    asking = [asyncio.create_task(pending.ask(number, send)) for number in range(3)]
    await until(lambda: 2 in pending)
    for number in (2, 0, 1):
        assert pending.resolve(number, f"answer {number}")
        assert not pending.resolve(number, "another")
    assert await asyncio.gather(*asking) == ["answer 0", "answer 1", "answer 2"]
    assert 0 not in pending
    assert not pending.resolve(0, "late")


async def test_an_answer_that_does_not_come() -> None:
    pending = PendingRequests[int, str](closed(), 0.01)
    with pytest.raises(NoAnswer):
        await pending.ask(1, send)
    assert 1 not in pending


async def test_the_end_of_the_session_ends_all_waits() -> None:
    end = closed()
    pending = PendingRequests[int, str](end, 30.0)
    asking = [asyncio.create_task(pending.ask(number, send)) for number in range(3)]
    await until(lambda: 2 in pending)
    end.set_result(ConnectionEnd.LOST)
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(one) for one in found} == {LinkDown}


@pytest.mark.jumping_clock
async def test_the_end_of_the_session_ends_the_wait_for_a_turn() -> None:
    end, now = closed(), asyncio.get_running_loop().time
    pending = PendingRequests[int, str](end, 30.0)
    limiter = RateLimiter(SlidingWindow(1, 3600.0), now, waiters=2)
    await pending.wait_turn(limiter)
    waiting = [asyncio.create_task(pending.wait_turn(limiter)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(NotSent):
        await pending.wait_turn(limiter)
    end.set_result(ConnectionEnd.LOST)
    await asyncio.gather(*waiting)
    assert now() < 3600
