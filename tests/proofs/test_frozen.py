"""A frozen child is admitted, and served by nothing: no door, no command, no holder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.credentials.holders import ChildSelector
from gatewayd.device.command import ChildCommand
from gatewayd.device.identity import DeviceId
from gatewayd.device.proof import Pin
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.message_stage import RecordedStanding, permission
from gatewayd.messages.doors.children import RecordedChildren
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from tests.support.fakes import MemoryRecords

ME = DeviceId("child-1")
PIN = Pin("axis", "sha256:old")
RECORD = Record(
    ME, frozenset(), "", Verdict.ADMITTED, Admission.RULE, "cameras", "",
    CloudName("alibaba", "p", "cam-1"), 1, 1, pin=PIN,
)  # fmt: skip


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_child_is_served_by_nothing(frozen: bool) -> None:
    record = replace(RECORD, pin=replace(PIN, refused="sha256:new")) if frozen else RECORD
    records = MemoryRecords()
    records.rows[ME] = record
    assert record.is_frozen == frozen

    def allows(_rule: str, _command: ChildCommand | None) -> bool:
        return True

    served = (
        RecordedStanding(records).admitted(ME),
        permission(records, allows)(ME, None),
        ChildSelector("cam-1", "").selects(record),
        RecordedChildren(records, lambda: 0.0).find(ChildKey.NAME, "cam-1") == ME,
    )
    assert served == (not frozen,) * len(served)
    assert not RecordedStanding(records).gone(ME), "what waits of it may leave later"
