"""What becomes of messages on which a broker closes the connection, and of those beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.mqtt_broker.large_messages import (
    CUTS,
    LARGE,
    MAX_SUSPECTS,
    SOON,
    CautiousPublisher,
    LargeMessages,
)
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.provider import MessageAccepted, MessageRefused, Publication
from gatewayd.device.message import Message

LIMIT, WINDOW = 5000, 8
SIZES = st.lists(st.integers(1, 9000), min_size=1, max_size=20)


class Session:
    """What a broker does in one session: it ends at the first message above its limit."""

    def __init__(self, limit: int, clock: list[float], lasts: float = 0.0) -> None:
        self.max_payload, self._ended = 10_000, False
        self._limit, self._clock, self._lasts = limit, clock, lasts

    async def publish(self, message: Message, _: asyncio.Future[Any]) -> Publication:
        self._ended = self._ended or len(message.payload) > self._limit
        await asyncio.sleep(0)
        if self._ended:
            self._clock[0] += self._lasts
            raise Gone
        return MessageAccepted()


async def sent(
    sizes: Sequence[int], large: LargeMessages, limit: int = LIMIT, sessions: int = 200
) -> tuple[list[int], int]:
    """Publish until all is gone; return which messages were refused, and after how many ends."""
    clock = [0.0]
    ended = asyncio.get_running_loop().create_future()
    left = [Message("a", n.to_bytes(4, "big").ljust(size), 0) for n, size in enumerate(sizes)]
    refused, ends = [], 0
    while left:
        assert ends < sessions, "it is repeated for ever"
        one = CautiousPublisher(Session(limit, clock), large, lambda: clock[0])
        results = await asyncio.gather(
            *(one.publish(message, ended) for message in left[:WINDOW]), return_exceptions=True
        )
        ends += any(isinstance(result, Gone) for result in results)
        for message, result in zip(left[:WINDOW], results, strict=True):
            if isinstance(result, MessageRefused):
                refused.append(int.from_bytes(message.payload[:4], "big"))
            if not isinstance(result, Gone):
                left.remove(message)
    return sorted(refused), ends


@given(SIZES)
async def test_all_that_is_too_large_is_refused_and_nothing_else(sizes: list[int]) -> None:
    refused, ends = await sent(sizes, LargeMessages())
    assert refused == [n for n, size in enumerate(sizes) if max(size, 4) > LIMIT]
    assert ends <= CUTS * len(refused)


async def test_one_that_is_as_large_as_the_first_is_given_up_after_one_end() -> None:
    large = LargeMessages()
    assert await sent([6000], large) == ([0], CUTS)
    assert await sent([10, 7000, 10], large) == ([1], 1)
    assert await sent([10, 5500, 10], large) == ([1], CUTS), "smaller: it may be another cause"
    assert await sent([6500], large, limit=8000) == ([], 0)
    assert await sent([9000], large) == ([0], CUTS), "the limit was raised"


@pytest.mark.parametrize(("size", "lasts"), [(LARGE - 1, 0.0), (6000, SOON)])
async def test_what_is_small_or_waited_for_long_is_repeated(size: int, lasts: float) -> None:
    large, clock = LargeMessages(), [0.0]
    ended = asyncio.get_running_loop().create_future()
    for _ in range(CUTS + 2):
        one = CautiousPublisher(Session(0, clock, lasts), large, lambda: clock[0])
        with pytest.raises(Gone):
            await one.publish(Message("a", b"x" * size, 0), ended)


def test_what_is_noted_has_a_bound() -> None:
    large = LargeMessages()
    for n in range(10 * MAX_SUSPECTS):
        large.cut(b"%d" % n, LARGE + n)
        large.begin()
        for other in range(2 * MAX_SUSPECTS):
            large.cut(b"%d-%d" % (n, other), LARGE)
    assert len(large._cuts) <= MAX_SUSPECTS  # its size is what is bounded
    assert len(large._cut) <= MAX_SUSPECTS
