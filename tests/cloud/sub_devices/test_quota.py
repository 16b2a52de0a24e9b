"""How many children a gateway has, and may have."""

from __future__ import annotations

import logging

import pytest

from gatewayd.cloud.sub_devices.quota import Quota


def test_a_reserved_child_counts_until_released() -> None:
    quota = Quota[str](2, 100)
    quota.reserve("a")
    quota.reserve("b")
    assert quota.has_room("a")
    assert not quota.has_room("c")
    quota.release("a")
    assert quota.has_room("c")


def test_a_child_counts_until_removed() -> None:
    quota = Quota[str](1, 100)
    quota.reserve("a")
    quota.add("a")
    quota.reserve("a")
    assert not quota.has_room("b")
    assert quota.remove("a")
    assert not quota.remove("a")
    assert quota.has_room("b")


def test_dropping_forgets_in_either_case() -> None:
    quota = Quota[str](1, 100)
    for step in (quota.reserve, quota.add):
        step("a")
        quota.drop("a")
        assert quota.has_room("b")


def test_the_cloud_may_know_better() -> None:
    quota = Quota[str](3, 100)
    quota.add("a")
    quota.reserve("b")
    quota.replace(frozenset({"b", "c"}))
    assert quota.names == {"b", "c"}
    assert quota.has_room("d")
    quota.reserve("d")
    assert not quota.has_room("a")


def test_what_is_remembered_is_bounded() -> None:
    quota = Quota[int](10, 5)
    for number in range(100):
        quota.add(number)
    assert len(quota.names) == 5


def test_a_nearly_full_gateway_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    quota = Quota[int](20, 100)
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            quota.reserve(number)
    assert [record.message for record in caplog.records] == [
        "The gateway has 19 of the 20 children that the cloud lets it have."
    ]
