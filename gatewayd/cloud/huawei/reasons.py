"""The reasons of a Huawei cloud: what its answers mean, and what an operator can do.  Tables; pure.

A login: a CONNACK carries a code and no text, a TLS alert a word, and a closed connection nothing,
so the likely causes are listed.  Sources: "MQTT Connection Authentication" of the IoTDA API
reference; "Self-Registration" and "Certificate Authentication" of its guides; RFC 8446, 6.2.

A sub-device: the result codes of requests.  Sources: "Error Codes" of the IoTDA API reference,
which is for its REST interface; the pages on sub-devices print no codes, so that any other must be
expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gatewayd.cloud.huawei.messages import UNREADABLE, SubDeviceEvent
from gatewayd.cloud.provider import LoginError, LoginFailed, LoginRefused
from gatewayd.cloud.sub_devices.result_codes import REMOVED, Denied, ResultKind, ResultMeaning
from gatewayd.device.reason import NONE, Reason
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import ConnectError, ConnectFault

REJECTED = "credential-rejected"
"""The substate of a device whose credentials are not accepted."""

CODES: Mapping[int, Reason] = {
    1: Reason(
        "cloud-protocol-refused",
        "The platform does not speak MQTT 3.1.1 here.",
        "Check that host and port are those of the instance's MQTTS endpoint; then run gatewayctl "
        "reload.",
    ),
    2: Reason(
        "cloud-request-refused",
        "The platform rejected the client ID as malformed, or the keep-alive as out of range.",
        "Check keepalive, of which the platform takes 30 to 1200 s, and product ID and node ID; "
        "then run gatewayctl reload.",
    ),
    3: Reason("cloud-unavailable", "The platform is temporarily unavailable."),
    4: Reason(
        "cloud-auth-failed",
        "The platform does not accept this device ID with these credentials.",
        "Check that host is the domain of the instance that has this device, and its "
        "authentication type there; after a correction here, run gatewayctl reload.",
        REJECTED,
    ),
    5: Reason(
        "cloud-not-authorised",
        "The platform does not authorise this device.",
        "Check that host is the domain of the instance that has this device, and that the device "
        "is not frozen there; after a correction here, run gatewayctl reload.",
        REJECTED,
    ),
}
"""CONNACK code of a login, to its reason.  Only code 3 is transient."""

UNAVAILABLE = 3

_ENROLMENT = (
    "Check at the platform that the device CA is verified, with self-registration on and the "
    "template bound to it, and that it is in the resource space of the product; that the device "
    "is not frozen; and that host is the domain of this instance; after a correction here, run "
    "gatewayctl reload."
)

ALERTS: Mapping[str, Reason] = {
    "unknown-ca": Reason(
        "authority-unknown",
        "The platform does not know the CA of this device's certificate.",
        "Check that host is the domain of your instance, and after a correction run gatewayctl "
        "reload; upload the device CA there, which is shown by gatewayctl ca show --cloud "
        "CLOUD, and verify it.",
        REJECTED,
    ),
    "certificate-expired": Reason(
        "certificate-expired",
        "The platform rejected the certificate, or its CA, as not valid now.",
        "Check the gateway's clock, and the CA: gatewayctl ca show --cloud CLOUD.",
        REJECTED,
    ),
    "certificate-revoked": Reason(
        "certificate-revoked",
        "The certificate is revoked at the platform.",
        "Empty or reset the device's fingerprint at the platform, then run gatewayctl reregister "
        "CHILD CHILD.",
        REJECTED,
    ),
}
"""TLS alert about a certificate, to its reason; other alerts say no more than a refusal."""

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
NO_IDENTITY = Reason(
    "certificate-unusable",
    "The secret kept for this device is no key with its certificate.",
    "Empty or reset the device's fingerprint at the platform, then run gatewayctl reregister "
    "CHILD CHILD.",
    REJECTED,
)
NO_SECRET = Reason(
    "secret-unusable",
    "The secret kept for the gateway is no device secret of this platform.",
    "If gateway.login was changed, run gatewayctl reregister CHILD CHILD.",
    REJECTED,
)
NO_CERTIFICATES = Reason(
    "route-not-available",
    "The rule requires self-registration by certificate, which this cloud is not configured for.",
    "Add the table 'certificates' to the cloud, or correct 'route' in the rule; then run "
    "gatewayctl reload.",
)
NO_ROUTE = Reason(
    "route-not-available",
    "The rule names a route that this cloud does not have.",
    "Correct 'route' in the rule, certificate or sub-device; then run gatewayctl reload.",
)
NO_PRODUCT = Reason(
    "product-not-configured",
    "The product of this child is not among the products of this cloud.",
    "Add it to the products of the cloud, or correct the rule; then run gatewayctl reload.",
)
TEMPLATE_CHANGED = Reason(
    "template-unusable",
    "The template file was replaced by one that cannot be used.",
    "Check it: gatewayctl preflight CLOUD; once it is corrected, run gatewayctl reload.",
)


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A login with a certificate.

    fault: of the certificate by this machine's clock, as "has expired"; "" for none.
    """

    host: str
    port: int
    fingerprint: str
    fault: str


def login(error: ConnectError, host: str, tcp_port: int) -> LoginError:
    """Return the error of a failed login with a secret."""
    if error.fault is ConnectFault.MQTT_REFUSED:
        return _coded(error.code, CODES[error.code])
    return LoginFailed(connect_errors.reason(error.fault, host, tcp_port))


def login_by_certificate(error: ConnectError, attempt: LoginAttempt) -> LoginError:
    """Return the error of a failed login with a certificate.

    An expired certificate is stale: a new one may be accepted.
    """
    if error.fault is ConnectFault.IDENTITY:
        return LoginRefused(NO_IDENTITY)
    reason = _rejection(error)
    if reason is None:
        return login(error, attempt.host, attempt.port)
    if attempt.fault:
        return LoginRefused(_invalid(attempt.fault), stale=attempt.fault == "has expired")
    remedy = f"{reason.remedy} {enrolment_hint(attempt.fingerprint)}"
    return _coded(error.code, replace(reason, remedy=remedy))


def illegal(code: str, what: str, fault: str) -> Reason:
    """Return why a name cannot be used; fault: as of settings.Field."""
    return Reason(
        code, f"The {what} {fault}.", "Correct what the rule extracts, then run gatewayctl reload."
    )


def template(code: str, text: str) -> Reason:
    """Return why a template makes no such device; text: its faults, without a full stop."""
    return Reason(
        code,
        f"The template cannot make this device: {text}.",
        "Change the template, here and at the platform, or the rule that names the device; then "
        "run gatewayctl reload.",
    )


def _coded(code: int, reason: Reason) -> LoginError:
    return LoginFailed(reason) if code == UNAVAILABLE else LoginRefused(reason, stale=False)


def _rejection(error: ConnectError) -> Reason | None:
    """Return why the certificate, or the device, was rejected; None if it was not."""
    if error.fault is ConnectFault.TLS_REJECTED:
        return ALERTS.get(error.alert, NOT_ACCEPTED)
    if error.fault is ConnectFault.MQTT_CLOSED:
        return HUNG_UP
    if error.code in (4, 5):
        reason = CODES[error.code]
        return replace(reason, remedy=f"{reason.remedy} {_ENROLMENT}")
    return None


def _invalid(fault: str) -> Reason:
    return Reason(
        "certificate-expired",
        f"The certificate of this device {fault}, by the gateway's clock.",
        "Check the gateway's clock; an expired certificate is replaced automatically if the device "
        "CA is valid.",
        REJECTED,
    )


def enrolment_hint(fingerprint: str) -> str:
    """Return how to make a certificate known at the platform, by its SHA-256."""
    return (
        "If the platform knows the device by another certificate, set the fingerprint "
        f"{fingerprint} as SECONDARY there (reset-fingerprint), or empty the old one."
    )


NOT_LISTED = Reason(
    "cloud-bad-answer",
    "The platform's answer does not contain this child.",
    "If this persists, check the device in the console.",
)
NO_DEVICE_ID = Reason(
    "secret-unusable",
    "The secret kept for this child has no device ID.",
    "Run gatewayctl reregister CHILD CHILD.",
    substate="credential-rejected",
)
OTHER_INSTANCE = Reason(
    "cloud-instance-changed",
    "The child was added at another instance; the instance configured now does not know it.",
    "Correct host in the configuration of the cloud, then run gatewayctl reload; to add the child "
    "here, run gatewayctl reregister CHILD CHILD.",
    substate="credential-rejected",
)


EXISTS = "IOTDA.014031"
UNKNOWN_DEVICE = "IOTDA.014000"
NOT_A_CHILD = "IOTDA.021104"

_THROTTLED = ResultMeaning(
    ResultKind.TRANSIENT,
    Reason("cloud-throttled", "The platform throttles requests of this kind."),
    wait=60.0,
)
_LATER = ResultMeaning(
    ResultKind.TRANSIENT,
    Reason("cloud-error", "The platform could not reach the gateway."),
)
_REFUSED = ResultMeaning(
    ResultKind.PERMANENT,
    Reason(
        "cloud-request-refused",
        "The platform rejected a field of the request as malformed or unknown.",
        "Check the product ID and the node ID in the rule, and that the product exists; then run "
        "gatewayctl reload.",
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
            "The platform already has a device of this node ID, which belongs to another gateway.",
            "Move it to this gateway at the platform (change-gateway), or delete it there; then "
            "run gatewayctl retry CHILD.",
        ),
    ),
    "IOTDA.014111": _LATER,  # a command timed out
    "IOTDA.014112": _LATER,  # a topic is not subscribed to
    "IOTDA.021101": _THROTTLED,
    "IOTDA.021102": _THROTTLED,
    NOT_A_CHILD: ResultMeaning(ResultKind.REMOVED, REMOVED),
    "IOTDA.021105": ResultMeaning(
        ResultKind.PERMANENT,
        Reason("cloud-request-too-large", "The platform rejected the request as too large."),
    ),
}
"""Result code to its meaning, for every event."""

_DONE = ResultMeaning(ResultKind.DONE, NONE)

EXCEPTIONS: Mapping[tuple[str, SubDeviceEvent], ResultMeaning] = {
    # A child that does not exist is unbound.
    (UNKNOWN_DEVICE, SubDeviceEvent.DELETE): _DONE,
    (NOT_A_CHILD, SubDeviceEvent.DELETE): _DONE,
    # The child cannot be what is missing.
    (UNKNOWN_DEVICE, SubDeviceEvent.ADD): _REFUSED,
    (NOT_A_CHILD, SubDeviceEvent.ADD): _REFUSED,
}
"""Result code and event to the meaning, where the event makes a difference."""


def denial(code: str, event: SubDeviceEvent) -> Denied:
    """Return what a result code means for a child, in the response to `event`."""
    return Denied(code, EXCEPTIONS.get((code, event)) or RESULT_CODES.get(code) or _unknown(code))


def _unknown(code: str) -> ResultMeaning:
    shown = "an unreadable code" if code == UNREADABLE else f"code {code}"
    return ResultMeaning(
        ResultKind.UNKNOWN,
        Reason(
            "cloud-code-unknown",
            f"The platform refused with {shown}, which is not documented.",
            "Ask the vendor about the code; gatewayd tries again in some minutes.",
        ),
    )
