"""The platform's limits: no second has more than they allow."""

from __future__ import annotations

import pytest

from gatewayd.cloud.huawei.connection import MESSAGES, HuaweiRateLimits
from gatewayd.cloud.huawei.messages import SubDeviceEvent


@pytest.mark.parametrize(
    ("event", "children", "rate"),
    [
        (SubDeviceEvent.STATUS, 1, 60),
        (SubDeviceEvent.STATUS, 30, 2),
        (SubDeviceEvent.ADD, 50, 5),
        (SubDeviceEvent.SYNC, 0, 1),
    ],
)
def test_each_event_is_spread_evenly(event: SubDeviceEvent, children: int, rate: int) -> None:
    pace = HuaweiRateLimits(60, lambda: 100.0)
    found = [pace.for_event(event, children) for _ in range(50)]
    assert found == pytest.approx([number / rate for number in range(50)])


def test_all_events_together_are_messages_of_one_device() -> None:
    pace = HuaweiRateLimits(60, lambda: 100.0)
    assert [pace.for_device() for _ in range(3)] == pytest.approx([0, 1 / MESSAGES, 2 / MESSAGES])


def test_every_event_has_a_rate() -> None:
    pace = HuaweiRateLimits(60, lambda: 100.0)
    assert [pace.for_event(event, 1) for event in SubDeviceEvent] == [0.0] * len(SubDeviceEvent)
