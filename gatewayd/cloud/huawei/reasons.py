"""What the platform's answers to a login mean, and what an operator can do: tables.  Pure.

A CONNACK carries a code and no text, a TLS alert a word, and a closed connection nothing, so the
likely causes are listed.  Sources: "MQTT Connection Authentication" of the IoTDA API reference;
"Self-Registration" and "Certificate Authentication" of its guides; RFC 8446, 6.2.

Why a sub-device cannot be served, and what an operator can do.  Pure.

What the codes of the platform mean for a child, and what is to be done: one table.  Pure.

Sources: "Error Codes" of the IoTDA API reference, which is for its REST interface; the pages on
sub-devices print no codes, so that any other must be expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gatewayd.cloud import connect_errors
from gatewayd.cloud.connect_errors import ConnectError, ConnectFault
from gatewayd.cloud.huawei.messages import UNREADABLE, SubDeviceEvent
from gatewayd.cloud.provider import LoginError, LoginFailed, LoginRefused
from gatewayd.cloud.sub_devices.result_codes import REMOVED, Denied, ResultKind, ResultMeaning
from gatewayd.device.reason import NONE, Reason

REJECTED = "credential-rejected"
"""What a device does meanwhile whose credentials are not accepted."""

CODES: Mapping[int, Reason] = {
    1: Reason(
        "cloud-protocol-refused",
        "The platform does not speak MQTT 3.1.1 here.",
        "Check that host and port are those of the instance's MQTTS endpoint.",
    ),
    2: Reason(
        "cloud-request-refused",
        "The platform finds the client ID malformed, or the keep-alive out of its range.",
        "Check keepalive: the platform takes 30 to 1200 s; then product ID and node ID.",
    ),
    3: Reason("cloud-unavailable", "The platform says that it cannot serve now."),
    4: Reason(
        "cloud-auth-failed",
        "The platform does not accept this device ID with these credentials.",
        "Check that the device exists at this instance, and how it is to authenticate there.",
        REJECTED,
    ),
    5: Reason(
        "cloud-not-authorised",
        "The platform does not let this device in.",
        "Look whether the device is frozen or deleted at the platform.",
        REJECTED,
    ),
}
"""Code of the CONNACK to a login.  Only code 3 passes by itself."""

UNAVAILABLE = 3

_ENROLMENT = (
    "Check at the platform that the device CA is verified, with self-registration on and the "
    "template bound to it, and that it is in the resource space of the product; that the device "
    "is not frozen; and that host is the domain of this instance."
)

ALERTS: Mapping[str, Reason] = {
    "unknown-ca": Reason(
        "authority-unknown",
        "The platform does not know the CA of this device's certificate.",
        "Upload the device CA to this instance, and verify it: gatewayctl huawei ca show, prove.",
        REJECTED,
    ),
    "certificate-expired": Reason(
        "certificate-expired",
        "The platform finds that the certificate, or its CA, is not valid now.",
        "Check the gateway's clock, and the device CA: gatewayctl huawei ca show.",
        REJECTED,
    ),
    "certificate-revoked": Reason(
        "certificate-revoked",
        "The platform has learnt that the certificate is revoked.",
        "Empty or reset the device's fingerprint at the platform, then call Reregister.",
        REJECTED,
    ),
}
"""What the platform says of a certificate, by its TLS alert; the other words say only no."""

NOT_ACCEPTED = Reason(
    "certificate-rejected",
    "The platform does not accept the certificate of this device.",
    _ENROLMENT,
    REJECTED,
)
HUNG_UP = Reason(
    "certificate-rejected",
    "The platform closed the connection without an answer: most likely it does not accept the "
    "certificate of this device.",
    _ENROLMENT,
    REJECTED,
)
UNREADABLE_ANSWER = Reason(
    "certificate-unusable",
    "What is kept for this device is no key with its certificate.",
    "Empty or reset the device's fingerprint at the platform, then call Reregister.",
    REJECTED,
)
NO_SECRET = Reason(
    "secret-unusable",
    "What is kept for the gateway is not a secret of this platform.",
    "If its way to log in was changed in the configuration, call Reregister.",
    REJECTED,
)
NO_CERTIFICATES = Reason(
    "route-not-available",
    "Its rule wants self-registration by certificate, which is not configured for this cloud.",
    "Add the table 'certificates' to the cloud, or correct 'route' in the rule.",
)
NO_ROUTE = Reason(
    "route-not-available",
    "Its rule names a route that this cloud does not have.",
    "Correct 'route' in the rule: certificate or sub-device.",
)
NO_PRODUCT = Reason(
    "product-not-configured",
    "The product of this child is not among the products of this cloud.",
    "Add it to the products of the cloud, or correct the rule.",
)
TEMPLATE_CHANGED = Reason(
    "template-unusable",
    "The template in use was replaced by one that cannot be used.",
    "Check it: gatewayctl huawei template lint.",
)


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What a device showed when it logged in.

    fault: what ails the certificate by our clock, as "has expired"; "" where nothing does.
    """

    host: str
    port: int
    fingerprint: str
    fault: str


def login(error: ConnectError, host: str, tcp_port: int) -> LoginError:
    """Return what to raise for a login with a secret that got no connection."""
    if error.fault is ConnectFault.MQTT_REFUSED:
        return _coded(error.code, CODES[error.code])
    return LoginFailed(connect_errors.reason(error.fault, host, tcp_port))


def login_by_certificate(error: ConnectError, shown: LoginAttempt) -> LoginError:
    """Return what to raise for a login with a certificate that got no connection.

    A certificate that has expired is stale: a new one may be accepted.
    """
    if error.fault is ConnectFault.IDENTITY:
        return LoginRefused(UNREADABLE_ANSWER)
    reason = _rejection(error)
    if reason is None:
        return login(error, shown.host, shown.port)
    if shown.fault:
        return LoginRefused(_invalid(shown.fault), stale=shown.fault == "has expired")
    remedy = f"{reason.remedy} {enrolment_hint(shown.fingerprint)}"
    return _coded(error.code, replace(reason, remedy=remedy))


def illegal(code: str, what: str, fault: str) -> Reason:
    """Return why a name cannot be used; fault: as Field has it (names.py)."""
    return Reason(code, f"The {what} {fault}.", "Correct what the rule extracts.")


def template(code: str, text: str) -> Reason:
    """Return why a template makes no such device; text: what was found, without a full stop."""
    return Reason(
        code,
        f"The template cannot make this device: {text}.",
        "Change the template, here and at the platform, or the rule that names the device.",
    )


def _coded(code: int, reason: Reason) -> LoginError:
    return LoginFailed(reason) if code == UNAVAILABLE else LoginRefused(reason, stale=False)


def _rejection(error: ConnectError) -> Reason | None:
    """Return why the certificate, or the device, was rejected; None where it was not."""
    if error.fault is ConnectFault.TLS_REJECTED:
        return ALERTS.get(error.alert, NOT_ACCEPTED)
    if error.fault is ConnectFault.MQTT_CLOSED:
        return HUNG_UP
    if error.code in (4, 5):
        told = CODES[error.code]
        return replace(told, remedy=f"{told.remedy} {_ENROLMENT}")
    return None


def _invalid(fault: str) -> Reason:
    return Reason(
        "certificate-expired",
        f"The certificate of this device {fault}, by the gateway's clock.",
        "Check the gateway's clock; a certificate that has expired is replaced by itself, where "
        "the device CA is valid.",
        REJECTED,
    )


def enrolment_hint(fingerprint: str) -> str:
    """Return how to make a certificate known at the platform, by its SHA-256."""
    return (
        f"If it knows the device by another certificate, set the fingerprint {fingerprint} as "
        "SECONDARY there (reset-fingerprint), or empty the old one."
    )


NOT_LISTED = Reason(
    "cloud-bad-answer",
    "The platform answered, and its answer does not have this child.",
    "If this lasts, look at the device in the console.",
)
NO_DEVICE_ID = Reason(
    "secret-unusable",
    "What is kept for this child does not tell its device ID.",
    "Call Reregister.",
    substate="credential-rejected",
)
OTHER_INSTANCE = Reason(
    "cloud-instance-changed",
    "The child was added at another instance, and the one that is configured now does not know it.",
    "Correct host in the configuration of the cloud; to add the child here, call Reregister.",
    substate="credential-rejected",
)


EXISTS = "IOTDA.014031"
UNKNOWN_DEVICE = "IOTDA.014000"
NOT_A_CHILD = "IOTDA.021104"

_THROTTLED = ResultMeaning(
    ResultKind.TRANSIENT,
    Reason("cloud-throttled", "The platform takes no more requests of this kind for now."),
    wait=60.0,
)
_LATER = ResultMeaning(
    ResultKind.TRANSIENT,
    Reason("cloud-error", "The platform could not reach the gateway meanwhile."),
)
_REFUSED = ResultMeaning(
    ResultKind.PERMANENT,
    Reason(
        "cloud-request-refused",
        "The platform finds a field of the request malformed or unknown.",
        "Check the product ID and the node ID in the rule, and that the product exists.",
    ),
)

RESULT_CODES: Mapping[str, ResultMeaning] = {
    "IOTDA.000006": _REFUSED,
    "IOTDA.000008": _REFUSED,
    UNKNOWN_DEVICE: ResultMeaning(ResultKind.REMOVED, REMOVED),
    "IOTDA.014016": _LATER,  # the device is not online
    "IOTDA.014028": _LATER,  # the gateway is not online
    EXISTS: ResultMeaning(
        ResultKind.EXISTS,
        Reason(
            "cloud-other-gateway",
            "The platform has a device of this node ID already, and not for this gateway.",
            "Move it to this gateway at the platform (change-gateway), or delete it there; then "
            "call Retry.",
        ),
    ),
    "IOTDA.014111": _LATER,  # a command timed out
    "IOTDA.014112": _LATER,  # a topic is not subscribed to
    "IOTDA.021101": _THROTTLED,
    "IOTDA.021102": _THROTTLED,
    NOT_A_CHILD: ResultMeaning(ResultKind.REMOVED, REMOVED),
    "IOTDA.021105": ResultMeaning(
        ResultKind.PERMANENT,
        Reason("cloud-request-too-large", "The platform finds the request too large."),
    ),
}
"""Code to its meaning, whatever was asked."""

_DONE = ResultMeaning(ResultKind.DONE, NONE)

EXCEPTIONS: Mapping[tuple[str, SubDeviceEvent], ResultMeaning] = {
    # What is not there binds nobody.
    (UNKNOWN_DEVICE, SubDeviceEvent.DELETE): _DONE,
    (NOT_A_CHILD, SubDeviceEvent.DELETE): _DONE,
    # It cannot be the child that is missing.
    (UNKNOWN_DEVICE, SubDeviceEvent.ADD): _REFUSED,
    (NOT_A_CHILD, SubDeviceEvent.ADD): _REFUSED,
}
"""Code and event, where the event makes a difference."""


def denial(code: str, event: SubDeviceEvent) -> Denied:
    """Return what a code means for a child as the answer to `event`."""
    return Denied(code, EXCEPTIONS.get((code, event)) or RESULT_CODES.get(code) or _unknown(code))


def _unknown(code: str) -> ResultMeaning:
    told = "a code that cannot be read" if code == UNREADABLE else f"the code {code}"
    return ResultMeaning(
        ResultKind.UNKNOWN,
        Reason(
            "cloud-code-unknown",
            f"The platform refused with {told}, which is not documented.",
            "Look the code up at the vendor; gatewayd tries again in some minutes.",
        ),
    )
