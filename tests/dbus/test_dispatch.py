"""The way of a call: its caller, authorization, its place among the commands, and the reply."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayd.dbus import dispatch
from gatewayd.dbus.callers.authorization import AuthorizationRequest, AuthorizationResult
from gatewayd.dbus.callers.users import CallerUsers, ConcurrencyLimit
from gatewayd.dbus.dispatch import MAX_UNAUTHORIZED, CallLog, Dispatcher
from gatewayd.dbus.glib import Variant
from gatewayd.dbus.invocation import MethodCall
from gatewayd.dbus.methods import (
    LOG_METHODS,
    MANAGER_METHODS,
    SECRET_STORE_METHODS,
    BoundMethods,
    Logged,
)
from gatewayd.dbus.variants import PackedArguments
from gatewayd.device.decision_log import DecisionKind
from gatewayd.errors import Busy, NoSuchDevice, StoreFull
from gatewayd.testing.waiting import until
from tests.dbus.support import RecordingCommands, UnsupportedStore
from tests.support.fakes import MemoryDecisions

ROOT, OLGA, EVE = ":1.0", ":1.1000", ":1.1001"
YES, NO = AuthorizationResult.AUTHORIZED, AuthorizationResult.NOT_AUTHORIZED


class FakeThread:
    """Both ways between the threads, on one thread."""

    def call_on_loop(self, function: Callable[..., object], *args: object) -> None:
        asyncio.get_running_loop().call_soon(function, *args)

    post = call_on_loop

    async def run(self, function: Callable[..., object], *args: object) -> object:
        await asyncio.sleep(0)
        return function(*args)


class FakePolkit:
    """Answers when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[AuthorizationRequest, asyncio.Future[AuthorizationResult]]] = []

    async def check(self, request: AuthorizationRequest) -> AuthorizationResult:
        self.asked.append((request, asyncio.get_running_loop().create_future()))
        return await self.asked[-1][1]

    def answer(self, result: AuthorizationResult, which: int = 0) -> None:
        self.asked[which][1].set_result(result)


@dataclass
class Invocation:
    """Remembers its answers, each an error's name, or what was returned."""

    fds: list[int] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def return_value(self, answer: Variant) -> None:
        self.answers.append(answer.unpack())

    def return_dbus_error(self, name: str, text: str) -> None:
        self.answers.append(name.rpartition(".")[2])
        self.text = text

    def get_message(self) -> Any:
        came = SimpleNamespace(get=lambda i: os.dup(self.fds[i]), get_length=lambda: len(self.fds))
        return SimpleNamespace(get_unix_fd_list=lambda: came)


def packed(*arguments: object) -> PackedArguments:
    """What the texts and descriptors of a call are packed as."""
    kinds = "".join("s" if isinstance(one, str) else "h" for one in arguments)
    return PackedArguments(Variant(f"({kinds})", arguments))


class Desk:
    """A dispatcher with all that is around it."""

    def __init__(self, limit: int = 4) -> None:
        self.asked, self.polkit = RecordingCommands("child-1a", "child-2b"), FakePolkit()
        self.meaning: Callable[[str], str] = self.asked.resolve
        self.methods: BoundMethods = MANAGER_METHODS.bind(self.asked)
        self.flushed: list[Invocation] = []
        users = CallerUsers(self.unix_user, own=0, limit=MAX_UNAUTHORIZED)
        thread: Any = FakeThread()
        polkit: Any = self.polkit
        self.decisions = MemoryDecisions()
        kept = CallLog(self.decisions, self.name, self.origin)
        self.dispatcher = Dispatcher(
            thread, users, polkit, self.resolve, self.flush, limit, kept=kept
        )
        self.calls: list[Invocation] = []

    async def name(self, uid: int) -> str:
        return {0: "root", 1000: "olga"}.get(uid, f"uid {uid}")

    async def origin(self, sender: str) -> str:
        return f"from {sender}"

    async def unix_user(self, sender: str) -> int | None:
        return None if sender == ":1.00" else int(sender[3:])

    def resolve(self, name: str) -> str:
        return self.meaning(name)

    def flush(self) -> None:
        self.flushed += [call for call in self.calls if not call.answers]

    def call(
        self, sender: str, name: str, *arguments: object, fds: tuple[int, ...] = (), **more: Any
    ) -> Invocation:
        invocation = Invocation(list(fds))
        call = MethodCall(
            sender=sender,
            arguments=packed(*arguments),
            descriptors=more.get("descriptors", ()),
            signature="()",
            method=self.methods.get(name),
            provider="",
            interactive=False,
            invocation=invocation,
            token=lambda: "7",
            free=lambda _: None,
        )
        self.calls.append(invocation)
        call.attempt(partial(self.dispatcher.submit, call, lambda _: Variant("()", ())))
        return invocation

    async def answers(self, *invocations: Invocation) -> list[Any]:
        await until(lambda: all(one.answers for one in invocations))
        return [one.answers[0] for one in invocations]

    async def requests(self, number: int) -> list[AuthorizationRequest]:
        await until(lambda: len(self.polkit.asked) == number)
        return [request for request, _ in self.polkit.asked]

    def is_idle(self) -> bool:
        ours = self.dispatcher
        limits = (ours._calls, ours._unauthorized, ours._commands)
        return not any(len(one) for one in (*limits, ours._tasks, ours._admitted))


async def test_root_needs_no_authorization() -> None:
    desk = Desk()
    assert await desk.answers(desk.call(ROOT, "Retry", "child-1a")) == [()]
    assert desk.asked.asked == [("retry", "child-1a", "root")]
    assert desk.polkit.asked == []


async def test_a_change_waits_for_polkit_which_gets_the_id_of_the_child() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Approve", "child-1", "alibaba")
    (request,) = await desk.requests(1)
    assert request == AuthorizationRequest(
        OLGA, "org.gatewayd1.approve-device",
        {"device": "child-1a", "provider": "alibaba"}, interactive=False,
    )  # fmt: skip
    assert desk.asked.asked == []
    desk.polkit.answer(YES)
    assert await desk.answers(call) == [()]
    assert desk.asked.asked == [("approve", "child-1", "alibaba", "olga")]


@pytest.mark.parametrize(("result", "error"), [
    (NO, "AccessDenied"),
    (AuthorizationResult.NO_ANSWER, "AccessDenied"),
    (AuthorizationResult.CHALLENGE, "InteractiveAuthorizationRequired"),
])  # fmt: skip
async def test_a_change_that_is_not_authorized_is_refused(
    result: AuthorizationResult, error: str
) -> None:
    desk = Desk()
    call = desk.call(OLGA, "Forget", "child-1a")
    await desk.requests(1)
    desk.polkit.answer(result)
    assert await desk.answers(call) == [error]
    assert desk.asked.asked == []


async def test_a_decision_is_logged_with_its_user_and_origin() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Reject", "child-1", "a guest's")
    await desk.requests(1)
    assert desk.decisions.logged == []
    desk.polkit.answer(YES)
    assert await desk.answers(call, desk.call(ROOT, "Forget", "child-2b")) == [(), ()]
    assert [(d.kind, d.device, d.by, d.origin, d.note) for d in desk.decisions.logged] == [
        ("rejected", "child-1a", "olga", "from :1.1000", "a guest's"),
        ("forgotten", "child-2b", "root", "from :1.0", ""),
    ]


async def test_what_fails_or_decides_nothing_is_not_logged() -> None:
    desk = Desk()
    failed = desk.call(ROOT, "Rename", "child-1a", "Dock")
    assert await desk.answers(failed, desk.call(ROOT, "Retry", "child-1a")) == ["WrongState", ()]
    assert await desk.answers(desk.call(ROOT, "Forget", "child-9z")) == ["NoSuchDevice"]
    assert desk.decisions.logged == []


async def test_what_was_done_stays_done_where_the_log_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.decisions.failing = StoreFull("the disk is full")
    assert await desk.answers(desk.call(ROOT, "Forget", "child-1a")) == [()]
    assert desk.asked.asked == [("forget", "child-1a", "root")]
    assert "forgotten of child-1a by root: the disk is full" in caplog.text


async def test_what_lets_out_a_secret_is_logged_first_or_not_done() -> None:
    desk = Desk()
    forget = desk.methods["Forget"]
    logged = Logged(DecisionKind.CREDENTIAL_READ, "mqtt", first=True)
    desk.methods = {"Forget": replace(forget, logged=logged)}
    order: list[int] = []
    desk.asked.before = lambda: order.append(len(desk.decisions.logged))
    assert await desk.answers(desk.call(ROOT, "Forget", "child-1a")) == [()]
    assert order == [1]
    desk.decisions.failing = StoreFull("the disk is full")
    assert await desk.answers(desk.call(ROOT, "Forget", "child-1a")) == ["StoreFailed"]
    assert order == [1]


async def test_a_refusal_is_a_line_that_names_user_and_device(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    call = desk.call(OLGA, "Forget", "child-1")
    await desk.requests(1)
    desk.polkit.answer(NO)
    assert await desk.answers(call) == ["AccessDenied"]
    (line,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert line.getMessage() == (
        "Forget was refused to olga for device child-1a:"
        " Not authorized: org.gatewayd1.forget-device."
    )
    assert (line.__dict__["device"], line.__dict__["message_id"]) == ("child-1a", "not-authorized")


async def test_a_flood_of_refusals_does_not_flood_the_journal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.methods = LOG_METHODS.bind(FakeLog())
    for _ in range(3 * dispatch.REFUSALS_LOGGED):
        await desk.answers(desk.call(OLGA, "LogLevel", "debug"))
    lines = [one for one in caplog.messages if "was refused to olga" in one]
    assert len(lines) == dispatch.REFUSALS_LOGGED


async def test_what_only_root_may_do_is_refused_without_polkit() -> None:
    desk = Desk()
    desk.methods = LOG_METHODS.bind(FakeLog())
    assert await desk.answers(desk.call(OLGA, "LogLevel", "debug")) == ["AccessDenied"]
    assert await desk.answers(desk.call(ROOT, "LogLevel", "debug")) == [()]
    assert desk.polkit.asked == []


class FakeLog:
    """A log with any level."""

    async def set_level(self, level: str, caller: str) -> None:
        assert (level, caller) == ("debug", "root")


async def test_a_name_that_means_another_child_by_then_changes_nothing() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Forget", "child")
    await desk.requests(1)
    desk.meaning = lambda _: "child-2b"
    desk.polkit.answer(YES)
    assert await desk.answers(call) == ["WrongState"]
    assert desk.asked.asked == []


async def test_polkit_is_not_asked_about_an_unknown_child() -> None:
    desk = Desk()
    assert await desk.answers(desk.call(OLGA, "Forget", "x")) == ["NoSuchDevice"]
    assert desk.polkit.asked == []


async def test_a_child_that_is_gone_by_then_is_not_found() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Forget", "child-1a")
    await desk.requests(1)

    def gone(_: str) -> str:
        raise NoSuchDevice("No such device")

    desk.meaning = gone
    desk.polkit.answer(YES)
    assert await desk.answers(call) == ["NoSuchDevice"]


async def test_a_caller_whom_the_bus_does_not_know_is_refused() -> None:
    desk = Desk()
    calls = desk.call(":1.00", "Reload"), desk.call(":1.00", "ListRules")
    assert await desk.answers(*calls) == ["AccessDenied"] * 2


async def test_a_user_who_is_not_authorized_keeps_no_other_out() -> None:
    desk = Desk(limit=1)
    held = [desk.call(EVE, "Forget", "child-1a") for _ in range(MAX_UNAUTHORIZED)]
    await desk.requests(MAX_UNAUTHORIZED)
    refused = (desk.call(EVE, "Forget", "child-1a"), desk.call(EVE, "ListRules"))
    assert await desk.answers(*refused) == ["Busy", "Busy"]
    assert await desk.answers(desk.call(ROOT, "Retry", "child-1a")) == [()]
    olga = desk.call(OLGA, "Retry", "child-1a")
    await desk.requests(MAX_UNAUTHORIZED + 1)
    desk.polkit.answer(YES, -1)
    assert await desk.answers(olga) == [()]
    for which in range(MAX_UNAUTHORIZED):
        desk.polkit.answer(NO, which)
    await desk.answers(*held)
    await until(desk.is_idle)


async def test_questions_of_one_user_keep_no_other_out() -> None:
    desk, others = Desk(limit=8), (EVE, ":1.01001")
    await desk.answers(*(desk.call(sender, "ListRules") for sender in others))  # one user
    asked = [desk.call(others[n % 2], "ListRules") for n in range(MAX_UNAUTHORIZED + 9)]
    root = desk.call(ROOT, "Retry", "child-1a")
    *_, last, done = await desk.answers(*asked, root)
    assert last == "Busy"
    assert done == ()
    await until(desk.is_idle)


async def test_a_flood_is_refused_before_the_event_loop_sees_it() -> None:
    desk, passed = Desk(limit=2), list[object]()
    desk.dispatcher._thread.call_on_loop = lambda *call: passed.append(call)  # type: ignore[method-assign]  # it is seen here
    calls = [desk.call(EVE, "ListRules") for _ in range(1000)]
    assert len(passed) == MAX_UNAUTHORIZED + 2
    assert all(call.answers == ["Busy"] for call in calls[len(passed) :])
    for number in range(2 * dispatch.MAX_CALLS):
        desk.call(f":2.{number}", "ListRules")
    assert len(passed) == dispatch.MAX_CALLS + 2


async def test_places_for_commands_are_bounded_and_given_back() -> None:
    desk = Desk(limit=1)
    desk.asked.gate.clear()
    first = desk.call(ROOT, "Retry", "child-1a")
    second = desk.call(ROOT, "Retry", "child-1a")
    assert await desk.answers(second) == ["Busy"]
    desk.asked.gate.set()
    await desk.answers(first)
    assert await desk.answers(desk.call(ROOT, "Retry", "child-1a")) == [()]


async def test_what_is_not_configured_is_not_supported() -> None:
    desk = Desk()
    desk.methods = SECRET_STORE_METHODS.bind(None)
    assert await desk.answers(desk.call(ROOT, "Rotate")) == ["NotSupported"]


async def test_effects_are_flushed_before_the_reply() -> None:
    desk = Desk()
    call = desk.call(ROOT, "Retry", "child-1a")
    await desk.answers(call)
    assert desk.flushed == [call]


class ExportingStore(UnsupportedStore):
    """A store whose export writes."""

    def __init__(self) -> None:
        self.targets: list[int] = []

    async def export(self, target: int, caller: str) -> None:
        await asyncio.to_thread(os.write, target, b"blob")
        self.targets.append(target)


async def test_a_descriptor_is_passed_on_and_closed() -> None:
    desk, store, (read, write) = Desk(), ExportingStore(), os.pipe()
    desk.methods = SECRET_STORE_METHODS.bind(store)
    exported = desk.call(ROOT, "Export", 0, fds=(write,), descriptors=(0,))
    assert await desk.answers(exported) == [()]
    os.close(write)
    assert os.read(read, 9) == b"blob"
    assert os.read(read, 9) == b""  # no other holds it
    os.close(read)
    for wrong in (1, -1):
        call = desk.call(ROOT, "Export", wrong, descriptors=(0,))
        assert await desk.answers(call) == ["InvalidArgs"]
    assert len(store.targets) == 1


async def test_a_stop_answers_every_call() -> None:
    desk = Desk()
    desk.asked.gate.clear()
    begun = desk.call(ROOT, "Retry", "child-1a")
    asked = desk.call(OLGA, "Retry", "child-1a")
    await desk.requests(1)
    await until(lambda: desk.asked.asked)
    queued = desk.call(ROOT, "Retry", "child-1a")
    closing = asyncio.create_task(desk.dispatcher.close(20))
    assert await desk.answers(asked) == ["Busy"]  # at once: a prompt delays no stop
    assert not begun.answers
    desk.asked.gate.set()
    await closing
    late = desk.call(ROOT, "Retry", "child-1a")
    assert await desk.answers(begun, queued, late) == [(), (), "Busy"]
    assert [late.text, asked.text] == [dispatch.STOPPING] * 2
    await until(desk.is_idle)


async def test_a_command_that_does_not_end_is_cancelled_by_a_stop() -> None:
    desk = Desk()
    desk.asked.gate.clear()
    begun = desk.call(ROOT, "Retry", "child-1a")
    await until(lambda: desk.asked.asked)
    await desk.dispatcher.close(0.01)
    assert await desk.answers(begun) == ["Busy"]
    assert begun.text == dispatch.STOPPING
    await until(desk.is_idle)


async def test_a_call_that_has_not_begun_is_answered_by_a_stop() -> None:
    desk = Desk()
    call = desk.call(OLGA, "Retry", "child-1a")
    await desk.dispatcher.close(0.01)
    assert await desk.answers(call) == ["Busy"]
    await until(desk.is_idle)


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
