"""The view of a child: when it is made, and whose name it shows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from gatewayd.admission.controller import AdmissionController, PolicyVersion
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.views import ALL, DeviceView, HistoryEntry, ShowChanges
from gatewayd.manager.device_view import STEPS, DevicePublisher
from gatewayd.manager.manager import Child
from gatewayd.runtime.clock import Clock
from tests.support.fakes import FakeCloud, FakeLan, MemoryRecords, RecordingReporter
from tests.support.stage import Stage


async def rename_on_the_lan(stage: Stage, device: DeviceId, label: str) -> str:
    """Let another instance announce the device's serial number; return the name shown then."""
    stage.lan.known[device] = replace(stage.lan.known[device], label=label)
    stage.manager.refresh(stage.manager.children[device])
    return stage.tape.shown[device].name


@pytest.mark.jumping_clock
async def test_an_admitted_child_keeps_its_name_whatever_is_announced() -> None:
    records = MemoryRecords()

    async with Stage(records, FakeCloud()).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        assert await rename_on_the_lan(stage, device, "Fire alarm") == "TH20-1"
        await stage.app.commands.rename(device, "Dock", "uid 0")
        assert await rename_on_the_lan(stage, device, "Fire door") == "Dock"
    assert {record.label for record in records.all()} == {"Dock"}


@pytest.mark.jumping_clock
async def test_a_stranger_is_shown_as_it_calls_itself() -> None:
    async with Stage(MemoryRecords(), FakeCloud()).running() as stage:
        device = stage.announce("stranger")
        await stage.tape.wait_for(device, "pending")
        assert await rename_on_the_lan(stage, device, "Lamp") == "Lamp"


class PatientReporter(RecordingReporter):
    """A reporter that shows changes when it is asked to, and remembers each view."""

    def __init__(self) -> None:
        super().__init__()
        self.show_changes: ShowChanges = self.no_changes
        self.views: list[DeviceView] = []

    def no_changes(self, limit: int, *, steps: bool = False) -> bool:
        return False

    def gather(self, show_changes: ShowChanges) -> None:
        self.show_changes = show_changes

    def show(self, view: DeviceView) -> None:
        self.views.append(view)


class CountingAdmission:
    """A policy that counts its decisions."""

    def __init__(self) -> None:
        self.version: PolicyVersion = (0, None)
        self.decisions = 0

    def judge(self, device: DeviceId, evidence: Evidence) -> Decision:
        self.decisions += 1
        trust = Trust.LISTED if evidence.label == "listed" else Trust.CLAIMED
        return Decision(Action.ASK, "", Reason("no-rule"), None, (), trust)


class Publishing:
    """A publisher of children that are seen on a LAN of the test's own."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = Clock(loop.time, lambda: int(loop.time() * 1e6))
        self.lan, self.policy = FakeLan(loop.time), CountingAdmission()
        self.reporter = PatientReporter()
        admission = cast("AdmissionController", self.policy)
        self.publisher = DevicePublisher(
            MemoryRecords(), self.lan, admission, self.reporter, self.clock, {}
        )

    def child(self, name: str, label: str = "") -> Child:
        child = Child(DeviceId(name), State.PENDING)
        seen = ({"source": "mdns"},)
        self.lan.known[child.id] = Evidence(seen, frozenset(), Trust.CLAIMED, label)
        return child

    def shown(self, limit: int = ALL, *, steps: bool = True) -> list[tuple[str, str]]:
        """Return id and state of each view that is made now."""
        self.reporter.views.clear()
        self.reporter.show_changes(limit, steps=steps)
        return [(view.id, view.state) for view in self.reporter.views]


@pytest.mark.jumping_clock
async def test_many_events_make_one_view_and_it_has_the_whole_history() -> None:
    scene = Publishing()
    child = scene.child("child-1")
    for state in (State.ADMITTED, State.REGISTERING, State.ONLINE):
        child.state = state
        child.remember(HistoryEntry(1, "Event", state.shown, NONE))
        scene.publisher.show(child)
    assert scene.shown() == [("child-1", "online")]
    (view,) = scene.reporter.views
    assert [entry.state for entry in view.history] == ["admitted", "registering", "online"]
    assert scene.shown() == []


@pytest.mark.jumping_clock
async def test_what_is_gone_is_not_shown_again() -> None:
    scene = Publishing()
    gone, stays = scene.child("gone"), scene.child("stays")
    scene.publisher.show(gone)
    scene.publisher.show(stays)
    scene.publisher.remove(gone.id)
    assert scene.shown() == [("stays", "pending")]


@pytest.mark.jumping_clock
async def test_so_many_are_shown_at_once_and_the_oldest_change_first() -> None:
    scene = Publishing()
    for number in range(5):
        scene.publisher.show(scene.child(f"child-{number}"))
    assert [name for name, _ in scene.shown(2)] == ["child-0", "child-1"]
    scene.publisher.show(scene.child("child-5"))
    assert scene.reporter.show_changes(3)
    assert [name for name, _ in scene.shown()] == ["child-5"]


@pytest.mark.jumping_clock
async def test_a_child_that_cannot_be_shown_hides_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Publishing()
    scene.publisher.show(scene.child("child-1"))
    broken = scene.child("broken")
    broken.until = float("inf")  # no time to show
    scene.publisher.show(broken)
    scene.publisher.show(scene.child("child-2"))
    assert [name for name, _ in scene.shown()] == ["child-1", "child-2"]
    assert [getattr(record, "device", "") for record in caplog.records] == ["broken"]
    assert scene.shown() == []


@pytest.mark.jumping_clock
async def test_steps_that_follow_at_once_are_not_shown_one_by_one() -> None:
    scene = Publishing()
    child = scene.child("child-1")
    child.state = State.ADMITTED
    scene.publisher.show(child)
    assert scene.shown(steps=False) == [("child-1", "admitted")], "it was never shown before"
    for state in (State.REGISTERING, State.SECURING, State.ACTIVATING):
        child.state = state
        scene.publisher.show(child)
        await asyncio.sleep(STEPS / 4)
        assert scene.shown(steps=False) == []
    child.state = State.ONLINE
    scene.publisher.show(child)
    assert scene.shown(steps=False) == [("child-1", "online")]


@pytest.mark.jumping_clock
async def test_a_step_that_lasts_or_waits_or_is_asked_for_is_shown() -> None:
    scene = Publishing()
    child = scene.child("child-1")

    def steps(until: float = 0.0) -> None:
        child.state, child.until = State.REGISTERING, until
        scene.publisher.show(child)

    steps()
    assert scene.shown(steps=False)
    steps()
    assert scene.shown(steps=False) == []
    await asyncio.sleep(STEPS)
    assert scene.shown(steps=False) == [("child-1", "registering")]
    steps(until=scene.clock.now() + 60)
    assert scene.shown(steps=False) == [("child-1", "registering")]
    steps()
    assert scene.shown(steps=False) == []
    assert scene.shown() == [("child-1", "registering")]


@pytest.mark.jumping_clock
async def test_policy_decides_again_only_where_evidence_or_policy_has_changed() -> None:
    scene = Publishing()
    child = scene.child("child-1", "listed")
    for state in (State.ADMITTED, State.REGISTERING, State.ONLINE):
        child.state = state
        scene.publisher.show(child)
        scene.shown()
    assert (scene.policy.decisions, scene.reporter.views[0].trust) == (1, "listed")

    scene.child("child-1", "another")
    scene.publisher.show(child)
    scene.shown()
    assert (scene.policy.decisions, scene.reporter.views[0].trust) == (2, "claimed")

    scene.policy.version = (1, None)
    scene.publisher.show(child)
    scene.shown()
    assert scene.policy.decisions == 3


async def test_of_a_child_that_is_not_seen_policy_is_not_asked() -> None:
    scene = Publishing()
    child = scene.child("child-1", "listed")
    scene.lan.known[child.id] = Evidence((), frozenset(), Trust.CLAIMED, "listed")
    scene.publisher.show(child)
    assert scene.shown() == [("child-1", "pending")]
    assert (scene.policy.decisions, scene.reporter.views[0].trust) == (0, "claimed")
