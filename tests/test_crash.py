"""Killed at each durable step, on fakes: the child comes online, and no secret is wasted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeVar

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.storage.reconcile import FindingKind, decide
from tests.support.fakes import FakeCloud, FakeLan, MemoryRecords
from tests.support.renewing_cloud import LIFE, HoldableCloud, RenewingCloud
from tests.support.stage import NameRules, Stage
from tests.support.tasks import in_background

T = TypeVar("T")

STEPS = {
    "intent-on-record": 1,
    "secret-issued": 2,  # the only window: issued by the cloud, not yet on the disk
    "secret-in-slot": 1,
    "pointer-on-record": 1,
    "logged-in": 1,
    "activation-confirmed": 1,
}
"""How many secrets the cloud issues in all, when gatewayd dies right after a step."""


NAME = CloudName("cloud", "p", "TH20-1")


class Killed(asyncio.CancelledError):
    """Ends a worker as SIGKILL would: nothing of ours gets to run."""


async def live(
    records: MemoryRecords, cloud: FakeCloud, name: str, step: str = "", goal: str = "online"
) -> tuple[str, DeviceId]:
    """Run until the child is in a state, or until the step at which to die has been taken.

    goal: handed-over where it has a holder.
    """
    died = asyncio.Event()

    def checkpoint(reached: str) -> None:
        if reached == step:
            died.set()
            raise Killed

    rules = NameRules(held=goal == "handed-over")
    async with Stage(records, cloud, checkpoint, rules).running() as stage:
        device = stage.announce(name)
        online = asyncio.create_task(stage.tape.wait_for(device, goal))
        death = asyncio.create_task(died.wait())
        done, rest = await asyncio.wait({online, death}, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return ("died" if death in done else goal), device


@pytest.mark.jumping_clock
@pytest.mark.parametrize(("step", "issued"), STEPS.items())
async def test_a_child_survives_a_crash_at_any_step(step: str, issued: int) -> None:
    records, cloud = MemoryRecords(), FakeCloud()
    ended, _ = await live(records, cloud, "TH20-1", step)
    assert ended == "died"
    ended, device = await live(records, cloud, "TH20-1")
    assert ended == "online"
    (name,) = cloud.issued
    assert len(cloud.issued[name]) == issued
    record = records[device]
    assert records.slots[record.slot(record.stored)] == cloud.activated[name]


@pytest.mark.jumping_clock
@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("second", STEPS)
async def test_two_crashes_do_no_more_harm_than_one_each(first: str, second: str) -> None:
    records, cloud = MemoryRecords(), FakeCloud()
    await live(records, cloud, "TH20-1", first)
    await live(records, cloud, "TH20-1", second)
    ended, _ = await live(records, cloud, "TH20-1")
    assert ended == "online"
    (name,) = cloud.issued
    assert len(cloud.issued[name]) <= 3
    assert cloud.activated[name] in records.slots.values()


@pytest.mark.jumping_clock
async def test_a_child_that_waited_for_its_turn_survives_a_crash_after_its_intent() -> None:
    """Its intent is a commit of its own, as its turn did not come with its admission."""
    records, cloud, intents = MemoryRecords(), FakeCloud(), 0
    died = asyncio.Event()

    def checkpoint(reached: str) -> None:
        nonlocal intents
        intents += reached == "intent-on-record"
        if intents == 2:
            died.set()
            raise Killed

    async with Stage(records, cloud, checkpoint, in_flight=1).running() as stage:
        for name in ("TH20-1", "TH20-2"):
            stage.announce(name)
        await died.wait()
        assert sorted(record.attempt for record in records.all()) == [1, 1]
        records.dead = True
    cloud.online.clear()
    records = after_a_power_cut(records)
    async with Stage(records, cloud).running() as stage:
        for device in [stage.announce(name) for name in ("TH20-1", "TH20-2")]:
            await stage.tape.wait_for(device, "online")
    assert [len(secrets) for secrets in cloud.issued.values()] == [1, 1]
    assert all(secret in records.slots.values() for secret in cloud.activated.values())


@pytest.mark.jumping_clock
@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("second", STEPS)
async def test_a_hand_over_survives_two_crashes(first: str, second: str) -> None:
    records, cloud = MemoryRecords(), HoldableCloud()
    for step in (first, second):
        await live(records, cloud, "TH20-1", step, "handed-over")
        records = after_a_power_cut(records)
        cloud.online.clear()
    ended, device = await live(records, cloud, "TH20-1", goal="handed-over")
    assert ended == "handed-over"
    assert records[device].activated_at
    assert in_use(records) in cloud.known[NAME]
    assert not cloud.online, "the holder alone has a session"
    logins = cloud.calls.count("connect TH20-1")
    await live(records, cloud, "TH20-1", goal="handed-over")
    assert cloud.calls.count("connect TH20-1") == logins, "committed once, and never again"


def earlier_records() -> Iterator[dict[str, int]]:
    """Yield what the steps of earlier versions, one more for each, may have left on the disk."""
    for attempt, activating in product((1, 2), (0, 1, 2)):
        yield {"attempt": attempt, "activating": activating, "slot": 0}
        yield {"attempt": attempt, "activating": activating, "slot": attempt}
        stored = {"attempt": attempt, "stored": attempt, "slot": attempt}
        yield {**stored, "activating": activating}
        if activating == attempt:
            yield {**stored, "activating": activating, "activated_at": 7}


@pytest.mark.jumping_clock
@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("facts", list(earlier_records()), ids=str)
async def test_a_record_of_an_earlier_version_goes_on(
    facts: dict[str, Any], restored: bool
) -> None:
    records, cloud = MemoryRecords(), FakeCloud()
    device, slot = FakeLan(lambda: 0.0).id_of(NAME.device), facts["slot"]
    record = Record(
        device=device, claims=frozenset(), label="", verdict=Verdict.ADMITTED,
        admission=Admission.RULE, rule="r", reason="", cloud=NAME, verdict_at=1, first_seen=1,
        **{name: value for name, value in facts.items() if name != "slot"},
    )  # fmt: skip
    records.rows[device] = record
    cloud.issued[NAME] = [Secret(b"issued before")]
    if slot:
        records.slots[record.slot(slot)] = cloud.issued[NAME][0]
    if record.activated_at:
        cloud.activated[NAME] = cloud.issued[NAME][0]
    records = after_a_power_cut(records)
    stage = Stage(records, cloud)
    if restored:  # else the children come by discovery alone
        stage.app.restore(lambda ref: ref in records.slots)
    async with in_background(stage.manager.run()):
        stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
    end = records[device]
    assert records.slots[end.slot(end.stored)] == cloud.activated[NAME]
    assert len(cloud.issued[NAME]) == (1 if slot else 2)


RENEWAL = (
    "candidate-on-record",
    "candidate-in-slot",
    "candidate-accepted",
    "candidate-in-use",
    "old-secret-deleted",
)


class FailingPower(MemoryRecords):
    """Power fails when so many works more have been done on the disk; None for never."""

    works: int | None = None

    async def on_disk(self, work: Callable[[], T]) -> T:
        if self.works is not None:
            self.dead = self.works <= 0
            self.works -= 1
        return await super().on_disk(work)


def after_a_power_cut(old: MemoryRecords) -> MemoryRecords:
    """Return what is found on the disk, reconciled as the real start does it."""
    new = MemoryRecords()
    new.rows, new.slots = dict(old.rows), dict(old.slots)
    for found in decide(list(old.rows.values()), list(old.slots), 1):
        assert found.kind in {FindingKind.CANDIDATE, FindingKind.OUTDATED, FindingKind.COMPLETED}, (
            found
        )
        if found.record is not None:
            new.rows[found.record.device] = found.record
        if found.ref is not None:
            del new.slots[found.ref]
    return new


async def renewing(
    records: MemoryRecords,
    cloud: RenewingCloud,
    until: Callable[[], bool],
    step: str = "",
    *,
    held: bool = False,
) -> None:
    """Run, long enough for a renewal, until something holds or a step has been taken.

    held: whether the child has a holder.
    """
    died = asyncio.Event()

    def checkpoint(reached: str) -> None:
        if reached == step:
            died.set()
            raise Killed

    async with Stage(records, cloud, checkpoint, NameRules(held=held)).running() as stage:
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "handed-over" if held else "online")
        end = asyncio.get_running_loop().time() + 3 * LIFE
        while not (until() or died.is_set()):
            await asyncio.sleep(30)
            assert asyncio.get_running_loop().time() < end
        records.dead = True
    cloud.online.clear()


HELD_RENEWAL = [step for step in RENEWAL if step != "candidate-accepted"]
"""Those of a child with a holder: nothing proves its new secret."""


@pytest.mark.jumping_clock
@pytest.mark.parametrize("step", HELD_RENEWAL)
async def test_a_renewal_for_a_holder_survives_a_crash_at_any_step(step: str) -> None:
    records, cloud = MemoryRecords(), HoldableCloud()
    await renewing(records, cloud, lambda: False, step, held=True)
    first, logins = cloud.issued[NAME][0], cloud.calls.count("connect TH20-1")
    records = after_a_power_cut(records)
    assert in_use(records) is not None, "the holder always has one"
    in_doubt = in_use(records) == first
    assert in_doubt is (step in ("candidate-on-record", "candidate-in-slot"))
    await renewing(records, cloud, lambda: in_use(records) not in (None, first), held=True)
    records = after_a_power_cut(records)
    assert in_use(records) in cloud.issued[NAME][1:]
    assert len(records.slots) == 1
    assert cloud.calls.count("connect TH20-1") == logins


def in_use(records: MemoryRecords) -> Secret | None:
    (record,) = records.rows.values()
    return records.slots.get(record.slot(record.stored)) if record.stored else None


def check_renewed(records: MemoryRecords, cloud: RenewingCloud) -> None:
    """One secret is left, it is not the first, and a login has proven it."""
    (record,) = records.rows.values()
    assert record.stored > 1
    assert not record.candidate
    assert in_use(records) in cloud.known[NAME]
    assert in_use(records) != cloud.issued[NAME][0]


@pytest.mark.jumping_clock
@pytest.mark.parametrize("trusting", [True, False])
@pytest.mark.parametrize("step", RENEWAL)
async def test_a_renewal_survives_a_crash_at_any_step(step: str, trusting: bool) -> None:
    records, cloud = MemoryRecords(), RenewingCloud()
    await renewing(records, cloud, lambda: False, step)
    first = cloud.issued[NAME][0]
    records = after_a_power_cut(records)
    assert in_use(records) in cloud.known[NAME], "an unproven secret is in use"
    cloud.trusting = trusting
    proven = len(cloud.known[NAME])
    await renewing(records, cloud, lambda: in_use(records) != first or not trusting)
    assert in_use(records) in cloud.known[NAME][: None if trusting else proven]
    cloud.trusting, records = True, after_a_power_cut(records)
    await renewing(records, cloud, lambda: in_use(records) != first)
    records = after_a_power_cut(records)
    check_renewed(records, cloud)
    assert len(records.slots) == 1
    assert len(cloud.issued[NAME]) <= 3


@pytest.mark.jumping_clock
@pytest.mark.parametrize("works", range(12))
async def test_a_renewal_survives_a_power_cut_at_any_write(works: int) -> None:
    cut, cloud = FailingPower(), RenewingCloud()

    def due() -> bool:
        if cut.works is None and asyncio.get_running_loop().time() > LIFE / 3:
            cut.works = works
        return cut.dead

    await renewing(cut, cloud, lambda: due() or in_use(cut) != cloud.issued[NAME][0])
    records = after_a_power_cut(cut)
    assert in_use(records) in cloud.known[NAME], "an unproven secret is in use"
    await renewing(records, cloud, lambda: in_use(records) != cloud.issued[NAME][0])
    check_renewed(after_a_power_cut(records), cloud)
