"""Each child belongs to one gateway of its site, whatever gateways see it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.admission.ownership import (
    ALONE,
    MAX_SHARES,
    Share,
    parse_share,
    share,
    share_of,
    why_elsewhere,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName, Record, Verdict
from gatewayd.errors import NotAdmitted
from gatewayd.site.settings import SiteSettings
from gatewayd.storage.records import RecordDatabase
from tests.device.test_lifecycle import a_record
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

NAMES = [CloudName("cloud", "p", f"TH20-{number}") for number in range(3000)]
SHARES = [Share(number, 3) for number in (1, 2, 3)]


def ours(one: Share, names: list[CloudName] = NAMES) -> list[CloudName]:
    return [name for name in names if one.elsewhere(name) == NONE]


def test_each_child_is_in_one_share_and_shares_are_about_as_large() -> None:
    found = Counter(share_of(name, 3) for name in NAMES)
    assert sum(len(ours(one)) for one in SHARES) == len(NAMES)
    assert all(900 < count < 1100 for count in found.values())


def test_a_share_that_is_added_takes_from_each_and_nothing_else_changes() -> None:
    moved = {(share_of(name, 3), share_of(name, 4)) for name in NAMES}
    assert moved == {(1, 1), (2, 2), (3, 3), (1, 4), (2, 4), (3, 4)}


def test_the_shares_of_names_stay_what_they_are_for_ever() -> None:
    # Another version on one of the gateways must not have other shares than the rest.
    names = [CloudName("", "a1XyProd", f"TH20-{number}") for number in range(12)]
    assert [share_of(name, 3) for name in names] == [3, 1, 1, 2, 1, 3, 2, 3, 3, 1, 1, 2]


def test_the_name_of_the_cloud_and_the_route_do_not_count() -> None:
    names = [replace(name, provider="other", route="x") for name in NAMES[:50]]
    assert [share_of(name, 5) for name in names] == [share_of(name, 5) for name in NAMES[:50]]


@pytest.mark.parametrize("text", ["1/1", "1/3", "3/3", f"{MAX_SHARES}/{MAX_SHARES}"])
def test_a_share_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_share(text)) == text
    assert share(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "0/3",
        "4/3",
        "1/65",
        "1",
        "/3",
        "1/",
        "1/3/5",
        "+1/3",
        "1 / 3",
        "01/3",
        "\u0661/\u0663",
        "1/3\n",
    ],
)
def test_what_is_no_share_is_refused_with_what_one_is(text: str) -> None:
    assert parse_share(text) is None
    assert '"1/3"' in share(text)


def test_without_a_share_everything_is_ours() -> None:
    assert SiteSettings().ownership() is ALONE
    assert ALONE.elsewhere(NAMES[0]) == NONE
    assert SiteSettings("2/3").ownership() == Share(2, 3)
    assert [*SiteSettings("1/1").warnings()]
    assert not [*SiteSettings("1/2").warnings()]


def test_the_own_name_of_a_gateway_is_its_own() -> None:
    foreign = next(name for name in NAMES if share_of(name, 3) != 1)
    assert why_elsewhere(SHARES[0], DeviceId("child-1"), foreign).code == "share-of-another"
    assert why_elsewhere(SHARES[0], DeviceId("gateway-cloud"), foreign) == NONE
    assert why_elsewhere(SHARES[0], DeviceId("child-1"), None) == NONE


def test_a_record_says_so_however_it_is_read_and_the_disk_does_not(tmp_path: Path) -> None:
    foreign = next(name for name in NAMES if share_of(name, 3) != 1)

    def change(database: RecordDatabase) -> Record | None:
        database.begin()
        database.write(replace(a_record(cloud=foreign), label="seen"))
        database.commit()
        return database.read(DeviceId("child-1"))

    def elsewhere(one: Record) -> Reason:
        return why_elsewhere(SHARES[0], one.device, one.cloud)

    database = RecordDatabase(tmp_path / "state", elsewhere)
    try:
        read, (listed,) = change(database), database.all()
        assert read == listed
        assert listed.elsewhere.code == "share-of-another"
        assert not listed.is_in_force
        assert listed.verdict is Verdict.ADMITTED
    finally:
        database.close()
    database = RecordDatabase(tmp_path / "state")
    try:
        assert [one.is_in_force for one in database.all()] == [True]
    finally:
        database.close()


def online(stage: Stage) -> set[DeviceId]:
    children = stage.manager.children.values()
    return {child.id for child in children if child.state is State.ONLINE}


@pytest.mark.jumping_clock
async def test_three_gateways_that_see_the_same_children_never_want_the_same() -> None:
    cloud, names = FakeCloud(), [f"TH20-{number}" for number in range(24)]
    stages = [Stage(MemoryRecords(), cloud, ownership=one) for one in SHARES]
    async with AsyncExitStack() as running:
        for stage in stages:
            await running.enter_async_context(stage.running())
            for name in names:
                stage.announce(name)
        await asyncio.sleep(120)
        assert [len(online(one)) for one in stages] == [
            len(ours(one, NAMES[:24])) for one in SHARES
        ]
        assert sum(len(online(one)) for one in stages) == len(names)
        assert not cloud.contested
        for stage in stages:
            others = [c for c in stage.manager.children.values() if c.id not in online(stage)]
            assert {c.state for c in others} == {State.ELSEWHERE}
            assert all("share = " in c.reason.remedy for c in others)
            assert len(stage.records.rows) == len(online(stage))


@pytest.mark.jumping_clock
async def test_one_that_would_wait_for_an_operator_waits_at_one_gateway_alone() -> None:
    stages = [Stage(MemoryRecords(), FakeCloud(), ownership=one) for one in SHARES]
    states: list[State] = []
    for stage in stages:
        async with stage.running():
            device = stage.announce("camera-7")
            await asyncio.sleep(30)
            states.append(stage.manager.children[device].state)
            if states[-1] is State.ELSEWHERE:
                with pytest.raises(NotAdmitted, match=r"belongs to share [123]/3"):
                    await stage.app.commands.approve(device, "", "uid 0")
                stage.lose("camera-7")
                await stage.manager.ping()
                assert device not in stage.manager.children
    assert sorted(states) == [State.ELSEWHERE, State.ELSEWHERE, State.PENDING]


@pytest.mark.jumping_clock
async def test_a_gateway_that_was_alone_gives_up_other_shares_and_keeps_their_secrets() -> None:
    cloud, records = FakeCloud(), MemoryRecords()
    names = [f"TH20-{number}" for number in range(12)]
    async with Stage(records, cloud).running() as stage:
        for name in names:
            stage.announce(name)
        await asyncio.sleep(120)
        assert len(online(stage)) == len(names)
    cloud.online.clear()
    async with Stage(records, cloud, ownership=SHARES[0]).running() as stage:
        for name in names:
            stage.announce(name)
        await asyncio.sleep(120)
        assert len(online(stage)) == len(ours(SHARES[0], NAMES[:12])) == len(cloud.online)
        left = next(c for c in stage.manager.children.values() if c.state is State.ELSEWHERE)
        stage.lose(next(name for name in names if stage.lan.appear(name) == left.id))
        await stage.manager.ping()
        assert left.id in stage.manager.children, "it is on record"
        await stage.app.commands.forget(left.id, "uid 0")
        assert not [call for call in cloud.calls if call.startswith("forget")], (
            "another may have it"
        )
    cloud.online.clear()
    kept = [one for one in names if one != left.label]
    async with Stage(records, cloud).running() as stage:
        for name in kept:
            stage.announce(name)
        await asyncio.sleep(120)
        assert len(online(stage)) == len(kept)
    assert all(cloud.calls.count(f"register {name}") == 1 for name in kept)


@pytest.mark.jumping_clock
async def test_the_gateways_own_name_stays_its_own_whatever_an_operator_does() -> None:
    name = next(name for name in NAMES if share_of(name, 3) != 1)
    cloud, records = FakeCloud(gateway_name=name), MemoryRecords()
    for ownership in (ALONE, SHARES[0]):
        async with Stage(records, cloud, ownership=ownership).running() as stage:
            await stage.app.admit_gateway()
            await asyncio.sleep(60)
            (own,) = online(stage)
            await stage.app.commands.reject(own, "", "uid 0")
            await stage.manager.ping()
            await stage.app.commands.approve(own, "", "uid 0")
            await asyncio.sleep(120)
            assert online(stage) == {own}
        cloud.online.clear()
