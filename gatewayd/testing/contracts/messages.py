"""The contract of sessions over which children speak, as tests to inherit:

class TestMyMessages(MessagesContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[MessagesTestbed]:
        ...  # yield a session that is open, and a cloud that the tests control

The tests are coroutines: pytest-asyncio runs them, in its mode "auto".
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
    Session,
    SupportsMessages,
)
from gatewayd.device.message import Message
from gatewayd.testing.contracts.cloud import cancel, check_reason
from gatewayd.testing.waiting import PATIENCE, until

SOME, MANY = 12, 300
"""Messages that are sent together: few enough for the limits of a cloud, and more than may be under
way."""
UNDER_WAY = 100
"""Messages that may be under way, at most: clouds keep no more that they have not acknowledged."""


class SpeakingSession(Session, SupportsMessages, Protocol):
    """A session over which its child can speak."""


class MessagesTestbed(Protocol):
    """A session, and a cloud that a test controls."""

    @property
    def session(self) -> SpeakingSession:
        """Return the session under test, which is open."""

    def message(self, number: int) -> Message:
        """Return a message that the cloud accepts, and that shows its number there."""

    def unfit(self) -> Message:
        """Return a message that the cloud has no form for."""

    def arrived(self) -> Sequence[int]:
        """Return the numbers of what the cloud has, in the order of arrival, repeats included."""

    def hold(self) -> None:
        """Keep messages from now on, and acknowledge none."""

    def stop(self) -> None:
        """Close every connection, and accept none from now on."""


def saying(testbed: MessagesTestbed, numbers: Iterable[int]) -> list[asyncio.Task[Publication]]:
    """Begin to publish messages, in this order."""
    messages = [testbed.message(number) for number in numbers]
    return [asyncio.create_task(testbed.session.publish(message)) for message in messages]


async def ends(tasks: Iterable[asyncio.Task[Publication]]) -> list[Publication]:
    """Return how publications ended, in limited time; each reason is checked."""
    async with asyncio.timeout(PATIENCE):
        outcomes = list(await asyncio.gather(*tasks))
    for outcome in outcomes:
        if not isinstance(outcome, MessageAccepted):
            check_reason(outcome.reason)
    return outcomes


def first_copies(numbers: Sequence[int]) -> list[int]:
    """Return the numbers without repeats."""
    return list(dict.fromkeys(numbers))


class MessagesContract(ABC):
    """What holds of every session over which a child can speak.  Implement `make_testbed`."""

    @abstractmethod
    def make_testbed(self) -> AbstractAsyncContextManager[MessagesTestbed]:
        """Make a testbed, whose cloud has no message yet."""

    async def test_messages_arrive_once_and_in_order(self) -> None:
        async with self.make_testbed() as testbed:
            assert isinstance(testbed.session, SupportsMessages)
            assert await ends(saying(testbed, range(SOME))) == [MessageAccepted()] * SOME
            assert list(testbed.arrived()) == list(range(SOME))

    async def test_what_was_accepted_is_at_the_cloud(self) -> None:
        async with self.make_testbed() as testbed:
            for number in range(3):
                assert await ends(saying(testbed, [number])) == [MessageAccepted()]
                assert number in testbed.arrived()

    async def test_what_does_not_fit_is_refused_again_and_the_rest_arrives(self) -> None:
        async with self.make_testbed() as testbed:
            unfit, session = testbed.unfit(), testbed.session
            large = Message(testbed.message(0).topic, b"x" * (session.max_payload + 1), 0)
            for message in (unfit, large):
                (one,) = await ends([asyncio.create_task(session.publish(message))])
                (two,) = await ends([asyncio.create_task(session.publish(message))])
                assert isinstance(one, MessageRefused)
                assert one == two
                assert one.reason.remedy
            assert await ends(saying(testbed, [1])) == [MessageAccepted()]
            assert list(testbed.arrived()) == [1]

    async def test_a_cloud_that_goes_delays_what_is_under_way_at_once(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.hold()
            tasks = saying(testbed, range(SOME))
            await until(lambda: bool(testbed.arrived()))
            testbed.stop()
            later = saying(testbed, [SOME])
            outcomes = await ends([*tasks, *later])
            assert {type(outcome) for outcome in outcomes} == {MessageDelayed}
            assert first_copies(testbed.arrived()) == list(range(len(testbed.arrived())))

    async def test_a_session_that_closes_delays_what_is_under_way(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.hold()
            tasks = saying(testbed, range(SOME))
            await until(lambda: bool(testbed.arrived()))
            await testbed.session.close()
            outcomes = await ends([*tasks, *saying(testbed, [SOME])])
            assert {type(outcome) for outcome in outcomes} == {MessageDelayed}

    async def test_what_is_under_way_is_bounded(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.hold()
            tasks = saying(testbed, range(MANY))
            await until(lambda: bool(testbed.arrived()))
            await asyncio.sleep(0.3)
            assert len(testbed.arrived()) <= UNDER_WAY
            testbed.stop()
            assert {type(outcome) for outcome in await ends(tasks)} == {MessageDelayed}

    async def test_one_that_is_cancelled_stands_in_no_ones_way(self) -> None:
        async with self.make_testbed() as testbed:
            tasks = saying(testbed, range(SOME))
            await asyncio.sleep(0)
            for task in tasks[1::3]:
                await cancel(task)
            kept = [task for task in tasks if task not in tasks[1::3]]
            assert set(await ends(kept)) == {MessageAccepted()}
            assert await ends(saying(testbed, [SOME])) == [MessageAccepted()]
            arrived = list(testbed.arrived())
            assert arrived == sorted(arrived)
            wanted = [number for number in range(SOME) if number % 3 != 1]
            assert {*wanted, SOME} <= set(arrived)
