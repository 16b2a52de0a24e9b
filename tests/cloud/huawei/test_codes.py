"""The table of codes: complete, and what it says can be shown."""

from __future__ import annotations

import pytest

from gatewayd.cloud.huawei.messages import UNREADABLE, SubDeviceEvent
from gatewayd.cloud.huawei.reasons import EXCEPTIONS, RESULT_CODES, denial
from gatewayd.cloud.provider import Failed, LoginFailed, LoginRemoved, Refused
from gatewayd.cloud.sub_devices.result_codes import ResultKind
from gatewayd.testing.contracts.cloud_stage import check_reason

DOCUMENTED = {
    "IOTDA.000006", "IOTDA.000008", "IOTDA.014000", "IOTDA.014016", "IOTDA.014028", "IOTDA.014031",
    "IOTDA.014111", "IOTDA.014112", "IOTDA.021101", "IOTDA.021102", "IOTDA.021104", "IOTDA.021105",
}  # fmt: skip


def test_all_documented_codes_are_there() -> None:
    assert RESULT_CODES.keys() == DOCUMENTED
    assert {code for code, _ in EXCEPTIONS} <= DOCUMENTED


@pytest.mark.parametrize("code", [*sorted(DOCUMENTED), "IOTDA.099999", UNREADABLE])
@pytest.mark.parametrize(
    "event", [SubDeviceEvent.ADD, SubDeviceEvent.DELETE, SubDeviceEvent.STATUS]
)
def test_each_can_be_shown(code: str, event: SubDeviceEvent) -> None:
    meaning = denial(code, event).meaning
    assert meaning.kind is ResultKind.DONE or meaning.reason.text
    if meaning.kind is not ResultKind.DONE:
        check_reason(meaning.reason)


@pytest.mark.parametrize(
    ("code", "event", "outcome", "error"),
    [
        ("IOTDA.000006", SubDeviceEvent.ADD, Refused, LoginFailed),
        ("IOTDA.014031", SubDeviceEvent.ADD, Refused, LoginFailed),
        ("IOTDA.014000", SubDeviceEvent.ADD, Refused, LoginFailed),
        ("IOTDA.021101", SubDeviceEvent.ADD, Failed, LoginFailed),
        ("IOTDA.099999", SubDeviceEvent.ADD, Failed, LoginFailed),
        ("IOTDA.021104", SubDeviceEvent.STATUS, Refused, LoginRemoved),
    ],
)
def test_what_follows(code: str, event: SubDeviceEvent, outcome: type, error: type) -> None:
    meaning = denial(code, event).meaning
    assert type(meaning.outcome) is outcome
    assert type(meaning.login_error) is error


@pytest.mark.parametrize(
    ("code", "seconds"), [("IOTDA.021102", 60.0), ("IOTDA.099999", 600.0), ("IOTDA.000006", 0.0)]
)
def test_for_how_long_the_platform_is_not_asked(code: str, seconds: float) -> None:
    assert denial(code, SubDeviceEvent.ADD).meaning.pause == seconds
