"""Which child is meant: one that is admitted now, and one only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.messages.doors.children import REFRESH, RecordedChildren
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from tests.support.fakes import MemoryRecords

MAC, SERIAL = Claim("mac", "l2", "a8032abe54dc"), Claim("serial", "_shelly._tcp", "00a7")
ONE, TWO = DeviceId("child-0123456789ab"), DeviceId("child-ba9876543210")


def record(device: DeviceId, name: str, *claims: Claim) -> Record:
    return Record(
        device=device, claims=frozenset(claims), label="", verdict=Verdict.ADMITTED,
        admission=Admission.RULE, rule="r", reason="", cloud=CloudName("sky", "p", name),
        verdict_at=1, first_seen=1,
    )  # fmt: skip


class Known:
    """Children on record, and a clock."""

    def __init__(self) -> None:
        self.records, self.time = MemoryRecords(), 0.0
        self.children = RecordedChildren(self.records, lambda: self.time)

    async def put(self, one: Record) -> None:
        await self.records.update(one.device, lambda _: one)


@pytest.fixture
def known() -> Known:
    return Known()


async def test_a_child_is_found_by_all_that_identifies_it(known: Known) -> None:
    await known.put(record(ONE, "TH20-0001A7", MAC, SERIAL))
    find = known.children.find
    assert find(ChildKey.ID, ONE) == ONE
    assert find(ChildKey.NAME, "TH20-0001A7") == ONE
    assert find(ChildKey.MAC, "A8:03:2A:BE:54:DC") == ONE
    assert find(ChildKey.SERIAL, " 00A7") == ONE
    assert find(ChildKey.UUID, "00a7") is None
    assert find(ChildKey.NAME, "th20-0001a7") is None
    assert find(ChildKey.MAC, "no mac") is None


async def test_a_child_is_unknown_from_when_it_is_rejected(known: Known) -> None:
    await known.put(record(ONE, "a", MAC))
    assert known.children.find(ChildKey.MAC, MAC.value) == ONE
    await known.put(replace(record(ONE, "a", MAC), verdict=Verdict.REJECTED))
    for key, text in ((ChildKey.ID, ONE), (ChildKey.NAME, "a"), (ChildKey.MAC, MAC.value)):
        assert known.children.find(key, text) is None


async def test_what_means_two_children_means_none(known: Known) -> None:
    await known.put(record(ONE, "a", SERIAL))
    await known.put(record(TWO, "b", SERIAL._replace(namespace="_hue._tcp")))
    assert known.children.find(ChildKey.SERIAL, SERIAL.value) is None
    assert known.children.find(ChildKey.NAME, "b") == TWO


async def test_records_are_read_so_often_only(known: Known) -> None:
    assert known.children.find(ChildKey.NAME, "a") is None
    await known.put(record(ONE, "a"))
    assert known.children.find(ChildKey.NAME, "a") is None
    known.time += REFRESH
    assert known.children.find(ChildKey.NAME, "a") == ONE


async def test_a_child_is_known_by_what_it_alone_has(known: Known) -> None:
    await known.put(record(ONE, "TH20-0001A7", MAC, SERIAL))
    assert known.children.identities(ONE) == {
        ChildKey.ID: ONE, ChildKey.NAME: "TH20-0001A7", ChildKey.MAC: "a8032abe54dc",
        ChildKey.SERIAL: "00a7",
    }  # fmt: skip
    second = Claim("mac", "l2", "b8032abe54dc")
    await known.put(record(ONE, "TH20-0001A7", MAC, second))
    assert known.children.identities(ONE) == {ChildKey.ID: ONE, ChildKey.NAME: "TH20-0001A7"}
    await known.put(replace(record(ONE, "TH20-0001A7", MAC), verdict=Verdict.REJECTED))
    assert known.children.identities(ONE) == known.children.identities(TWO) == {}
