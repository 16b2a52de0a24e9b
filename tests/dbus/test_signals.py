"""Pending changes: the latest of each child, in bounded numbers, and their signals."""

from __future__ import annotations

import pytest

from gatewayd.dbus.objects import DeviceViews
from gatewayd.dbus.signals import (
    MAX_ROWS,
    DeviceChange,
    PendingChanges,
    batches,
    needs_approval,
    registration,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView
from tests.dbus.support import view

ONE = DeviceId("child-1")


class Shown:
    """Views whose changes are pending."""

    def __init__(self) -> None:
        self.devices, self.pending = DeviceViews(), PendingChanges()

    def put(self, now: DeviceView) -> None:
        self.pending.note(now.id, self.devices.put(now))

    def take(self, limit: int = 100) -> list[DeviceChange]:
        return self.pending.take(limit, self.devices)


def test_only_the_latest_is_announced_once() -> None:
    shown = Shown()
    for state in ("discovered", "pending", "admitted", "online"):
        shown.put(view("child-1", state=state))
    (change,) = shown.take()
    assert change.before is None
    assert change.now is not None
    assert change.now.state == "online"
    assert shown.take() == []


def test_what_came_and_went_is_not_announced() -> None:
    shown = Shown()
    shown.put(view("child-1"))
    shown.pending.note(ONE, shown.devices.drop(ONE))
    assert shown.take() == []


def test_what_changed_back_is_not_announced() -> None:
    shown = Shown()
    shown.put(view("child-1"))
    shown.take()
    shown.put(view("child-1", state="online"))
    shown.put(view("child-1"))
    assert shown.take() == []


def test_the_oldest_go_first_and_the_rest_waits() -> None:
    shown = Shown()
    for name in "cab":
        shown.put(view(name))
    assert [c.device for c in shown.take(2)] == ["c", "a"]
    assert [c.device for c in shown.take(2)] == ["b"]


def change(before: dict[str, object] | None, now: dict[str, object] | None) -> DeviceChange:
    return DeviceChange(
        ONE,
        None if before is None else view(ONE, **before),
        None if now is None else view(ONE, **now),
    )


@pytest.mark.parametrize(("before", "now", "needed"), [
    (None, {"state": "pending"}, True),
    ({"state": "discovered"}, {"state": "pending"}, True),
    ({"state": "pending"}, {"state": "pending", "name": "x"}, False),
    ({"state": "pending"}, {"state": "admitted"}, False),
    ({"state": "pending"}, None, False),
])  # fmt: skip
def test_approval_is_asked_for_once(
    before: dict[str, object] | None, now: dict[str, object] | None, needed: bool
) -> None:
    assert needs_approval(change(before, now)) is needed


@pytest.mark.parametrize(("before", "now", "ended"), [
    ({"state": "registering"}, {"state": "online", "registered": 5}, ("ok", "")),
    ({"state": "online", "registered": 5}, {"state": "offline", "registered": 5}, None),
    ({"state": "failed", "registered": 5}, {"state": "online", "registered": 9}, ("ok", "")),
    ({"state": "admitted"}, {"state": "failed", "reason": "refused"}, ("failed", "refused")),
    ({"state": "failed"}, {"state": "failed", "name": "x"}, None),
    ({"state": "online", "registered": 5}, {"state": "failed", "registered": 5}, None),
    (None, {"state": "online", "registered": 5}, None),
    ({"state": "admitted"}, None, None),
])  # fmt: skip
def test_the_end_of_a_registration(
    before: dict[str, object] | None, now: dict[str, object] | None, ended: object
) -> None:
    assert registration(change(before, now)) == ended


def test_rows_are_announced_only_if_they_changed_and_in_bounded_numbers() -> None:
    same = [DeviceChange(DeviceId("a"), view("a"), view("a", last_seen=77))]
    gone = [DeviceChange(DeviceId("b"), view("b"), None)]
    many = [DeviceChange(DeviceId(f"{i}"), None, view(f"{i}")) for i in range(MAX_ROWS + 1)]
    assert list(batches(same)) == []
    assert list(batches(gone)) == [([], ["b"])]
    assert [len(rows) for rows, _ in batches(many)] == [MAX_ROWS, 1]
