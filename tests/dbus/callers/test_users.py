"""Who calls: users, their names, and from where they call; nothing is waited for without end."""

from __future__ import annotations

import asyncio
import os
import pwd
from threading import Event
from typing import Any

import pytest

from gatewayd.dbus.callers import users as callers
from gatewayd.dbus.callers.users import CallerOrigins, CallerUsers, UserNames, look_up
from gatewayd.dbus.glib import MethodReply, RemoteCaller, RemoteMethod, Variant
from gatewayd.errors import AccessDenied, Busy


async def test_the_system_knows_this_user() -> None:
    assert await UserNames().of(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name


async def test_a_user_without_a_name_is_a_number() -> None:
    assert look_up(4_000_000_000) == ""
    assert await UserNames().of(4_000_000_000) == "uid 4000000000"


@pytest.mark.parametrize("name", ["a b", "\x1b[2J", "", "x" * 80, "-rf"])
async def test_a_name_that_is_no_plain_word_is_a_number(name: str) -> None:
    assert await UserNames(lambda _: name).of(7) == "uid 7"


@pytest.mark.parametrize("name", ["olga", "host$", "EXAMPLE\\olga", "olga@example.org", "a.b-c_9"])
async def test_names_of_directories_are_names(name: str) -> None:
    assert await UserNames(lambda _: name).of(7) == name


async def test_each_name_is_asked_for_once_also_by_many_at_a_time() -> None:
    asked: list[int] = []

    def ask(uid: int) -> str:
        asked.append(uid)
        return f"user{uid}"

    names = UserNames(ask)
    found = await asyncio.gather(*(names.of(uid) for uid in (1, 2, 1, 2)))
    assert found == ["user1", "user2", "user1", "user2"]
    assert sorted(asked) == [1, 2]


async def test_a_directory_that_hangs_delays_a_command_a_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callers, "NAME_PATIENCE", 0.05)
    answer, asked = Event(), []

    def ask(uid: int) -> str:
        asked.append(uid)
        answer.wait(60)
        return f"user{uid}"

    names = UserNames(ask)
    assert [await names.of(uid) for uid in (1, 2, 1)] == ["uid 1", "uid 2", "uid 1"]
    assert asked == [1]  # one thread at a time
    answer.set()
    monkeypatch.setattr(callers, "NAME_PATIENCE", 60.0)
    assert [await names.of(uid) for uid in (1, 2)] == ["user1", "user2"]


async def test_a_fault_of_the_system_is_a_number() -> None:
    def ask(_uid: int) -> str:
        raise OSError(5, "Input/output error")

    assert await UserNames(ask).of(3) == "uid 3"


class FakeBus:
    """Reports users when a test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[int | None]] = []

    async def unix_user(self, _sender: str) -> int | None:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def test_a_user_is_asked_for_once() -> None:
    bus = FakeBus()
    users = CallerUsers(bus.unix_user, own=990, limit=2)
    first = asyncio.create_task(users.of(":1.7"))
    await asyncio.sleep(0)
    bus.asked[0].set_result(1000)
    assert [await first, await users.of(":1.7")] == [1000, 1000]
    assert len(bus.asked) == 1


async def test_a_user_that_is_not_reported_is_asked_for_again() -> None:
    bus = FakeBus()
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
    for number in range(callers.MAX_KNOWN + 5):
        await users.of(f":1.{number}")
    assert len(users._known) == callers.MAX_KNOWN


def test_root_and_the_daemons_own_user_are_trusted() -> None:
    users = CallerUsers(FakeBus().unix_user, own=990, limit=1)
    assert [users.trusts(uid) for uid in (0, 990, 1000, 65534)] == [True, True, False, False]


class FakeLogind(RemoteCaller):
    """A bus with a logind.  replies: by name of the method; what is missing fails."""

    def __init__(self, **replies: tuple[Any, ...]) -> None:
        self.replies, self.activated = replies, False
        self.busy = False

    async def call(
        self, method: RemoteMethod, arguments: Variant, patience: int, *, activate: bool = True
    ) -> MethodReply:
        self.activated |= activate
        if self.busy:
            raise Busy("Too many calls")
        return MethodReply(self.replies.get(method.name), "org.freedesktop.DBus.Error.Failed")


PROCESS = {"GetConnectionUnixProcessID": (4711,)}
SESSION = {**PROCESS, "GetSessionByPID": ("/org/freedesktop/login1/session/_37",)}


@pytest.mark.parametrize(("replies", "expected"), [
    ({}, ""),
    (PROCESS, "process 4711"),
    (SESSION, "process 4711"),
    (SESSION | {"GetAll": ({"Remote": True, "RemoteHost": "192.0.2.7", "Service": "sshd"},)},
     "sshd from 192.0.2.7"),
    (SESSION | {"GetAll": ({"Remote": False, "TTY": "tty1", "Service": "login"},)},
     "login on tty1"),
    (SESSION | {"GetAll": ({"Remote": True, "RemoteHost": "a\x1b[2J\nb" + "x" * 999},)},
     f"login from a [2J b{'x' * 82}"),
    (SESSION | {"GetAll": ({"Remote": False, "TTY": "", "Service": "cron"},)}, "process 4711"),
])  # fmt: skip
async def test_from_where_a_caller_is(replies: dict[str, Any], expected: str) -> None:
    remote = FakeLogind(**replies)
    assert await CallerOrigins(remote).of(":1.7") == expected
    assert not remote.activated  # logind is not started for that


async def test_a_busy_bus_leaves_the_origin_out() -> None:
    remote = FakeLogind(**SESSION)
    remote.busy = True
    assert await CallerOrigins(remote).of(":1.7") == ""
