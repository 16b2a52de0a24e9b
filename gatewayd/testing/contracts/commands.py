"""The contract of sessions over which children are commanded, as tests to inherit:

class TestMyCommands(CommandsContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[CommandsTestbed]:
        ...  # yield a session that is open, and a cloud that the tests control

The tests are coroutines: pytest-asyncio runs them, in its mode "auto".
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from gatewayd.cloud.provider import Session, SupportsCommands, SupportsMessages
from gatewayd.device.command import (
    REFUSALS,
    ChildCommand,
    CommandAnswer,
    CommandKind,
    CommandOutcome,
)
from gatewayd.device.message import Message
from gatewayd.testing.waiting import PATIENCE, until

SOME, MANY = 12, 200
"""Commands that are sent together; and messages that a limit of the cloud makes wait."""
DONE = CommandAnswer(CommandOutcome.DONE)
WAIT = 1.0
"""Seconds to wait for an answer that may not come."""
SILENT = (CommandKind.MESSAGE,)
"""Kinds whose answer no cloud awaits."""


@dataclass(frozen=True)
class SeenAnswer:
    """What the cloud was given as the answer to a command.

    done: whether the child could do it, as the cloud sees it.  content: as it arrived.
    """

    done: bool
    content: bytes


class CommandedSession(Session, SupportsCommands, SupportsMessages, Protocol):
    """A session over which its child speaks, and is commanded."""


class CommandsTestbed(Protocol):
    """A session, and a cloud that a test controls."""

    @property
    def kinds(self) -> Sequence[CommandKind]:
        """Return the kinds of commands that the cloud has."""

    @property
    def session(self) -> CommandedSession:
        """Return the session under test, which is open."""

    async def ready(self) -> None:
        """Return when commands reach the session, of which a cloud may want to know."""

    async def send(
        self, kind: CommandKind, number: int, seconds: float = PATIENCE
    ) -> SeenAnswer | None:
        """Send a command that shows its number, and wait for the answer, for so many seconds.

        Return None where none came, or the cloud awaits none, or could not send it.
        """

    def number(self, command: ChildCommand) -> int:
        """Return the number of a command."""

    def own_form(self, command: ChildCommand) -> bytes:
        """Return an answer in the cloud's own form, by which the child could do it."""

    def message(self, number: int) -> Message:
        """Return a message of the child that the cloud accepts."""

    def garble(self) -> None:
        """Send commands that are cut off from now on."""

    def repeat(self) -> None:
        """Send commands twice from now on."""

    def mend(self) -> None:
        """Send commands as they are from now on."""

    def discarded(self) -> int:
        """Return how much of what the child sent was over a limit of the cloud."""

    def hold(self) -> None:
        """Acknowledge no message from now on."""

    def stop(self) -> None:
        """Close every connection, and accept none from now on."""


@dataclass
class CommandedChild:
    """A child that receives commands.  answer: what it answers at once; None for nothing."""

    testbed: CommandsTestbed
    answer: CommandAnswer | None = DONE
    received: list[ChildCommand] = field(default_factory=list)
    answering: list[asyncio.Task[bool]] = field(default_factory=list)

    def receive(self, command: ChildCommand) -> None:
        """Receive a command."""
        self.received.append(command)
        if self.answer is not None:
            answer = self.testbed.session.answer(command, self.answer)
            self.answering.append(asyncio.ensure_future(answer))

    def numbers(self) -> list[int]:
        """Return the numbers of what was received."""
        return [self.testbed.number(command) for command in self.received]

    async def acknowledged(self) -> list[bool]:
        """Return whether each answer was acknowledged, in limited time."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*self.answering)


async def commanded(
    testbed: CommandsTestbed, answer: CommandAnswer | None = DONE
) -> CommandedChild:
    """Have the child receive commands from now on; return it."""
    child = CommandedChild(testbed, answer)
    testbed.session.receive_commands(child.receive)
    async with asyncio.timeout(PATIENCE):
        await testbed.ready()
    return child


async def together(commands: Sequence[Awaitable[SeenAnswer | None]]) -> list[SeenAnswer | None]:
    """Return what the cloud was given, in limited time."""
    async with asyncio.timeout(PATIENCE):
        return list(await asyncio.gather(*commands))


class CommandsContract(ABC):
    """What holds of every session over which a child is commanded.  Implement `make_testbed`."""

    @abstractmethod
    def make_testbed(self) -> AbstractAsyncContextManager[CommandsTestbed]:
        """Make a testbed, whose cloud has sent no command yet."""

    async def test_each_kind_arrives_and_is_answered(self) -> None:
        async with self.make_testbed() as testbed:
            assert isinstance(testbed.session, SupportsCommands)
            child = await commanded(testbed)
            for number, kind in enumerate(testbed.kinds):
                seen = await testbed.send(kind, number)
                await until(lambda number=number: number in child.numbers())  # type: ignore[misc]  # bound early
                command = child.received[-1]
                assert command.kind is kind
                assert command.payload
                awaited = kind not in SILENT
                assert (command.seconds > 1) == awaited
                assert bool(command.reply_topic) == awaited
                assert (seen is not None and seen.done) == awaited
                assert command.identifier or not awaited
            assert await child.acknowledged() == [True] * len(testbed.kinds)
            assert child.numbers() == list(range(len(testbed.kinds)))

    async def test_an_answer_in_the_clouds_own_form_passes_unchanged(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed, None)
            for number, kind in enumerate(one for one in testbed.kinds if one not in SILENT):
                sending = asyncio.create_task(testbed.send(kind, number))
                await until(lambda number=number: len(child.received) > number)  # type: ignore[misc]  # bound early
                raw = testbed.own_form(child.received[-1])
                answer = CommandAnswer(CommandOutcome.DONE, raw=raw)
                assert await testbed.session.answer(child.received[-1], answer)
                assert await sending == SeenAnswer(done=True, content=raw)

    @pytest.mark.parametrize("outcome", REFUSALS)
    async def test_a_refusal_is_given_to_the_cloud(self, outcome: CommandOutcome) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed, CommandAnswer(outcome, REFUSALS[outcome]))
            kinds = [kind for kind in testbed.kinds if kind is not CommandKind.REQUEST]
            for number, kind in enumerate(kinds):
                seen = await testbed.send(kind, number)
                if kind in SILENT:
                    await until(lambda number=number: number in child.numbers())  # type: ignore[misc]  # bound early
                    continue
                assert seen is not None
                assert not seen.done
                assert REFUSALS[outcome].encode() in seen.content
            assert await child.acknowledged() == [True] * len(kinds)

    async def test_without_a_listener_nothing_is_done(self) -> None:
        async with self.make_testbed() as testbed:
            kinds = [kind for kind in testbed.kinds if kind not in SILENT]
            early = await together([testbed.send(kind, 1, WAIT) for kind in kinds])
            child = await commanded(testbed)
            testbed.session.receive_commands(None)
            late = await together([testbed.send(kind, 2, WAIT) for kind in kinds])
            assert not any(seen.done for seen in (*early, *late) if seen is not None)
            assert not child.received

    async def test_commands_keep_their_order(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed)
            kind = testbed.kinds[0]
            seen = await together([testbed.send(kind, number) for number in range(SOME)])
            assert all(one is not None and one.done for one in seen)
            assert child.numbers() == list(range(SOME))

    async def test_a_repeat_is_carried_out_once(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed)
            kinds = [kind for kind in testbed.kinds if kind not in SILENT]
            testbed.repeat()
            for number, kind in enumerate(kinds):
                await testbed.send(kind, number)
            testbed.mend()
            await testbed.send(kinds[0], SOME)
            assert child.numbers() == [*range(len(kinds)), SOME]

    async def test_what_cannot_be_read_is_not_carried_out(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed)
            testbed.garble()
            kinds = [
                kind for kind in testbed.kinds if kind in (CommandKind.SERVICE, CommandKind.SET)
            ]
            seen = await together([testbed.send(kind, 1, WAIT) for kind in kinds])
            assert not any(one.done for one in seen if one is not None)
            testbed.mend()
            answered = await testbed.send(testbed.kinds[0], 2)
            assert answered is not None
            assert child.numbers() == [2]

    async def test_an_answer_waits_behind_no_message_and_keeps_to_the_limits(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed)
            session = testbed.session
            messages = [testbed.message(number) for number in range(MANY)]
            saying = [asyncio.create_task(session.publish(message)) for message in messages]
            await asyncio.sleep(0)
            seen = await testbed.send(testbed.kinds[0], 1)
            assert seen is not None
            assert seen.done
            assert await child.acknowledged() == [True]
            assert not all(one.done() for one in saying), "it has overtaken them"
            assert not testbed.discarded()
            for task in saying:
                task.cancel()
            await asyncio.gather(*saying, return_exceptions=True)

    async def test_a_cloud_that_goes_has_no_answer(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed, None)
            sending = asyncio.create_task(testbed.send(testbed.kinds[0], 1, WAIT))
            await until(lambda: bool(child.received))
            testbed.stop()
            async with asyncio.timeout(PATIENCE):
                await testbed.session.wait_closed()
                assert not await testbed.session.answer(child.received[0], DONE)
            seen = await sending
            assert seen is None or not seen.done

    async def test_an_answer_that_is_not_acknowledged_ends_with_the_session(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed, None)
            sending = asyncio.create_task(testbed.send(testbed.kinds[0], 1, WAIT))
            await until(lambda: bool(child.received))
            testbed.hold()
            answering = asyncio.ensure_future(testbed.session.answer(child.received[0], DONE))
            await sending
            assert not answering.done()
            testbed.stop()
            async with asyncio.timeout(PATIENCE):
                assert not await answering

    async def test_after_its_end_a_session_does_nothing(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed, None)
            sending = asyncio.create_task(testbed.send(testbed.kinds[0], 1, WAIT))
            await until(lambda: bool(child.received))
            await testbed.session.close()
            assert not await testbed.session.answer(child.received[0], DONE)
            await sending
            testbed.session.receive_commands(child.receive)
            seen = await testbed.send(testbed.kinds[0], 2, WAIT)
            assert seen is None or not seen.done
            assert child.numbers() == [1]

    async def test_commands_without_a_listener_are_bounded(self) -> None:
        async with self.make_testbed() as testbed:
            child = await commanded(testbed)
            testbed.session.receive_commands(None)
            kind = testbed.kinds[0]
            await together([testbed.send(kind, number, WAIT) for number in range(SOME)])
            testbed.session.receive_commands(child.receive)
            async with asyncio.timeout(PATIENCE):
                await testbed.ready()
            seen = await testbed.send(kind, MANY)
            assert seen is not None
            assert seen.done
            assert child.numbers() == [MANY]
