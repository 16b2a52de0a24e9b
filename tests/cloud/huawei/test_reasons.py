"""What the platform's answers to a login mean: each has its class, and tells what to do next."""

from __future__ import annotations

import itertools

import pytest

from gatewayd.cloud.connect_errors import ConnectError, ConnectFault
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.reasons import LoginAttempt
from gatewayd.cloud.provider import LoginFailed, LoginRefused
from gatewayd.device.reason import Reason
from gatewayd.testing.contracts.cloud_stage import check_reason

FINGERPRINT = "ab" * 32
SHOWN = LoginAttempt("host.example", 8883, FINGERPRINT, "")
CREDENTIAL = {4, 5}


def meaning(code: int) -> ConnectError:
    return ConnectError(ConnectFault.MQTT_REFUSED, code)


@pytest.mark.parametrize("code", range(1, 6))
def test_each_code_of_a_connack(code: int) -> None:
    by_secret = reasons.login(meaning(code), "host.example", 8883)
    by_certificate = reasons.login_by_certificate(meaning(code), SHOWN)
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


ALERTS = [
    "bad-certificate", "unsupported-certificate", "certificate-revoked", "certificate-expired",
    "certificate-unknown", "unknown-ca", "access-denied", "decrypt-error", "certificate-required",
]  # fmt: skip


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_a_refusal_that_names_the_certificate(alert: str) -> None:
    error = reasons.login_by_certificate(
        ConnectError(ConnectFault.TLS_REJECTED, alert=alert), SHOWN
    )
    assert isinstance(error, LoginRefused)
    assert not error.stale
    check_reason(error.reason)
    assert FINGERPRINT in error.reason.remedy


def test_who_hangs_up_has_probably_rejected_the_certificate() -> None:
    error = reasons.login_by_certificate(ConnectError(ConnectFault.MQTT_CLOSED), SHOWN)
    assert isinstance(error, LoginRefused)
    assert "most likely" in error.reason.text
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
        told = reasons.login_by_certificate(error, LoginAttempt("h", 1, FINGERPRINT, fault))
        assert isinstance(told, LoginRefused)
        assert told.stale is stale, "a new one helps where the old one has expired"
        assert told.reason.code == "certificate-expired"
        assert fault in told.reason.text
        check_reason(told.reason)


@pytest.mark.parametrize("fault", sorted(set(ConnectFault) - {
    ConnectFault.MQTT_REFUSED, ConnectFault.TLS_REJECTED,
    ConnectFault.MQTT_CLOSED, ConnectFault.IDENTITY,
}))  # fmt: skip
def test_what_ails_the_network_passes(fault: ConnectFault) -> None:
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
