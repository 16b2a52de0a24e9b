"""The way of commands to sessions: what is refused at once, kept for a moment, dropped, counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from gatewayd.cloud import command_router
from gatewayd.cloud.command_router import ChildCommands, CommandRouter, NoCommand, own_commands
from gatewayd.cloud.huawei.reporting.publishers import HuaweiLimit
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome

DONE = CommandAnswer(CommandOutcome.DONE)


class Plain:
    """A cloud whose topics are `KIND/CHILD/ID`, and whose answers are the words of outcomes."""

    has_copies = True

    def read(self, topic: str, payload: bytes) -> tuple[str, ChildCommand] | None:
        kind, _, rest = topic.partition("/")
        child, _, number = rest.partition("/")
        if kind == "bad":
            raise NoCommand(child, "malformed", MappedMessage(number, b"bad") if number else None)
        if kind not in set(CommandKind):
            return None
        reply = "" if kind == CommandKind.MESSAGE else "reply"
        return child, ChildCommand(number, CommandKind(kind), "", {}, topic, payload, reply, 8.0)

    def write(
        self, child: str, command: ChildCommand, answer: CommandAnswer
    ) -> MappedMessage | None:
        if not command.reply_topic:
            return None
        return MappedMessage(f"{child}/{command.identifier}", answer.outcome.value.encode())


class Stage:
    """A router, and what it has sent.  hold: what is sent waits."""

    def __init__(self) -> None:
        self.at = 0.0
        self.sent: list[MappedMessage] = []
        self.changes: list[tuple[Hashable, bool, bool]] = []
        self.form = Plain()
        self.go = asyncio.Event()
        self.go.set()
        self.router = CommandRouter[str](
            self.form, self._send, "cloud", lambda: self.at, self._change
        )

    async def _send(self, _: str, mapped: MappedMessage) -> bool:
        await self.go.wait()
        self.sent.append(mapped)
        return True

    def _change(self, child: str, session: ChildCommands) -> None:
        self.changes.append((child, session.handler is not None, session.expected))

    async def settle(self) -> list[MappedMessage]:
        while self.router._refusing:
            await asyncio.wait(self.router._refusing)
        return self.sent


async def test_a_command_goes_to_its_child_alone() -> None:
    stage, one, two = Stage(), list[ChildCommand](), list[ChildCommand]()
    stage.router.open("one").receive_commands(one.append)
    stage.router.open("two").receive_commands(two.append)
    assert stage.router.handle("service/two/1", b"x")
    assert not stage.router.handle("other/two/1", b"x")
    assert not one
    (command,) = two
    assert await stage.router.answer("two", command, DONE)
    assert await stage.settle() == [("two/1", b"done")]


@pytest.mark.parametrize("state", ["stranger", "unasked", "refusing", "ended"])
async def test_without_a_listener_a_command_is_refused_at_once(state: str) -> None:
    stage, handled = Stage(), list[ChildCommand]()
    if state != "stranger":
        session = stage.router.open("child")
        if state != "unasked":
            session.receive_commands(handled.append)
        if state == "refusing":
            session.receive_commands(None)
        if state == "ended":
            session.end()
    assert stage.router.handle("service/child/1", b"x")
    assert await stage.settle() == [("child/1", b"no-listener")]
    assert not handled


async def test_a_new_session_takes_the_place_of_an_older_one_which_then_ends() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    older, newer = stage.router.open("child"), stage.router.open("child")
    newer.receive_commands(handled.append)
    older.end()
    older.end()
    stage.router.handle("service/child/1", b"x")
    assert len(handled) == 1
    assert not await older.answer(handled[0], DONE)
    assert await newer.answer(handled[0], DONE)
    newer.expect(expected=True)
    newer.expect(expected=True)
    newer.end()
    newer.expect(expected=False)
    assert stage.changes == [
        ("child", True, False), ("child", True, True), ("child", False, True),
    ]  # fmt: skip


async def test_a_repeat_is_dropped_for_a_minute() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    stage.router.open("child").receive_commands(handled.append)
    for _ in range(3):
        stage.router.handle("service/child/1", b"x")
    stage.router.handle("set/child/1", b"x")
    assert len(handled) == 2, "another kind of command has identifiers of its own"
    stage.at += command_router.REPEATED_WITHIN
    stage.router.handle("service/child/1", b"x")
    assert len(handled) == 3
    assert stage.router.dropped == {"repeated": 2}


async def test_a_message_without_an_identifier_repeats_only_at_once() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    stage.router.open("child").receive_commands(handled.append)
    stage.router.handle("message/child/", b"on")
    stage.router.handle("message/child/", b"on")
    stage.router.handle("message/child/", b"off")
    stage.at += command_router.COPIED_WITHIN
    stage.router.handle("message/child/", b"on")
    assert [command.payload for command in handled] == [b"on", b"off", b"on"]


async def test_what_has_no_copies_may_say_the_same_twice() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    stage.form.has_copies = False
    stage.router.open("child").receive_commands(handled.append)
    for _ in range(2):
        stage.router.handle("message/child/", b"toggle")
        stage.router.handle("message/child/1", b"toggle")
    assert [command.identifier for command in handled] == ["", "1", ""]


async def test_messages_that_come_with_the_login_wait_for_the_listener() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    stage.router.handle("message/child/1", b"a")
    session = stage.router.open("child")
    stage.router.handle("message/child/2", b"b")
    stage.router.handle("message/other/3", b"c")
    session.receive_commands(handled.append)
    assert [command.payload for command in handled] == [b"a", b"b"]
    stage.router.handle("message/child/4", b"d")
    session.receive_commands(None)
    stage.router.handle("message/child/5", b"e")
    session.receive_commands(handled.append)
    assert [command.payload for command in handled] == [b"a", b"b", b"d"]


async def test_messages_wait_for_a_while_only() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    stage.router.handle("message/child/1", b"a")
    stage.at += command_router.EARLY_AGE + 1
    stage.router.open("child").receive_commands(handled.append)
    assert not handled
    assert stage.router.dropped == {"no-listener": 1}


async def test_children_that_come_online_together_have_all_their_messages() -> None:
    stage, handled = Stage(), list[ChildCommand]()
    children, each = [f"child-{number}" for number in range(40)], 20
    for number in range(each):
        for child in children:
            stage.router.handle(f"message/{child}/{number}", b"x")
    for child in children:
        stage.router.open(child).receive_commands(handled.append)
    assert len(handled) == len(children) * each
    numbers = [one.identifier for one in handled if "/child-7/" in one.topic]
    assert numbers == [str(number) for number in range(each)], "in order"
    assert not stage.router.dropped


async def test_messages_that_wait_are_bounded() -> None:
    stage = Stage()
    half = b"x" * (command_router.EARLY_BYTES // 2)
    for number in range(200):
        stage.router.handle(f"message/child/{number}", b"%d" % number)
    assert len(stage.router._early) == command_router.EARLY
    assert stage.router._early[0].command.identifier == str(200 - command_router.EARLY)
    for number in range(2 * command_router.EARLY_IN_ALL):
        stage.router.handle(f"message/child-{number}/1", b"")
    assert len(stage.router._early) == command_router.EARLY_IN_ALL
    for number in range(5):
        stage.router.handle(f"message/child/large-{number}", half)
    assert len(stage.router._early) == 2
    stage.router.handle("message/child/huge", half * 3)
    assert len(stage.router._early) == 2
    for number in range(5000):
        stage.router.handle(f"message/child/{number}", b"")
    assert len(stage.router._recent) == command_router.REMEMBERED
    stage.at += command_router.REPEATED_WITHIN + 1
    stage.router.handle("message/child/last", b"")
    assert len(stage.router._recent) == 1


async def test_refusals_are_bounded_and_each_fault_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stage = Stage()
    stage.go.clear()
    for number in range(200):
        stage.router.handle(f"bad/child/{number}", b"\n\x00")
    stage.router.handle("bad/child/", b"")
    stage.go.set()
    assert len(await stage.settle()) == command_router.UNDER_WAY
    assert stage.router.dropped["malformed"] == 201
    assert sum(stage.router.dropped.values()) == 201 + 200 - command_router.UNDER_WAY
    assert [record.args[1] for record in caplog.records if record.args] == ["child"] * 2  # type: ignore[index]  # a tuple


async def test_a_device_of_its_own_remembers_less_than_a_gateway() -> None:
    class Connection:
        """A connection that receives commands."""

        def __init__(self) -> None:
            self.dropped, self.closed = 0, asyncio.get_running_loop().create_future()
            self.on_message: Callable[[str, bytes], None] = lambda *_: None

        def post(self, topic: str, payload: bytes) -> asyncio.Future[Any]:
            raise NotImplementedError

    connection, received = Connection(), Counter[str]()
    commands = own_commands(
        connection, "own", Plain(), HuaweiLimit(lambda: 0.0), "cloud", lambda: 0.0
    )
    commands.receive_commands(lambda command: received.update({command.identifier: 1}))
    numbers = [str(number) for number in range(command_router.REMEMBERED_OF_ONE + 1)]
    for number in (*numbers, numbers[-1], numbers[1], numbers[0]):
        connection.on_message(f"service/own/{number}", b"")
    assert {one for one, count in received.items() if count > 1} == {numbers[0]}
