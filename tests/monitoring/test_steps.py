"""What children go through, counted, with the real stages on a loop that never waits."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import Reason
from gatewayd.device.views import HistoryEntry
from gatewayd.monitoring.steps import MAX_REASONS, OTHER, StepCounts
from tests.support.fakes import MemoryRecords
from tests.support.stage import Stage

CHILD = DeviceId("child-1")


def entry(event: str, state: State, reason: str = "") -> HistoryEntry:
    return HistoryEntry(1, event, state.shown, Reason(reason))


class Steps:
    """Counts whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counts = StepCounts(MemoryRecords(), lambda: self.now)

    def follow(self, *steps: tuple[float, str, State]) -> None:
        """Note steps of one child: when, the event, and the state."""
        before = State.FORGOTTEN
        for self.now, event, state in steps:
            self.counts.note(CHILD, before, entry(event, state))
            before = state

    def onboarded(self) -> dict[bool, tuple[int, float]]:
        """How many came online, and their seconds in all, by whether they were pending."""
        return {w: (one.number, one.total) for w, one in self.counts.times().items()}


def test_the_time_from_the_first_sighting_to_online() -> None:
    steps = Steps()
    steps.follow((1, "Seen", State.DISCOVERED), (2, "Admitted", State.ADMITTED),
                 (4, "SessionOpened", State.ONLINE))  # fmt: skip
    steps.follow((5, "SessionClosed", State.OFFLINE), (9, "SessionOpened", State.ONLINE))
    assert steps.onboarded() == {False: (1, 3.0), True: (0, 0.0)}
    assert steps.counts.logins.total() == 2
    assert steps.counts.endings.total() == 1


def test_who_was_pending_is_counted_apart() -> None:
    steps = Steps()
    steps.follow(
        (0, "Seen", State.DISCOVERED), (1, "Held", State.PENDING),
        (100, "Admitted", State.ADMITTED), (130, "HandedOver", State.HANDED_OVER),
    )  # fmt: skip
    assert steps.onboarded() == {False: (0, 0.0), True: (1, 130.0)}


def test_a_child_that_left_begins_again_and_one_on_record_is_no_newcomer() -> None:
    steps = Steps()
    steps.follow((0, "Seen", State.DISCOVERED), (1, "Held", State.PENDING),
                 (2, "Lost", State.FORGOTTEN))  # fmt: skip
    steps.follow((50, "Seen", State.DISCOVERED), (51, "SessionOpened", State.ONLINE))
    steps.follow((60, "Restored", State.ACTIVATING), (70, "SessionOpened", State.ONLINE))
    assert steps.onboarded() == {False: (1, 1.0), True: (0, 0.0)}


def test_reasons_are_bounded() -> None:
    steps = Steps()
    for number in range(2 * MAX_REASONS):
        step = entry("SessionDelayed", State.OFFLINE, f"code-{number}")
        steps.counts.note(CHILD, State.OFFLINE, step)
    steps.counts.note(CHILD, State.OFFLINE, entry("SessionDelayed", State.OFFLINE, "code-3"))
    assert len(steps.counts.refusals) == MAX_REASONS + 1
    assert steps.counts.refusals["login", "code-3"] == 2
    assert steps.counts.refusals["login", OTHER] == MAX_REASONS


@pytest.mark.jumping_clock
async def test_the_manager_reports_each_step(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    counts = StepCounts(stage.records, loop.time)
    stage.manager.on_step = counts.note
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.cloud.drop("TH20-1")
    await stage.tape.wait_for(device, "offline")
    await stage.tape.wait_for(device, "online")
    assert counts.logins == {"cloud": 2}
    assert counts.endings == {"cloud": 1}
    assert counts.times()[False].number == 1
