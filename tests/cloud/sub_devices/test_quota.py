"""How many children a gateway has, and may have."""

from __future__ import annotations

import logging

import pytest

from gatewayd.cloud.sub_devices.quota import Quota


def test_who_is_wanted_counts_until_spared() -> None:
    room = Quota[str](2, 100)
    room.reserve("a")
    room.reserve("b")
    assert room.has_room("a")
    assert not room.has_room("c")
    room.release("a")
    assert room.has_room("c")


def test_who_was_added_counts_until_removed() -> None:
    room = Quota[str](1, 100)
    room.reserve("a")
    room.add("a")
    room.reserve("a")
    assert not room.has_room("b")
    assert room.remove("a")
    assert not room.remove("a")
    assert room.has_room("b")


def test_dropping_forgets_in_either_case() -> None:
    room = Quota[str](1, 100)
    for step in (room.reserve, room.add):
        step("a")
        room.drop("a")
        assert room.has_room("b")


def test_the_cloud_may_know_better() -> None:
    room = Quota[str](3, 100)
    room.add("a")
    room.reserve("b")
    room.replace(frozenset({"b", "c"}))
    assert room.names == {"b", "c"}
    assert room.has_room("d")
    room.reserve("d")
    assert not room.has_room("a")


def test_what_is_remembered_is_bounded() -> None:
    room = Quota[int](10, 5)
    for number in range(100):
        room.add(number)
    assert len(room.names) == 5


def test_a_gateway_that_is_nearly_full_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    room = Quota[int](20, 100)
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            room.reserve(number)
    assert [record.message for record in caplog.records] == [
        "The gateway has 19 of the 20 children that the cloud lets it have."
    ]
