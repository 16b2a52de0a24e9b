"""The stage of messages: who may speak by the records, and what children are shown."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd import message_stage
from gatewayd.admission.policy.rules import RuleMessages
from gatewayd.cloud.provider import MessageDelayed
from gatewayd.device.command import ChildCommand
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import Acceptance, AfterOutage, OnFull
from gatewayd.device.reason import Reason
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.message_stage import (
    USUAL,
    ChildSessions,
    MessageStage,
    RecordedStanding,
    answer_form,
)
from gatewayd.messages.doors.doors import ChildCloudStatus, Doors
from gatewayd.messages.intake import IncomingMessage
from gatewayd.messages.outbox import outbox
from gatewayd.messages.outbox.file import NAME
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.messages.tap import MessageTap
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.testing.waiting import until
from tests.support.fakes import MemoryRecords
from tests.support.relays import ALICE, BOB, FakeCloud, FakeMessageSession

RETIRED, STRANGER = DeviceId("child-0000000000e0"), DeviceId("child-0000000000f0")


def record(device: DeviceId, verdict: Verdict) -> Record:
    return Record(
        device=device, claims=frozenset(), label="", verdict=verdict,
        admission=Admission.OPERATOR, rule="", reason="",
        cloud=CloudName("sky", "product", device), verdict_at=1, first_seen=1,
    )  # fmt: skip


@pytest.fixture
def records() -> MemoryRecords:
    made, verdicts = MemoryRecords(), (Verdict.ADMITTED, Verdict.REJECTED, Verdict.RETIRED)
    for device, verdict in zip((ALICE, BOB, RETIRED), verdicts, strict=True):
        made.rows[device] = record(device, verdict)
    return made


def test_who_may_speak_is_what_the_records_say(records: MemoryRecords) -> None:
    standing, all_of_them = RecordedStanding(records), (ALICE, BOB, RETIRED, STRANGER)
    assert [one for one in all_of_them if standing.admitted(one)] == [ALICE]
    assert [one for one in all_of_them if standing.gone(one)] == [BOB, STRANGER]
    assert [standing.cloud(one) for one in all_of_them] == ["sky", "sky", "sky", ""]


def test_a_rule_treats_messages_of_its_children_and_no_others(records: MemoryRecords) -> None:
    records.rows[ALICE] = replace(records.rows[ALICE], rule="meters")
    rules = {"meters": RuleMessages(accepted="reply", on_full="refuse", window=3)}
    usual = ChildMessageSettings(rate=7.0, after_outage=AfterOutage.IN_ORDER)
    standing = RecordedStanding(records, usual, lambda name: rules.get(name, USUAL))
    treated = standing.treatment(ALICE)
    assert treated == replace(usual, accepted=Acceptance.REPLY, on_full=OnFull.REFUSE, window=3)
    assert standing.treatment(ALICE) is treated, "so that a change is seen at once"
    assert standing.treatment(RETIRED) == standing.treatment(STRANGER) == usual
    rules["meters"] = RuleMessages(share=1 << 20)
    assert standing.treatment(ALICE) == replace(usual, share=1 << 20)


def test_since_when_a_child_is_online() -> None:
    now = [5]
    sessions = ChildSessions(lambda: now[0])
    sessions.session_closed(ALICE)
    assert not sessions.offline, "it never was online"
    sessions.session_opened(ALICE, FakeMessageSession(FakeCloud(), ALICE))
    now[0] = 6
    sessions.session_opened(ALICE, FakeMessageSession(FakeCloud(), ALICE))
    assert (sessions.online, sessions.offline) == ({ALICE: 5}, {}), "a new secret is no outage"
    sessions.session_closed(ALICE)
    assert (sessions.online, sessions.offline) == ({}, {ALICE: 6})


class ShownToChildren:
    """What a door is given to show, in the place of gatewayd's own broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.status: dict[DeviceId, dict[str, object] | None] = {}
        monkeypatch.setattr(Doors, "show", lambda _, *shown: self.show(*shown))

    def show(self, child: DeviceId, status: ChildCloudStatus | None) -> None:
        self.status[child] = json.loads(status.encode()) if status else None


@asynccontextmanager
async def running(directory: Path, records: MemoryRecords) -> AsyncIterator[MessageStage]:
    stage = MessageStage(
        MessageSettings(enabled=True, commit_delay=0),
        directory,
        records,
        Clock(asyncio.get_running_loop().time, wall_time),
        MessageTap(lambda: 0),
        own=None,
        read_secret=lambda *_: Secret(b""),
        host="gateway",
        clouds={},
    )
    await stage.open()
    tasks = [asyncio.ensure_future(service()) for service in stage.services()]
    try:
        yield stage
    finally:
        await cancel_and_wait(tasks)
        await stage.aclose()


async def test_a_child_is_shown_its_way_to_the_cloud(
    tmp_path: Path, records: MemoryRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_stage, "SHOW_EVERY", 0.01)
    shown = ShownToChildren(monkeypatch)
    async with running(tmp_path, records) as stage:
        settled: list[object] = []
        for child in (ALICE, BOB, STRANGER):
            stage.intake.offer(IncomingMessage("site", child, "properties", b"{}"), settled.append)
        await until(lambda: (shown.status.get(ALICE) or {}).get("waiting"))
        assert shown.status == {ALICE: {"cloud": "down", "since": 0, "waiting": 1, "dropped": 0}}, (
            "who may not speak is shown nothing"
        )
        session = FakeMessageSession(FakeCloud(), ALICE)
        for listener in (stage.sessions, stage.relay.delivery):
            listener.session_opened(ALICE, session)
        await until(lambda: (shown.status[ALICE] or {})["cloud"] == "up")
        await until(lambda: (shown.status[ALICE] or {})["waiting"] == 0)
        for listener in (stage.sessions, stage.relay.delivery):
            listener.session_closed(ALICE)
        await until(lambda: (shown.status[ALICE] or {})["cloud"] == "down")
        del records.rows[ALICE]
        await until(lambda: shown.status[ALICE] is None)
        assert not stage.sessions.offline
        assert settled == [None, "unknown-child", "unknown-child"]
        assert stage.entrances[ALICE] == "site"


async def test_what_waits_of_a_child_that_is_forgotten_does_not_wait_for_the_next_one(
    tmp_path: Path, records: MemoryRecords
) -> None:
    async with running(tmp_path, records) as stage:
        settled: list[object] = []
        stage.intake.offer(IncomingMessage("site", ALICE, "properties", b"old"), settled.append)
        await until(lambda: settled)
        stage.standing_changed(ALICE)
        assert stage.statistics().total.waiting == 1, "it has its record"
        record = records.rows.pop(ALICE)
        stage.standing_changed(ALICE)
        records.rows[ALICE] = record
        cloud = FakeCloud()
        stage.relay.delivery.session_opened(ALICE, FakeMessageSession(cloud, ALICE))
        stage.intake.offer(IncomingMessage("site", ALICE, "properties", b"new"), settled.append)
        await until(lambda: cloud.accepted[ALICE])
        assert cloud.accepted[ALICE] == [b"new"]
        assert stage.statistics().total.dropped == {"forgotten": 1}


@pytest.mark.parametrize("ends", ["opened", "stopped"])
async def test_an_outbox_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, records: MemoryRecords, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """What was stored before leaves then, and what the cloud had is not sent again."""
    monkeypatch.setattr(outbox, "DELETE_DELAY", 1000.0)
    monkeypatch.setattr(message_stage, "OPEN_AGAIN", 0.01)
    settled: list[object] = []
    async with running(tmp_path / "before", records) as stage:
        for payload in (b"0", b"1"):
            message = IncomingMessage("site", ALICE, "properties", payload)
            stage.intake.offer(message, settled.append)
        await until(lambda: len(settled) == 2)
        cloud = FakeCloud()
        cloud.answers[b"1"].append(MessageDelayed(Reason("later")))
        stage.relay.delivery.session_opened(ALICE, FakeMessageSession(cloud, ALICE))
        await until(lambda: stage.statistics().total.waiting == 1 and not cloud.answers[b"1"])
        await asyncio.to_thread(shutil.copytree, tmp_path / "before", tmp_path / "after")
    file = tmp_path / "after" / NAME
    file.rename(tmp_path / "aside")
    file.mkdir()
    async with running(tmp_path / "after", records) as stage:
        assert stage.statistics().state == "blocked"
        assert stage.intake.blocked
        resumed = asyncio.Event()
        stage.intake.on_ready(resumed.set)
        cloud = FakeCloud()
        stage.relay.delivery.session_opened(ALICE, FakeMessageSession(cloud, ALICE))
        await stage.relay.ping()
        if ends == "opened":
            file.rmdir()
            (tmp_path / "aside").rename(file)
            await resumed.wait()
            await until(lambda: cloud.accepted[ALICE] == [b"1"])
            assert stage.statistics().state == "running"
    if ends == "stopped":  # what was concluded is still known
        file.rmdir()
        (tmp_path / "aside").rename(file)
        async with running(tmp_path / "after", records) as stage:
            assert stage.statistics().total.waiting == 1


class SpokenTo:
    """A provider whose children answer in a form of their cloud."""

    def is_answer(self, topic: str) -> bool:
        return topic == "result"

    def identifier_in(self, payload: bytes) -> str:
        return payload.decode()

    def is_success(self, _: ChildCommand, payload: bytes) -> bool:
        return payload == b"good"


async def test_the_cloud_of_a_child_says_what_its_answers_are(records: MemoryRecords) -> None:
    spoken_to = SpokenTo()
    assert answer_form(records, {"sky": spoken_to, "sea": object()})(ALICE) is spoken_to
    assert answer_form(records, {"sky": object(), "sea": spoken_to})(ALICE) is None
    assert answer_form(records, {"sky": spoken_to})(DeviceId("gone")) is None
