"""The cloud's limits: no second has more than they allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.rate_limits import (
    ALL,
    CHILD_LOGINS,
    WHILE,
    AlibabaRateLimits,
    ChildLogins,
)

BATCH: dict[str, list[object]] = {"deviceList": [{}] * 50}


@pytest.mark.parametrize(
    ("method", "params", "rate"),
    [
        (alink.LOGIN, {}, 150),
        (alink.BATCH_LOGIN, BATCH, 3),  # of 50 each
        (alink.BATCH_LOGIN, {"deviceList": []}, 150),
        (alink.TOPO_ADD, [{}] * 30, 10),
        (alink.SUB_REGISTER, [{}], 10),
    ],
)
def test_questions_of_a_method_are_spread_evenly(method: str, params: object, rate: int) -> None:
    pace = AlibabaRateLimits(lambda: 100.0)
    found = [pace.for_method(method, params) for _ in range(50)]
    assert found == pytest.approx([number / rate for number in range(50)])


def test_a_login_and_a_batch_of_them_count_together() -> None:
    pace = AlibabaRateLimits(lambda: 100.0)
    pace.for_method(alink.BATCH_LOGIN, BATCH)
    assert pace.for_method(alink.LOGIN, {}) == pytest.approx(1 / 3)
    assert pace.for_method(alink.TOPO_GET, {}) == 0.0


@given(st.lists(st.floats(0, 2), max_size=200))
def test_no_second_has_more_than_a_device_may_send(quiet: list[float]) -> None:
    now, found = 0.0, []
    pace = AlibabaRateLimits(lambda: now)
    for passed in quiet:
        now += passed
        found.append(now + pace.for_device())
    for start in found:
        assert sum(start <= moment < start + 0.999 for moment in found) <= ALL


def test_a_quiet_gateway_does_not_wait() -> None:
    times = iter(range(1000))
    pace = AlibabaRateLimits(lambda: float(next(times)))
    assert {pace.for_method(alink.BATCH_LOGIN, BATCH) for _ in range(20)} == {0.0}
    assert {pace.for_device() for _ in range(20)} == {0.0}


def test_a_child_logs_in_as_often_as_the_cloud_lets_it() -> None:
    now = 0.0
    logins = ChildLogins(lambda: now)
    one, other = SubName("a1Sensors22", "SEN-0000"), SubName("a1Sensors22", "SEN-0001")
    assert [logins.take(one) for _ in range(7)] == [True] * CHILD_LOGINS + [False] * 2
    assert logins.take(other)
    now = WHILE - 0.1
    assert not logins.take(one)
    now = WHILE
    assert logins.take(one)


def test_children_that_log_in_no_more_are_forgotten() -> None:
    now = 0.0
    logins = ChildLogins(lambda: now)
    for number in range(1000):
        now += 1.0
        logins.take(SubName("a1Sensors22", f"SEN-{number:04}"))
    assert len(logins._children) <= WHILE + 1
