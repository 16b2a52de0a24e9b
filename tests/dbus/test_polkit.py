"""What polkit is asked, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatewayd.dbus.authorization import (
    PATIENCE,
    PATIENCE_WITH_PEOPLE,
    AuthorizationRequest,
    AuthorizationResult,
    Polkit,
    arguments,
    judge,
)
from gatewayd.dbus.glib import NO_REPLY, Variant

INQUIRY = AuthorizationRequest(
    ":1.7", "org.gatewayd1.forget-device", {"device": "cam-1"}, interactive=True
)
Done = Callable[[tuple[Any, ...] | None, str], None]


class Bus:
    """Puts down what is called; a test answers."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Any, int, Done]] = []

    def ask(
        self, method: tuple[str, str, str, str], values: Variant, patience: int, done: Done, /
    ) -> None:
        self.called.append((method[3], values.unpack(), patience, done))


@pytest.mark.parametrize(("result", "expected"), [
    (((True, False, {}),), AuthorizationResult.YES), (((True, True, {}),), AuthorizationResult.YES),
    (((False, True, {}),), AuthorizationResult.CHALLENGE), (((False, False, {}),), AuthorizationResult.NO),
    (None, AuthorizationResult.SILENCE), ((), AuthorizationResult.SILENCE), (("yes",), AuthorizationResult.SILENCE),
])  # fmt: skip
def test_answers(result: tuple[Any, ...] | None, expected: AuthorizationResult) -> None:
    assert judge(result) is expected


def test_the_caller_is_named_by_its_place_on_the_bus() -> None:
    told = arguments(INQUIRY, "c1")
    assert told.get_type_string() == "((sa{sv})sa{ss}us)"
    subject = ("system-bus-name", {"name": ":1.7"})
    assert told.unpack() == (subject, INQUIRY.action, {"device": "cam-1"}, 1, "c1")


@pytest.mark.parametrize(("interactive", "flags", "patience"), [
    (True, 1, PATIENCE_WITH_PEOPLE), (False, 0, PATIENCE),
])  # fmt: skip
def test_people_are_asked_only_where_the_caller_allows_it(
    interactive: bool, flags: int, patience: int
) -> None:
    bus, answers = Bus(), list[AuthorizationResult]()
    inquiry = AuthorizationRequest(":1.7", "a", {}, interactive=interactive)
    Polkit(bus.ask, lambda: "c1").check(inquiry, answers.append)
    ((method, values, waited, done),) = bus.called
    assert (method, values[3], waited) == ("CheckAuthorization", flags, patience)
    done(((True, False, {}),), "")
    assert answers == [AuthorizationResult.YES]
    assert len(bus.called) == 1


def test_a_prompt_that_nobody_answers_is_called_off() -> None:
    bus, answers = Bus(), list[AuthorizationResult]()
    Polkit(bus.ask, lambda: "c1").check(INQUIRY, answers.append)
    bus.called[0][3](None, NO_REPLY)
    assert answers == [AuthorizationResult.SILENCE]
    assert bus.called[1][:2] == ("CancelCheckAuthorization", ("c1",))


def test_an_absent_polkit_is_silence() -> None:
    bus, answers = Bus(), list[AuthorizationResult]()
    Polkit(bus.ask, lambda: "c1").check(INQUIRY, answers.append)
    bus.called[0][3](None, "org.freedesktop.DBus.Error.ServiceUnknown")
    assert answers == [AuthorizationResult.SILENCE]
    assert len(bus.called) == 1
