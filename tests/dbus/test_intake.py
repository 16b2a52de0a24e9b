"""What waits is bounded before it is queued, and each sender has its turn."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.dbus.bus import FloodReporter
from gatewayd.dbus.callers.users import UserNames
from gatewayd.dbus.intake import (
    FEW_BYTES,
    INTROSPECTIONS,
    LARGEST,
    MUTE,
    MUTED,
    NAMED,
    WAKE,
    BusMessage,
    Intake,
    Limits,
    QueuedCall,
)
from gatewayd.errors import Busy
from gatewayd.runtime.tasks import cancel_and_wait

EVE, OLGA = ":1.66", ":1.7"
TIGHT = Limits(
    messages_of_one=4, messages=20, bytes_of_one=20_000, bytes=100_000, descriptors_of_one=2,
    descriptors=6,
)  # fmt: skip


class FakeClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def intake(clock: FakeClock) -> Intake:
    return Intake(TIGHT, now=clock)


def refuses(intake: Intake, sender: str) -> bool:
    """Whether a small message is refused; it is counted if it is not."""
    return intake.is_muted(sender) or not intake.admit(BusMessage(sender, 0, 0))


def fill(intake: Intake, sender: str, size: int = 0, descriptors: int = 0) -> int:
    """How many messages of a sender are admitted until one is refused."""
    admitted = 0
    while intake.admit(BusMessage(sender, size, descriptors)):
        admitted += 1
    return admitted


@pytest.mark.parametrize(("size", "descriptors", "admitted"), [(0, 0, 4), (7000, 0, 2), (0, 1, 2)])
def test_one_sender_has_a_limit(intake: Intake, size: int, descriptors: int, admitted: int) -> None:
    assert fill(intake, EVE, size, descriptors) == admitted
    assert intake.admit(BusMessage(OLGA, 10, 1))


def test_half_of_all_is_kept_for_those_who_have_nothing_waiting(intake: Intake) -> None:
    senders = [f":2.{n}" for n in range(12)]
    assert sum(fill(intake, one) for one in senders[:6]) == 13  # two fill half, then one each
    assert all(fill(intake, one) == 1 for one in senders[6:])
    assert intake.admit(BusMessage(OLGA, FEW_BYTES, 0))


def test_all_together_have_a_limit(intake: Intake) -> None:
    admitted = sum(fill(intake, f":1.{n}") for n in range(100))
    assert admitted == TIGHT.messages == len(intake)
    assert refuses(intake, OLGA)


def test_what_is_too_large_is_never_admitted() -> None:
    intake = Intake()
    assert not intake.admit(BusMessage(OLGA, LARGEST + 1, 0))
    assert intake.admit(BusMessage(OLGA, LARGEST, 0))


def test_there_is_room_again_once_a_round_has_been_dispatched(intake: Intake) -> None:
    for _ in range(4):
        assert intake.admit(BusMessage(EVE, 0, 0))
    dispatched = intake.begin_round()
    assert refuses(intake, EVE)
    intake.end_round(dispatched)
    assert len(intake) == 0
    assert fill(intake, EVE) == 4


def test_a_sender_that_goes_on_is_refused_everything_for_a_while(
    intake: Intake, clock: FakeClock
) -> None:
    fill(intake, EVE)
    intake.end_round(intake.begin_round())
    assert len(intake) == 0
    assert refuses(intake, EVE)
    assert not refuses(intake, OLGA)
    clock.time += MUTE
    assert not refuses(intake, EVE)


def test_a_single_refusal_mutes_no_sender(intake: Intake) -> None:
    assert not intake.admit(BusMessage(OLGA, LARGEST + 1, 0))
    assert not refuses(intake, OLGA)


def test_who_is_muted_is_remembered_in_bounded_memory(intake: Intake) -> None:
    for number in range(MUTED + 10):
        fill(intake, f":1.{number}")
        intake.end_round(intake.begin_round())
    assert len(intake._muted) == MUTED


def call(sender: str, events: list[str]) -> QueuedCall:
    """A call that notes what becomes of it."""
    message = BusMessage(sender, 0, 0)
    return QueuedCall(message, lambda: events.append(sender), lambda: events.append("dropped"))


def test_a_call_counts_until_it_is_answered(intake: Intake) -> None:
    calls = [call(EVE, []) for _ in range(4)]
    for one in calls:
        intake.admit(one.message)
        intake.put(one)
        intake.end_round(intake.begin_round())
    while intake.serve_next():
        pass
    assert len(intake) == 4
    for one in calls:
        intake.release(one.message)
    assert len(intake) == 0
    assert not refuses(intake, EVE)


def queue(intake: Intake, sender: str, number: int, served: list[str]) -> None:
    for _ in range(number):
        intake.put(call(sender, served))


def test_each_sender_has_its_turn(intake: Intake) -> None:
    served: list[str] = []
    queue(intake, EVE, 3, served)
    queue(intake, OLGA, 1, served)
    assert [intake.serve_next() for _ in range(5)] == [True, True, True, False, False]
    assert served == [EVE, OLGA, EVE, EVE]


def test_calls_of_a_lost_bus_are_dropped_and_not_served(intake: Intake) -> None:
    events: list[str] = []
    for _ in range(2):
        intake.put(call(EVE, events))
    intake.drop_all()
    assert not intake.serve_next()
    assert events == ["dropped"] * 2


def test_a_flood_is_reported_once() -> None:
    reported: list[str] = []
    intake = Intake(TIGHT, reported.append)
    for number in range(200):
        fill(intake, f":1.{number}")
    assert len(reported) == 1
    refused = intake.take_refusals()
    assert refused.count == 200
    assert len(refused.senders) == NAMED
    intake.refuse(EVE)
    assert reported[1:] == [EVE]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9000), st.integers(0, 1))))
def test_no_sequence_exceeds_a_limit_and_all_is_given_back(
    messages: list[tuple[int, int, int]],
) -> None:
    intake = Intake(TIGHT)
    for number, size, descriptors in messages:
        intake.admit(BusMessage(f":1.{number}", size, descriptors))
        total = intake._total
        assert total.messages <= TIGHT.messages
        assert total.bytes <= TIGHT.bytes
        assert total.descriptors <= TIGHT.descriptors
    intake.end_round(intake.begin_round())
    assert len(intake) == 0
    assert not intake._of_one


def test_the_thread_is_woken_where_messages_wait_for_its_next_round() -> None:
    woken: list[int] = []
    intake = Intake()
    intake.on_backlog(lambda: woken.append(len(intake)))
    for _ in range(2 * WAKE):
        assert intake.admit(BusMessage(OLGA, 0, 0))
    assert woken == [WAKE, 2 * WAKE]


def test_descriptions_in_a_second_are_bounded(intake: Intake, clock: FakeClock) -> None:
    assert all(intake.may_introspect(20) for _ in range(INTROSPECTIONS // 20))
    assert not intake.may_introspect(1)
    clock.time += 1
    assert intake.may_introspect(1)


@pytest.mark.asyncio
async def test_a_flood_is_reported_while_nobody_can_be_asked_for_its_user(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    async def user(_: str) -> int | None:
        raise Busy("The D-Bus thread is overloaded, try again")

    reporter = FloodReporter(intake, user, UserNames())
    running = asyncio.create_task(reporter.run())
    with caplog.at_level(logging.WARNING):
        reporter.begin(EVE)
        async with asyncio.timeout(60):
            while not caplog.records:
                await asyncio.sleep(0)
    assert f"Refusing D-Bus calls of an unknown user ({EVE})" in caplog.text
    await cancel_and_wait([running])
