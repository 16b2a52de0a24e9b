"""What is shown of all: order, counts, filters and pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.dbus.objects import MAX_PAGE, PAGE, DeviceViews, device_filter
from gatewayd.device.identity import DeviceId
from gatewayd.errors import InvalidArgs
from tests.dbus.served import view

ALL = device_filter({})


def fleet(*ids: str) -> DeviceViews:
    made = DeviceViews()
    for one in ids:
        made.put(view(one))
    return made


@given(st.sets(st.text("abc0", min_size=1, max_size=4)), st.integers(1, 5))
def test_pages_give_each_child_once_and_in_order(ids: set[str], limit: int) -> None:
    ours, after, seen = fleet(*ids), "", list[str]()
    while True:
        views, after = ours.page(ALL, after, limit)
        seen += [v.id for v in views]
        assert len(views) <= limit
        if not after:
            break
    assert seen == sorted(ids)


def test_a_page_goes_on_after_a_child_that_has_gone() -> None:
    ours = fleet("a", "b", "c", "d")
    _, after = ours.page(ALL, "", 2)
    ours.drop(DeviceId("b"))
    ours.put(view("aa"))
    assert [v.id for v in ours.page(ALL, after, 2)[0]] == ["c", "d"]


def test_the_size_of_a_page_is_bounded() -> None:
    ours = fleet(*(f"{i:05}" for i in range(MAX_PAGE + 2)))
    assert len(ours.page(ALL, "", 0)[0]) == PAGE
    assert len(ours.page(ALL, "", 4_000_000_000)[0]) == MAX_PAGE


def test_counts_follow_the_views() -> None:
    ours = fleet("a", "b", "c")
    before = ours.put(view("a", state="online"))
    ours.drop(DeviceId("b"))
    assert before is not None
    assert before.state == "pending"
    assert ours.counts() == {"online": 1, "pending": 1}
    assert len(ours) == 2


def test_filters() -> None:
    ours = fleet("a1", "a2")
    ours.put(view("b1", state="online", provider="huawei", name="Meter 7"))

    def found(**filters: object) -> list[str]:
        return [v.id for v in ours.page(device_filter(filters), "", 0)[0]]

    assert found(state="pending") == ["a1", "a2"]
    assert found(state="online", provider="huawei") == ["b1"]
    assert found(state="online", provider="alibaba") == []
    assert found(glob="a?") == ["a1", "a2"]
    assert found(glob="Meter *") == ["b1"]
    assert found(glob="1") == []


@pytest.mark.parametrize("filters", [
    {"color": "red"}, {"state": 7}, {"glob": "*" * 65}, {"id": "a"},
])  # fmt: skip
def test_a_filter_that_is_not_known_is_refused(filters: dict[str, object]) -> None:
    with pytest.raises(InvalidArgs):
        device_filter(filters)
