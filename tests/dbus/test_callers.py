"""Who calls, and how much at the same time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatewayd.dbus import dispatch
from gatewayd.dbus.dispatch import CallerUsers, ConcurrencyLimit
from gatewayd.errors import Busy


def test_turns_are_bounded_for_each() -> None:
    turns = ConcurrencyLimit(2)
    turns.take(1)
    turns.take(1)
    turns.take(2)
    with pytest.raises(Busy):
        turns.take(1)
    turns.give(1)
    turns.take(1)
    for who in (1, 1, 2):
        turns.give(who)
    assert not turns._taken


class Bus:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Callable[[int | None], None]]] = []

    def ask(self, sender: str, done: Callable[[int | None], None]) -> None:
        self.asked.append((sender, done))


def test_a_user_is_asked_for_once() -> None:
    bus, told = Bus(), list[int | None]()
    users = CallerUsers(bus.ask, own=990, limit=2)
    users.of(":1.7", told.append)
    assert not told
    bus.asked[0][1](1000)
    users.of(":1.7", told.append)
    assert told == [1000, 1000]
    assert len(bus.asked) == 1


def test_a_user_that_cannot_be_told_is_asked_for_again() -> None:
    bus, told = Bus(), list[int | None]()
    users = CallerUsers(bus.ask, own=990, limit=1)
    for _ in range(2):
        users.of(":1.7", told.append)
        with pytest.raises(Busy):
            users.of(":1.7", told.append)
        bus.asked.pop()[1](None)
    assert told == [None, None]


def test_what_is_remembered_is_bounded() -> None:
    users = CallerUsers(lambda _, done: done(1), own=990, limit=1)
    for number in range(dispatch.MAX_KNOWN + 5):
        users.of(f":1.{number}", lambda _: None)
    assert len(users._known) == dispatch.MAX_KNOWN


def test_root_and_the_daemons_own_user_are_trusted() -> None:
    users = CallerUsers(lambda _, __: None, own=990, limit=1)
    assert [users.trusts(uid) for uid in (0, 990, 1000, 65534)] == [True, True, False, False]
