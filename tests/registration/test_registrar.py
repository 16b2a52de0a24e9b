"""Registration: each way the cloud can answer, and what is made of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatewayd.cloud.provider import KeepSecret, Outcome
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import Admission, Change, CloudName, Record, Verdict
from gatewayd.errors import StoreFull
from gatewayd.registration.registrar import AT_HAND, UnusedIntents
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

pytestmark = pytest.mark.jumping_clock


@asynccontextmanager
async def answering(*script: str, **settings: Any) -> AsyncIterator[Stage]:
    """Run the application with a cloud that answers the child TH20-1 by script first."""
    cloud = FakeCloud(script={"TH20-1": list(script)})
    async with Stage(MemoryRecords(), cloud, **settings).running() as stage:
        yield stage


def issued(cloud: FakeCloud) -> int:
    return sum(len(secrets) for secrets in cloud.issued.values())


async def test_a_failure_is_tried_again_later_and_later() -> None:
    moments: list[float] = []
    async with answering("fail", "fail", "fail") as stage:
        device = stage.announce("TH20-1")
        for _ in range(3):
            await stage.tape.wait_for(device, "registering")
            moments.append(asyncio.get_running_loop().time())
            await stage.tape.wait_for(device, "admitted", "cloud-unreachable")
            assert stage.tape.shown[device].next_attempt > 0
        await stage.tape.wait_for(device, "online")
    assert issued(stage.cloud) == 1
    assert [round(b - a) for a, b in itertools.pairwise(moments)] == [15, 30]


async def test_a_refusal_waits_for_an_operator() -> None:
    async with answering("refuse") as stage:
        device = stage.announce("TH20-1")
        view = await stage.tape.wait_for(device, "failed", "cloud-refused")
        assert view.substate == "needs-operator"
        await asyncio.sleep(86_400)
        assert stage.cloud.calls == ["register TH20-1"]
        await stage.app.commands.retry(device, "uid 0")
        await stage.tape.wait_for(device, "online")


async def test_an_answer_that_was_lost_is_waited_out() -> None:
    async with answering("lose") as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "admitted", "answer-lost")
        lost = asyncio.get_running_loop().time()
        await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() - lost >= 60
    assert issued(stage.cloud) == 2


@pytest.mark.parametrize("obstacle", ["nothing-sent", "answered"])
async def test_what_cannot_be_under_way_is_not_waited_for_after_a_restart(obstacle: str) -> None:
    records, cloud = MemoryRecords(), FakeCloud(script={"TH20-1": ["fail"]})
    if obstacle == "nothing-sent":
        cloud.not_ready = Reason("credential-missing", "The product secret cannot be read.")
    async with Stage(records, cloud, retry_first=3600.0).running() as stage:
        device = stage.announce("TH20-1")
        code = cloud.not_ready.code if cloud.not_ready else "cloud-unreachable"
        await stage.tape.wait_for(device, "admitted", code)
        assert records[device].attempt == 1
    cloud.not_ready, cloud.script = None, {}
    began = asyncio.get_running_loop().time()
    async with Stage(records, cloud).running() as stage:
        stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
    assert asyncio.get_running_loop().time() - began < 30  # and no quiet time of 60 s


async def test_a_secret_made_stale_by_a_late_duplicate_is_replaced() -> None:
    async with answering("issue-another") as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        assert stage.records[device].stale == 0
        assert "admitted" in stage.tape.states[device][3:]


async def test_secrets_that_are_always_stale_need_an_operator() -> None:
    async with answering(*["issue-another"] * 9) as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "failed", "secret-repeatedly-stale")
    assert issued(stage.cloud) == 8


async def test_an_issued_secret_is_not_given_up_when_the_disk_is_full() -> None:
    async with answering() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "registering")
        stage.records.failing = StoreFull("full")
        await stage.tape.wait_for(device, "securing", "store-full")
        await asyncio.sleep(3600)
        assert stage.tape.shown[device].state == "securing"
        stage.records.failing = None
        await stage.tape.wait_for(device, "online")
    assert issued(stage.cloud) == 1


async def test_no_more_at_once_than_allowed_and_none_forgotten() -> None:
    cloud = CountingCloud()
    async with Stage(MemoryRecords(), cloud, in_flight=4).running() as stage:
        devices = [stage.announce(f"TH20-{n}") for n in range(50)]
        for device in devices:
            await stage.tape.wait_for(device, "online")
    assert cloud.most == 4


class CountingCloud(FakeCloud):
    """Notes how many registrations were under way at once."""

    under_way = most = 0

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().register(name, keep)
        finally:
            self.under_way -= 1


@pytest.mark.parametrize(("per_minute", "at_least"), [(10, 4 * 60), (600, 0)])
async def test_registrations_are_spread_over_time(per_minute: int, at_least: float) -> None:
    async with answering(per_minute=per_minute) as stage:
        began = asyncio.get_running_loop().time()
        devices = [stage.announce(f"TH20-{n}") for n in range(50)]
        for device in devices:
            await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() - began >= at_least


async def test_draining_waits_for_what_is_under_way_and_begins_nothing() -> None:
    async with answering() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "registering")
        late = stage.announce("TH20-2")
        await stage.app.registrar.drain(10)
        assert issued(stage.cloud) == 1
        assert stage.records[device].stored == 1
        await stage.tape.wait_for(late, "admitted", "stopping")


class CountingRecords(MemoryRecords):
    """Remembers each record that was written, and may be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Record] = []

    async def update(self, device: DeviceId, change: Change) -> Record:
        record = await super().update(device, change)
        self.written.append(record)
        return record


def facts(record: Record) -> tuple[int, int, int, bool]:
    return record.attempt, record.stored, record.activating, bool(record.activated_at)


async def test_a_child_is_four_durable_steps() -> None:
    records = CountingRecords()
    async with Stage(records, FakeCloud()).running() as stage:
        await stage.tape.wait_for(stage.announce("TH20-1"), "online")
    assert [facts(record) for record in records.written] == [
        (1, 0, 0, False), (1, 1, 1, False), (1, 1, 1, True),
    ]  # fmt: skip
    assert len(records.slots) == 1  # the second of the four


async def test_a_child_that_waits_for_its_turn_has_no_intent_yet() -> None:
    records, cloud = CountingRecords(), FakeCloud()
    async with Stage(records, cloud, in_flight=1).running() as stage:
        devices = [stage.announce(f"TH20-{number}") for number in range(3)]
        for device in devices:
            await stage.tape.wait_for(device, "online")
    admitted = {record.device: record for record in reversed(records.written)}
    assert sorted(record.attempt for record in admitted.values()) == [0, 0, 1]
    assert all(records[device].attempt == 1 for device in devices)
    assert issued(cloud) == 3


async def test_an_intent_is_used_at_once_or_not_at_all() -> None:
    class UnreadyCloud(FakeCloud):
        ready = False

        async def check_ready(self, name: CloudName) -> Reason | None:
            return None if self.ready else Reason("cloud-unreachable")

    cloud = UnreadyCloud()
    async with Stage(MemoryRecords(), cloud).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "admitted", "cloud-unreachable")
        assert stage.records[device].attempt == 1
        cloud.ready = True
        await stage.tape.wait_for(device, "online")
        assert stage.records[device].attempt == 2
    assert issued(cloud) == 1


@pytest.mark.parametrize("command", ["reject", "forget"])
async def test_a_no_between_admission_and_request_is_obeyed(command: str) -> None:
    """The intent is on record with the admission; nothing may be requested by it after a no."""

    class SlowCloud(FakeCloud):
        async def check_ready(self, name: CloudName) -> Reason | None:
            await asyncio.sleep(0.5)
            return None

    cloud = SlowCloud()
    stage = Stage(MemoryRecords(), cloud)
    async with stage.running():
        device = stage.announce("TH20-1")
        while (record := stage.records.get(device)) is None or not record.attempt:
            await asyncio.sleep(0.001)
        if command == "reject":
            await stage.app.commands.reject(device, "", "uid 0")
            await asyncio.sleep(3600)
            assert cloud.calls == []
            assert stage.records[device].verdict is Verdict.REJECTED
            await stage.app.commands.approve(device, "", "uid 0")
        else:
            await stage.app.commands.forget(device, "uid 0")
        await stage.tape.wait_for(device, "online")
    assert issued(cloud) == 1


def a_record(device: str, attempt: int, at: int) -> Record:
    return Record(
        device=DeviceId(device), claims=frozenset(), label="", verdict=Verdict.ADMITTED,
        admission=Admission.RULE, rule="", reason="", cloud=CloudName("cloud", "p", device),
        verdict_at=at, first_seen=at, attempt=attempt, attempted_at=at,
    )  # fmt: skip


def test_an_intent_is_used_once_and_only_as_it_is_on_record() -> None:
    now = [0.0]
    intents = UnusedIntents(10, lambda: now[0])
    intents.add(a_record("child-1", 1, 5))
    assert intents.covers(a_record("child-1", 1, 5))
    for other in (a_record("child-2", 1, 5), a_record("child-1", 2, 5), a_record("child-1", 1, 6)):
        assert not intents.covers(other)
    assert intents.take(a_record("child-1", 1, 5))
    assert not intents.take(a_record("child-1", 1, 5))
    assert not intents.covers(a_record("child-1", 1, 5))

    intents.add(a_record("child-1", 1, 7))
    assert not intents.take(a_record("child-1", 1, 5)), "it was forgotten and is another's"
    assert not intents.take(a_record("child-1", 1, 7)), "it is used up"

    intents.add(a_record("child-1", 1, 9))
    now[0] += AT_HAND + 1
    assert intents.covers(a_record("child-1", 1, 9)), "nothing was requested, however long ago"
    assert not intents.take(a_record("child-1", 1, 9)), "too old to be used"


def test_unused_intents_are_bounded_and_old_ones_make_room() -> None:
    now = [0.0]
    intents = UnusedIntents(3, lambda: now[0])
    one, two = DeviceId("child-1"), DeviceId("child-2")
    assert not intents.reserve(one, 3)
    assert intents.reserve(one, 2)
    assert not intents.reserve(two, 2)
    assert not intents.covers(a_record("child-1", 0, 0)), "it is only reserved"
    intents.add(a_record("child-1", 1, 1))
    assert intents.reserve(two, 1)
    assert not intents.reserve(DeviceId("child-3"), 1)
    now[0] += AT_HAND + 1
    assert intents.reserve(DeviceId("child-3"), 1)
    assert not intents.covers(a_record("child-1", 1, 1))


def test_the_oldest_unused_intent_makes_room_first() -> None:
    now = [0.0]
    intents = UnusedIntents(2, lambda: now[0])
    one, two, three = (DeviceId(f"child-{n}") for n in (1, 2, 3))
    assert intents.reserve(one, 0)
    intents.add(a_record("child-2", 1, 2))
    now[0] += AT_HAND
    intents.add(a_record("child-1", 1, 1))  # it was reserved before, and is the newest now
    assert not intents.reserve(three, 0)
    now[0] += 1
    assert intents.reserve(three, 0)
    assert intents.covers(a_record("child-1", 1, 1))
    assert not intents.covers(a_record("child-2", 1, 2))
    assert not intents.reserve(two, 0)
