"""The way of a call: whose it is, whether it may, which place it takes, how it is answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayd.dbus.authorization import AuthorizationRequest, AuthorizationResult
from gatewayd.dbus.dispatch import MAX_UNAUTHORIZED, CallerUsers, Dispatcher
from gatewayd.dbus.glib import Variant
from gatewayd.dbus.invocation import MethodCall
from gatewayd.dbus.names import MANAGER, SECRET_STORE
from tests.dbus.served import Asked, until

ROOT, OLGA, EVE = ":1.0", ":1.1000", ":1.1001"


class Thread:
    """The two doors, on one thread."""

    def post(self, function: Callable[..., object], *args: object) -> None:
        asyncio.get_running_loop().call_soon(function, *args)

    inward = post


class FakePolkit:
    """Lets a test answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[AuthorizationRequest, Callable[[AuthorizationResult], None]]] = []

    def check(
        self, inquiry: AuthorizationRequest, done: Callable[[AuthorizationResult], None]
    ) -> None:
        self.asked.append((inquiry, done))


@dataclass
class Invocation:
    """Remembers its answer."""

    fds: list[int] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def return_value(self, answer: Variant) -> None:
        self.answers.append(answer.unpack())

    def return_dbus_error(self, name: str, text: str) -> None:
        self.answers.append(f"{name.rpartition('.')[2]}: {text}")

    def get_message(self) -> Any:
        came = SimpleNamespace(get=lambda i: os.dup(self.fds[i]), get_length=lambda: len(self.fds))
        return SimpleNamespace(get_flags=lambda: 0, get_unix_fd_list=lambda: came)


class Desk:
    """Requests with all that is around them."""

    def __init__(self, limit: int = 4) -> None:
        self.asked, self.polkit = Asked("child-1a", "child-2b"), FakePolkit()
        self.meaning: Callable[[str], str] = self.asked.resolve
        users = CallerUsers(lambda sender, done: done(int(sender[3:]) or None), own=0, limit=9)
        users._known[ROOT] = 0
        thread: Any = Thread()
        polkit: Any = self.polkit
        self.requests = Dispatcher(thread, users, polkit, self.resolve, lambda: None, limit)

    def resolve(self, name: str) -> str:
        return self.meaning(name)

    def call(
        self, sender: str, method: str, *arguments: object, commands: object = True, **more: Any
    ) -> Invocation:
        invocation = Invocation(more.pop("fds", []))
        call = MethodCall(
            sender, (more.pop("interface", MANAGER), method), arguments,
            more.pop("handles", ()), "()", self.asked if commands is True else commands, "",
            invocation, lambda: "7", lambda _: None,
        )  # fmt: skip
        call.attempt(partial(self._serve, call))
        return invocation

    def _serve(self, call: MethodCall) -> None:
        self.requests.submit(call, lambda _: Variant("()", ()))

    async def answers(self, *invocations: Invocation) -> list[Any]:
        await until(lambda: all(one.answers for one in invocations))
        return [one.answers[0] for one in invocations]

    async def inquiries(self, number: int) -> list[AuthorizationRequest]:
        await until(lambda: len(self.polkit.asked) == number)
        return [inquiry for inquiry, _ in self.polkit.asked]


async def test_root_is_not_asked_about() -> None:
    desk = Desk()
    assert await desk.answers(desk.call(ROOT, "Retry", "child-1a")) == [()]
    assert desk.asked.asked == [("retry", "child-1a", "uid 0")]
    assert desk.polkit.asked == []


async def test_a_change_waits_for_polkit_which_is_told_of_the_child_that_is_meant() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Approve", "child-1", "alibaba")
    (inquiry,) = await desk.inquiries(1)
    assert inquiry == AuthorizationRequest(
        OLGA, "org.gatewayd1.approve-device",
        {"device": "child-1a", "provider": "alibaba"}, interactive=False,
    )  # fmt: skip
    assert desk.asked.asked == []
    desk.polkit.asked[0][1](AuthorizationResult.YES)
    assert await desk.answers(call) == [()]
    assert desk.asked.asked == [("approve", "child-1", "alibaba", "uid 1000")]


@pytest.mark.parametrize(("answer", "told"), [
    (AuthorizationResult.NO, "AccessDenied"), (AuthorizationResult.SILENCE, "AccessDenied"),
    (AuthorizationResult.CHALLENGE, "InteractiveAuthorizationRequired"),
])  # fmt: skip
async def test_whoever_may_not_is_told(answer: AuthorizationResult, told: str) -> None:
    desk = Desk()
    call = desk.call(OLGA, "Forget", "child-1a")
    await desk.inquiries(1)
    desk.polkit.asked[0][1](answer)
    (said,) = await desk.answers(call)
    assert said.startswith(f"{told}: ")
    assert desk.asked.asked == []


async def test_a_name_that_means_another_child_by_then_changes_nothing() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Forget", "child")
    await desk.inquiries(1)
    desk.meaning = lambda _: "child-2b"
    desk.polkit.asked[0][1](AuthorizationResult.YES)
    assert await desk.answers(call) == [
        "WrongState: That name means another device by now, try again"
    ]
    assert desk.asked.asked == []


async def test_polkit_is_not_asked_about_nobody() -> None:
    desk = Desk()
    assert await desk.answers(desk.call(OLGA, "Forget", "x")) == ["NoSuchDevice: No such device"]
    assert desk.polkit.asked == []


async def test_a_caller_whom_the_bus_does_not_know_is_refused() -> None:
    desk = Desk()
    calls = desk.call(":1.00", "Reload"), desk.call(":1.00", "ListRules")
    for said in await desk.answers(*calls):
        assert said == "AccessDenied: The bus does not say who you are"


async def test_whoever_is_not_authorized_keeps_nobody_out() -> None:
    desk = Desk(limit=1)
    held = [desk.call(EVE, "Forget", "child-1a") for _ in range(MAX_UNAUTHORIZED)]
    await desk.inquiries(MAX_UNAUTHORIZED)
    refused = (desk.call(EVE, "Forget", "child-1a"), desk.call(EVE, "ListRules"))
    for said in await desk.answers(*refused):
        assert said == "Busy: Too many of your calls are under way, try again"
    assert await desk.answers(desk.call(ROOT, "Retry", "child-1a")) == [()]
    olga = desk.call(OLGA, "Retry", "child-1a")
    await desk.inquiries(MAX_UNAUTHORIZED + 1)
    desk.polkit.asked[-1][1](AuthorizationResult.YES)
    assert await desk.answers(olga) == [()]
    for _, done in desk.polkit.asked[:-1]:
        done(AuthorizationResult.NO)
    await desk.answers(*held)
    assert not desk.requests._turns._taken


async def test_questions_of_one_user_keep_nobody_out() -> None:
    desk = Desk(limit=1)
    asked = [desk.call(EVE, "ListRules") for _ in range(MAX_UNAUTHORIZED + 1)]
    root = desk.call(ROOT, "Retry", "child-1a")
    *_, last, done = await desk.answers(*asked, root)
    assert last.startswith("Busy: Too many of your calls")
    assert done == ()
    assert not desk.requests._turns._taken


async def test_places_for_commands_are_bounded_and_given_back() -> None:
    desk = Desk(limit=1)
    desk.asked.gate.clear()
    first = desk.call(ROOT, "Retry", "child-1a")
    second = desk.call(ROOT, "Retry", "child-1a")
    assert await desk.answers(second) == ["Busy: Too many commands are under way, try again"]
    desk.asked.gate.set()
    await desk.answers(first)
    assert await desk.answers(desk.call(ROOT, "Retry", "child-1a")) == [()]


async def test_what_nobody_serves_is_not_supported() -> None:
    desk = Desk()
    call = desk.call(ROOT, "Rotate", interface=SECRET_STORE, commands=None)
    assert await desk.answers(call) == ["NotSupported: What is configured cannot do this"]


class Written:
    """A store whose export writes."""

    def __init__(self) -> None:
        self.targets: list[int] = []

    async def export(self, target: int, caller: str) -> None:
        await asyncio.to_thread(os.write, target, b"blob")
        self.targets.append(target)


async def test_a_descriptor_is_passed_on_and_closed() -> None:
    desk, store, (read, write) = Desk(), Written(), os.pipe()
    more: dict[str, Any] = {"interface": SECRET_STORE, "handles": (0,), "commands": store}
    assert await desk.answers(desk.call(ROOT, "Export", 0, fds=[write], **more)) == [()]
    os.close(write)
    assert os.read(read, 9) == b"blob"
    assert os.read(read, 9) == b""  # nobody else holds it
    os.close(read)
    for wrong in (1, -1):
        call = desk.call(ROOT, "Export", wrong, fds=[], **more)
        assert await desk.answers(call) == ["InvalidArgs: A file descriptor is missing"]
    assert len(store.targets) == 1


async def test_a_stop_answers_everybody() -> None:
    desk = Desk()
    desk.asked.gate.clear()
    begun = desk.call(ROOT, "Retry", "child-1a")
    asked = desk.call(OLGA, "Retry", "child-1a")
    await desk.inquiries(1)
    await until(lambda: desk.asked.asked)
    await desk.requests.close(0.01)
    desk.polkit.asked[0][1](AuthorizationResult.YES)
    late = desk.call(ROOT, "Retry", "child-1a")
    for said in await desk.answers(begun, asked, late):
        assert said == "Busy: gatewayd is stopping"
