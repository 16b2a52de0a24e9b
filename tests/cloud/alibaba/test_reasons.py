"""Every answer, every fault and every ending has words for it."""

from __future__ import annotations

import pytest

from gatewayd.cloud.alibaba import reasons
from gatewayd.cloud.provider import Failed, LoginFailed, LoginRefused, Refused, Unknown
from gatewayd.device.reason import Reason
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import SILENT, ConnectError, ConnectFault, ConnectionEnd
from gatewayd.testing.contracts.cloud import check_reason

NETWORK = [fault for fault in ConnectFault if fault is not ConnectFault.MQTT_REFUSED]


def check(reason: Reason) -> None:
    check_reason(reason)
    assert reason.text
    assert "{" not in str(reason)


@pytest.mark.parametrize("fault", NETWORK)
def test_a_fault_of_the_network(fault: ConnectFault) -> None:
    outcome = reasons.registration(ConnectError(fault), "mqtt.example", 8883)
    assert isinstance(outcome, Unknown if fault in SILENT else Failed)
    check(outcome.reason)
    assert outcome.reason.code == fault
    assert outcome.reason.remedy
    error = reasons.login(ConnectError(fault), "mqtt.example", 8883)
    assert isinstance(error, LoginFailed)
    assert error.reason == outcome.reason


@pytest.mark.parametrize(
    ("code", "outcome", "login"),
    [
        (1, Refused, LoginFailed),
        (2, Refused, LoginFailed),
        (3, Failed, LoginFailed),
        (4, Refused, LoginRefused),
        (5, Refused, LoginRefused),
    ],
)
def test_a_refusal(code: int, outcome: type, login: type) -> None:
    error = ConnectError(ConnectFault.MQTT_REFUSED, code)
    result = reasons.registration(error, "mqtt.example", 8883)
    assert isinstance(result, outcome)
    assert isinstance(result, Refused | Failed)
    check(result.reason)
    raised = reasons.login(error, "mqtt.example", 8883)
    assert isinstance(raised, login)
    check(raised.reason)
    assert raised.reason.code == result.reason.code


def test_a_device_that_may_be_activated_needs_a_reset() -> None:
    result = reasons.registration(ConnectError(ConnectFault.MQTT_REFUSED, 5), "mqtt.example", 8883)
    assert isinstance(result, Refused)
    assert (result.reason.code, result.reason.substate) == ("cloud-not-authorised", "needs-reset")


@pytest.mark.parametrize("code", [4, 5])
def test_the_commonest_mistake_is_named(code: int) -> None:
    """A product of the node type "Gateway sub-device", and the default route (89298)."""
    error = ConnectError(ConnectFault.MQTT_REFUSED, code)
    outcome = reasons.registration(error, "mqtt.example", 8883, "the file /etc/secret")
    assert isinstance(outcome, Refused)
    raised = reasons.login(error, "mqtt.example", 8883)
    for reason in (outcome.reason, raised.reason):
        assert reasons.NODE_TYPE in reason.remedy
        assert "node type in the console: for a gateway sub-device" in reason.remedy
    assert "mqtt.example" in str(raised.reason)
    named = {"mqtt.example", "/etc/secret"} if code == 4 else set()
    assert all(one in outcome.reason.remedy for one in named)


@pytest.mark.parametrize("end", ConnectionEnd)
def test_an_ending(end: ConnectionEnd) -> None:
    check(connect_errors.ENDS[end])


def test_the_rest() -> None:
    others = (reasons.NO_PUSH, reasons.HUNG_UP, reasons.BAD_PUSH, reasons.BAD_NAME)
    for reason in (*others, reasons.NO_PRODUCT, reasons.no_product_secret("It is gone.")):
        check(reason)
