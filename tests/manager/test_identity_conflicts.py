"""Operators split and merge children: what is kept, what is made, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from gatewayd.device.identity import NO_DEVICE, Claim, DeviceId
from gatewayd.device.record import CloudName
from gatewayd.errors import StoreFull, WrongState
from gatewayd.manager import identity_conflicts
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

pytestmark = pytest.mark.jumping_clock

SHARED = Claim("serial", "pm", "0815")


def claims_of(stage: Stage, device: DeviceId) -> frozenset[Claim]:
    return stage.lan.evidence(device).claims


async def pair(stage: Stage, *names: str, alone: bool = False) -> list[DeviceId]:
    """Have two devices seen that show one serial; alone: the first shows nothing else."""
    ids: list[DeviceId] = []
    for name in names:
        device = stage.announce(name)
        own = frozenset() if alone and not ids else claims_of(stage, device)
        stage.lan.known[device] = replace(stage.lan.known[device], claims=own | {SHARED})
        await stage.tape.wait_for(device, "online" if name.startswith("TH") else "pending")
        ids.append(device)
    return ids


async def test_what_both_show_identifies_neither_once_they_are_split(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "stranger")
    said = stage.app.commands.consequences(one, f"Split {two}")
    assert "serial 0815" in said[0]
    assert all(any(device in line for line in said) for device in (one, two))
    await stage.app.commands.split(one, two, "uid 0")
    assert stage.records.answers == stage.lan.answers == {SHARED: NO_DEVICE}
    assert stage.tape.shown[one].state == "online"


async def test_a_child_on_record_is_not_left_without_an_identity(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "stranger", alone=True)
    for pair_ in ((one, two), (two, one)):
        with pytest.raises(WrongState, match="left without an identity"):
            await stage.app.commands.split(*pair_, "uid 0")
    assert not stage.records.answers


async def test_of_two_that_are_merged_the_first_is_kept(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "TH20-2")
    said = " ".join(stage.app.commands.consequences(one, f"Merge {two}"))
    assert f"{one} keeps its id, its name p/TH20-1 at the cloud" in said
    assert f"{two} is forgotten, its name p/TH20-2 at the cloud" in said
    merged = claims_of(stage, two)
    await stage.app.commands.merge(one, two, "uid 0")
    await stage.manager.ping()
    assert stage.records.answers == stage.lan.answers == dict.fromkeys(merged, one)
    assert set(stage.records.rows) == {one}
    assert {ref.device for ref in stage.records.slots} == {one}
    assert two not in stage.tape.shown
    assert stage.tape.shown[one].state == "online"
    assert "forget TH20-2" in stage.cloud.calls


async def test_answers_are_in_force_after_a_restart_and_end_with_the_child() -> None:
    records, cloud = MemoryRecords(), FakeCloud()
    async with Stage(records, cloud).running() as stage:
        one, two = await pair(stage, "TH20-1", "stranger")
        await stage.app.commands.merge(one, two, "uid 0")
        answers = dict(records.answers)
    async with Stage(records, cloud).running() as stage:
        assert stage.lan.answers == answers
        await stage.app.commands.forget(one, "uid 0")
        assert not records.answers
        assert set(stage.lan.answers.values()) == {None}


async def test_only_the_one_on_record_can_be_kept(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "stranger")
    with pytest.raises(WrongState, match=f"gatewayctl merge {one} {two}"):
        await stage.app.commands.merge(two, one, "uid 0")


async def test_two_strangers_are_one_whose_id_stays(stage: Stage) -> None:
    one, two = await pair(stage, "stranger", "other")
    own = claims_of(stage, one) | claims_of(stage, two)
    await stage.app.commands.merge(one, two, "uid 0")
    assert stage.records.answers == dict.fromkeys(own, one)


async def test_a_merger_that_fails_leaves_both_as_they_were(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "TH20-2")
    stage.records.failing = StoreFull("the disk is full")
    with pytest.raises(StoreFull):
        await stage.app.commands.merge(one, two, "uid 0")
    stage.records.failing = None
    await stage.tape.wait_for(two, "online")
    assert set(stage.records.rows) == {one, two}
    assert not stage.records.answers
    assert not stage.lan.answers


async def test_two_that_are_merged_into_each_other_at_once_are_one(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "TH20-2")
    merge = stage.app.commands.merge
    done = await asyncio.gather(
        merge(one, two, "uid 0"), merge(two, one, "uid 0"), return_exceptions=True
    )
    await stage.manager.ping()
    assert [type(result) for result in done] == [type(None), WrongState]
    assert set(stage.records.rows) == {one}
    assert {ref.device for ref in stage.records.slots} == {one}
    await stage.tape.wait_for(one, "online")


@pytest.mark.parametrize("begun", ["merged", "forgotten"])
async def test_one_that_is_forgotten_while_it_is_merged_does_not_take_both_away(
    stage: Stage, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await pair(stage, "TH20-1", "TH20-2")
    asked, answered = asyncio.Event(), asyncio.Event()

    async def unbind(_: CloudName) -> None:
        asked.set()
        await answered.wait()

    monkeypatch.setattr(stage.cloud, "unbind", unbind)
    merge = partial(stage.app.commands.merge, one, two, "uid 0")
    forget = partial(stage.app.commands.forget, one, "uid 0")
    first, second = (merge, forget) if begun == "merged" else (forget, merge)
    under_way = asyncio.create_task(first())
    await asked.wait()
    with pytest.raises(WrongState, match=f"{one} is being {begun}: wait"):
        await second()
    answered.set()
    await under_way
    assert set(stage.records.rows) == {one if begun == "merged" else two}


async def test_of_a_merger_into_a_rejected_child_it_is_said_that_it_stays_so(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "TH20-2")
    await stage.app.commands.reject(one, "", "uid 0")
    await stage.tape.wait_for(one, "rejected")
    said = stage.app.commands.consequences(one, f"Merge {two}")
    assert f"{one} stays rejected." in said
    assert not any("stays" in line for line in stage.app.commands.consequences(two, f"Merge {one}"))


async def test_what_cannot_be_split_or_merged_says_why(stage: Stage) -> None:
    one, two = stage.announce("TH20-1"), stage.announce("TH20-2")
    for device in (one, two):
        await stage.tape.wait_for(device, "online")
    with pytest.raises(WrongState, match="shows nothing"):
        await stage.app.commands.split(one, two, "uid 0")
    for command in (stage.app.commands.split, stage.app.commands.merge):
        with pytest.raises(WrongState, match="one device already"):
            await command(one, one, "uid 0")


async def test_answers_are_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_conflicts, "MAX_ANSWERS", 1)
    one, two = await pair(stage, "TH20-1", "stranger")
    with pytest.raises(WrongState, match="1 answers"):
        await stage.app.commands.merge(one, two, "uid 0")


async def test_what_a_wrong_merger_has_given_is_withdrawn_by_a_split(stage: Stage) -> None:
    one, two = await pair(stage, "TH20-1", "stranger")
    given = claims_of(stage, two)
    await stage.app.commands.merge(one, two, "uid 0")
    said = stage.app.commands.consequences(one, "Split")
    assert "not its own any more" in said[0]
    await stage.app.commands.split(one, "", "uid 0")
    assert not stage.records.answers
    assert stage.lan.answers == dict.fromkeys(given)


async def test_what_a_child_took_from_another_is_given_back_by_a_split(stage: Stage) -> None:
    child = stage.announce("TH20-1")
    await stage.tape.wait_for(child, "online")
    own = claims_of(stage, child)
    known = stage.lan.known[child]
    stage.lan.known[child] = replace(known, claims=own | {SHARED})
    with pytest.raises(WrongState, match="shows nothing"):
        await stage.app.commands.split(child, "", "uid 0")
    stage.lan.known[child] = replace(known, claims=own | {SHARED}, conflict="two-claimants")
    said = stage.app.commands.consequences(child, "Split")
    assert "not its own any more: serial 0815." in said[0]
    await stage.app.commands.split(child, "", "uid 0")
    assert stage.lan.answers == {SHARED: None}
    assert not stage.records.answers
