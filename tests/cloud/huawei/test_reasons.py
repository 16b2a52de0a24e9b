"""The reasons of failed logins and result codes: each has its class, its code and a remedy."""

from __future__ import annotations

import itertools

import pytest

from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.messages import UNREADABLE, SubDeviceEvent
from gatewayd.cloud.huawei.reasons import EXCEPTIONS, RESULT_CODES, LoginAttempt, denial
from gatewayd.cloud.provider import Failed, LoginFailed, LoginRefused, LoginRemoved, Refused
from gatewayd.cloud.sub_devices.result_codes import ResultKind
from gatewayd.device.reason import Reason
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.testing.contracts.cloud import check_reason

FINGERPRINT = "ab" * 32
ATTEMPT = LoginAttempt("host.example", 8883, FINGERPRINT, "")
CREDENTIAL = {4, 5}


def meaning(code: int) -> ConnectError:
    return ConnectError(ConnectFault.MQTT_REFUSED, code)


@pytest.mark.parametrize("code", range(1, 6))
def test_each_code_of_a_connack(code: int) -> None:
    by_secret = reasons.login(meaning(code), "host.example", 8883)
    by_certificate = reasons.login_by_certificate(meaning(code), ATTEMPT)
    for error in (by_secret, by_certificate):
        check_reason(error.reason)
        assert error.reason.remedy or code == 3
        if code == 3:
            assert isinstance(error, LoginFailed)
        else:
            assert isinstance(error, LoginRefused)
            assert not error.stale, "no other secret would help"
    assert FINGERPRINT not in by_secret.reason.remedy
    assert (FINGERPRINT in by_certificate.reason.remedy) == (code in CREDENTIAL)


def test_a_device_that_is_frozen_is_named() -> None:
    for error in (
        reasons.login(meaning(5), "host.example", 8883),
        reasons.login_by_certificate(meaning(5), ATTEMPT),
    ):
        assert "frozen" in error.reason.remedy.partition("Check at the platform")[0]


ALERTS = [
    "bad-certificate", "unsupported-certificate", "certificate-revoked", "certificate-expired",
    "certificate-unknown", "unknown-ca", "access-denied", "decrypt-error", "certificate-required",
]  # fmt: skip


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_a_refusal_that_names_the_certificate(alert: str) -> None:
    error = reasons.login_by_certificate(
        ConnectError(ConnectFault.TLS_REJECTED, alert=alert), ATTEMPT
    )
    assert isinstance(error, LoginRefused)
    assert not error.stale
    check_reason(error.reason)
    assert FINGERPRINT in error.reason.remedy


def test_a_closed_connection_probably_rejects_the_certificate() -> None:
    error = reasons.login_by_certificate(ConnectError(ConnectFault.MQTT_CLOSED), ATTEMPT)
    assert isinstance(error, LoginRefused)
    assert error.reason.code == "certificate-rejected"
    for candidate in ("CA", "template", "resource space", "frozen", "domain", "SECONDARY"):
        assert candidate in error.reason.remedy


@pytest.mark.parametrize("error", [
    ConnectError(ConnectFault.MQTT_CLOSED),
    ConnectError(ConnectFault.TLS_REJECTED, alert="certificate-expired"),
    meaning(4),
    meaning(5),
])  # fmt: skip
def test_a_certificate_that_is_not_valid_now_is_the_cause(error: ConnectError) -> None:
    for fault, stale in (("has expired", True), ("is not valid yet", False)):
        raised = reasons.login_by_certificate(error, LoginAttempt("h", 1, FINGERPRINT, fault))
        assert isinstance(raised, LoginRefused)
        assert raised.stale is stale, "a new one helps where the old one has expired"
        assert raised.reason.code == "certificate-expired"
        assert fault in raised.reason.text
        check_reason(raised.reason)


@pytest.mark.parametrize("fault", sorted(set(ConnectFault) - {
    ConnectFault.MQTT_REFUSED, ConnectFault.TLS_REJECTED,
    ConnectFault.MQTT_CLOSED, ConnectFault.IDENTITY,
}))  # fmt: skip
def test_network_faults_are_transient(fault: ConnectFault) -> None:
    for valid in ("", "has expired"):
        error = reasons.login_by_certificate(ConnectError(fault), LoginAttempt("h", 1, "ab", valid))
        assert isinstance(error, LoginFailed)
        check_reason(error.reason)


def test_all_reasons_can_be_shown() -> None:
    made = [one for one in vars(reasons).values() if isinstance(one, Reason) and one.code]
    tables = itertools.chain(reasons.CODES.values(), reasons.ALERTS.values())
    assert made
    for reason in (*made, *tables, reasons.template("a", "b"), reasons.illegal("a", "b", "c")):
        check_reason(reason)


DOCUMENTED = {
    "IOTDA.000006", "IOTDA.000008", "IOTDA.014000", "IOTDA.014016", "IOTDA.014028", "IOTDA.014031",
    "IOTDA.014111", "IOTDA.014112", "IOTDA.021101", "IOTDA.021102", "IOTDA.021104", "IOTDA.021105",
}  # fmt: skip


def test_all_documented_result_codes_are_there() -> None:
    assert RESULT_CODES.keys() == DOCUMENTED
    assert {code for code, _ in EXCEPTIONS} <= DOCUMENTED


@pytest.mark.parametrize("code", [*sorted(DOCUMENTED), "IOTDA.099999", UNREADABLE])
@pytest.mark.parametrize(
    "event", [SubDeviceEvent.ADD, SubDeviceEvent.DELETE, SubDeviceEvent.STATUS]
)
def test_each_result_code_can_be_shown(code: str, event: SubDeviceEvent) -> None:
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
def test_the_outcome_of_a_result_code(
    code: str, event: SubDeviceEvent, outcome: type, error: type
) -> None:
    meaning = denial(code, event).meaning
    assert type(meaning.outcome) is outcome
    assert type(meaning.login_error) is error


@pytest.mark.parametrize(
    ("code", "seconds"), [("IOTDA.021102", 60.0), ("IOTDA.099999", 600.0), ("IOTDA.000006", 0.0)]
)
def test_the_pause_of_a_result_code(code: str, seconds: float) -> None:
    assert denial(code, SubDeviceEvent.ADD).meaning.pause == seconds
