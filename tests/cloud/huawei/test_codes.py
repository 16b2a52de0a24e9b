"""The table of codes: complete, and what it says can be shown."""

from __future__ import annotations

import pytest

from gatewayd.cloud.huawei.messages import UNREADABLE, Event
from gatewayd.cloud.huawei.reasons import EXCEPTIONS, RESULT_CODES, denial
from gatewayd.cloud.provider import Failed, LoginFailed, LoginRemoved, Refused
from gatewayd.cloud.sub_devices.result_codes import Kind
from gatewayd.testing.contracts.cloud_stage import check_reason

DOCUMENTED = {
    "IOTDA.000006", "IOTDA.000008", "IOTDA.014000", "IOTDA.014016", "IOTDA.014028", "IOTDA.014031",
    "IOTDA.014111", "IOTDA.014112", "IOTDA.021101", "IOTDA.021102", "IOTDA.021104", "IOTDA.021105",
}  # fmt: skip


def test_all_documented_codes_are_there() -> None:
    assert RESULT_CODES.keys() == DOCUMENTED
    assert {code for code, _ in EXCEPTIONS} <= DOCUMENTED


@pytest.mark.parametrize("code", [*sorted(DOCUMENTED), "IOTDA.099999", UNREADABLE])
@pytest.mark.parametrize("event", [Event.ADD, Event.DELETE, Event.STATUS])
def test_each_can_be_shown(code: str, event: Event) -> None:
    coded = denial(code, event).coded
    assert coded.kind is Kind.DONE or coded.reason.text
    if coded.kind is not Kind.DONE:
        check_reason(coded.reason)


@pytest.mark.parametrize(
    ("code", "event", "outcome", "error"),
    [
        ("IOTDA.000006", Event.ADD, Refused, LoginFailed),
        ("IOTDA.014031", Event.ADD, Refused, LoginFailed),
        ("IOTDA.014000", Event.ADD, Refused, LoginFailed),
        ("IOTDA.021101", Event.ADD, Failed, LoginFailed),
        ("IOTDA.099999", Event.ADD, Failed, LoginFailed),
        ("IOTDA.021104", Event.STATUS, Refused, LoginRemoved),
    ],
)
def test_what_follows(code: str, event: Event, outcome: type, error: type) -> None:
    coded = denial(code, event).coded
    assert type(coded.outcome) is outcome
    assert type(coded.login_error) is error


@pytest.mark.parametrize(
    ("code", "seconds"), [("IOTDA.021102", 60.0), ("IOTDA.099999", 600.0), ("IOTDA.000006", 0.0)]
)
def test_for_how_long_the_platform_is_not_asked(code: str, seconds: float) -> None:
    assert denial(code, Event.ADD).coded.pause == seconds
