"""Names of users: remembered, and never waited for without end."""

from __future__ import annotations

import asyncio
import os
import pwd
from threading import Event

import pytest

from gatewayd.runtime import users
from gatewayd.runtime.users import UserNames, look_up


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
    monkeypatch.setattr(users, "PATIENCE", 0.05)
    answer, asked = Event(), []

    def ask(uid: int) -> str:
        asked.append(uid)
        answer.wait(60)
        return f"user{uid}"

    names = UserNames(ask)
    assert [await names.of(uid) for uid in (1, 2, 1)] == ["uid 1", "uid 2", "uid 1"]
    assert asked == [1]  # one thread at a time
    answer.set()
    monkeypatch.setattr(users, "PATIENCE", 60.0)
    assert [await names.of(uid) for uid in (1, 2)] == ["user1", "user2"]


async def test_a_fault_of_the_system_is_a_number() -> None:
    def ask(_uid: int) -> str:
        raise OSError(5, "Input/output error")

    assert await UserNames(ask).of(3) == "uid 3"
