"""The reasons of a broker: what its answers mean, and what an operator can do.  Tables; pure.

Source: MQTT 3.1.1, 3.2.2.3, and the words of mosquitto's plugin "dynamic-security".
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.cloud.mqtt_broker.dynamic_security import (
    CommandRefused,
    ManagementFailed,
    ManagementFault,
)
from gatewayd.cloud.provider import (
    Failed,
    LoginError,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
)
from gatewayd.device.reason import Reason
from gatewayd.errors import ConfigError
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import ConnectError, ConnectFault

REJECTED = "credential-rejected"
"""The substate of a device whose credentials are not accepted."""
UNAVAILABLE = 3
NOT_ACCEPTED = frozenset({4, 5})
"""CONNACK codes of a client that the broker does not know by this password."""

CODES: Mapping[int, Reason] = {
    1: Reason(
        "cloud-protocol-refused",
        "The broker does not speak MQTT 3.1.1 here.",
        "Check host and port; then run gatewayctl reload.",
    ),
    2: Reason(
        "cloud-request-refused",
        "The broker rejected the client id.",
        "Check the setting client_id, and what the broker demands of it; then run gatewayctl "
        "reload.",
    ),
    3: Reason("cloud-unavailable", "The broker is temporarily unavailable."),
    4: Reason(
        "cloud-auth-failed",
        "The broker does not accept this user with this password.",
        "If the password was changed at the broker, run gatewayctl reregister CHILD CHILD.",
        REJECTED,
    ),
    5: Reason(
        "cloud-not-authorised",
        "The broker does not accept this client: its password is another one, or it is disabled.",
        "Enable the client at the broker, then run gatewayctl retry CHILD; if its password was "
        "changed there, run gatewayctl reregister CHILD CHILD.",
        REJECTED,
    ),
}
"""CONNACK code of a child's login, to its reason.  Only code 3 is transient."""

MANAGEMENT: Mapping[int, Reason] = {
    **CODES,
    2: Reason(
        "cloud-request-refused",
        "The broker rejected the client id of the management login.",
        "Check what the broker demands of a client id.",
    ),
    **dict.fromkeys(
        (4, 5),
        Reason(
            "management-refused",
            "The broker does not accept the management login.",
            "Check management.user and its password, and that the broker has this user enabled; "
            "then run gatewayctl reload.",
            "waiting",
        ),
    ),
}
"""CONNACK code of the management login, to its reason."""

MANAGED: Mapping[ManagementFault, Reason] = {
    ManagementFault.SILENT: Reason(
        "management-no-answer",
        "The broker did not answer the management of clients.",
        "Check that the plugin dynamic-security is loaded there, and that the management user may "
        "use it.",
        "waiting",
    ),
    ManagementFault.DENIED: Reason(
        "management-denied",
        "The broker does not let the management user manage clients.",
        "Give the user a role there that may use $CONTROL/dynamic-security/#.",
        "waiting",
    ),
    ManagementFault.BUSY: Reason(
        "management-busy", "Too many clients wait to be created at the broker."
    ),
    ManagementFault.INTERRUPTED: Reason(
        "management-interrupted",
        "The connection by which clients are managed at the broker has ended.",
        "If this lasts, check that no other gateway has the same management.user.",
        "waiting",
    ),
}
CLIENT_EXISTS = Reason(
    "client-exists",
    "The broker has a client or a role of this user name that gatewayd did not create for this "
    "child.",
    "Remove it at the broker, then run gatewayctl retry CHILD; or change the setting user, then "
    "run gatewayctl reload.",
)
TOPICS_DENIED = Reason(
    "topics-denied",
    "The broker does not let this child use its own topics, so that what it says would be lost.",
    "Check what denies them at the broker beside the role of the child, and that no other gateway "
    "has created its client.",
)
CUT_OFF = Reason(
    "message-cut-off",
    "The broker closes the connection whenever it is sent this message.",
    "Set max_payload 1024 below max_packet_size of the broker, then run gatewayctl reload; or "
    "raise that there.",
)
NO_SECRET = Reason(
    "secret-unusable",
    "The secret kept for this device is no password of this broker.",
    "Run gatewayctl reregister CHILD CHILD.",
    REJECTED,
)
USER_TOO_LONG = Reason(
    "user-name-too-long",
    "The user name of this child is longer than the 64 characters of a certificate's common name.",
    "Correct what the rule extracts, or the setting user, then run gatewayctl reload.",
)
CANNOT_REVOKE = Reason(
    "authority-cannot-revoke",
    "The device CA was imported, and its certificate does not let it sign lists of what is "
    "revoked (cRLSign).",
    "Run gatewayctl ca make --replace --cloud CLOUD, or import another CA that may; then give the "
    "broker its certificate.",
    "waiting",
)
TOO_MANY = Reason(
    "certificates-exhausted",
    "This child has as many valid certificates as one may have.",
    "Wait for the end of the oldest; or run gatewayctl forget CHILD, which revokes all.",
)
TOO_MANY_REVOKED = Reason(
    "revocations-exhausted",
    "The list of revoked certificates is full.",
    "Wait until some of those on it have ended; or set certificates.days lower for the next, then "
    "run gatewayctl reload.",
)
NO_CERTIFICATE = Reason(
    "certificate-unusable",
    "The secret kept for this device is no key with its certificate.",
    "Run gatewayctl reregister CHILD CHILD.",
    REJECTED,
)
OTHER_USER = Reason(
    "certificate-of-other-user",
    "The certificate of this device is of another user name than the settings give it now.",
    "Another is issued by itself; if it is not, run gatewayctl reregister CHILD CHILD.",
    REJECTED,
)
GIVEN_OF_OTHER_USER = Reason(
    "certificate-given-of-other-user",
    "The certificate that was imported is of another user name than the settings give it now.",
    "Import another with gatewayctl certificate import; or correct the setting user of the cloud, "
    "and restart gatewayd.",
    REJECTED,
)
LIST_DENIES = Reason(
    "topics-denied",
    "The broker does not let this child use its own topics, so that what it says would be lost.",
    "Put the access list at the broker that gatewayctl broker-config prints, and have it read "
    "again.",
)
NOT_THE_USER = Reason(
    "cloud-not-authorised",
    "The broker does not take the name in the certificate for the user, or knows no such user.",
    "Set require_certificate and use_identity_as_username to true at the listener, as gatewayctl "
    "broker-config prints them, and restart the broker.",
    REJECTED,
)
NOT_ACCEPTED_AS_SHOWN = Reason(
    "certificate-rejected",
    "The broker does not accept the certificate of this device.",
    "See the log of the broker; compare its listener with what gatewayctl broker-config prints.",
    REJECTED,
)
HUNG_UP = Reason(
    "certificate-rejected",
    "The broker closed the connection without an answer; it may not accept the certificate of this "
    "device.",
    "If this lasts, see the log of the broker.",
)
ALERTS: Mapping[str, Reason] = {
    "unknown-ca": Reason(
        "authority-unknown",
        "The broker does not trust the device CA, or has no list of what that has revoked.",
        "Put the certificate that gatewayctl ca show --cloud CLOUD prints into cafile at the "
        "broker, and the list that gatewayctl ca revoked --cloud CLOUD prints into crlfile; then "
        "restart the broker.",
        REJECTED,
    ),
    "certificate-expired": Reason(
        "certificate-expired",
        "The broker rejected the certificate, or its CA, as not valid now.",
        "Check the clocks of the gateway and of the broker, and the CA: gatewayctl ca show --cloud "
        "CLOUD.",
        REJECTED,
    ),
    "certificate-revoked": Reason(
        "certificate-revoked",
        "The certificate is on the broker's list of revoked ones: the child was forgotten before.",
        "If it is to be known again, run gatewayctl reregister CHILD CHILD, which issues another.",
        REJECTED,
    ),
}
"""TLS alert about a certificate, to its reason; other alerts say no more than a refusal."""
NO_PRODUCT = Reason(
    "product-unknown",
    "The product is none of those that this broker is for.",
    "Name it under products, or correct the rule; then run gatewayctl reload.",
)


def illegal(code: str, what: str, fault: str) -> Reason:
    """Return why a name cannot be used.  fault: as of templates.part_fault."""
    return Reason(
        code, f"The {what} {fault}.", "Correct what the rule extracts, then run gatewayctl reload."
    )


def login(error: ConnectError, host: str, tcp_port: int) -> LoginError:
    """Return what to raise for a child's login that got no connection."""
    if error.fault is not ConnectFault.MQTT_REFUSED:
        return LoginFailed(connect_errors.reason(error.fault, host, tcp_port))
    reason = CODES[error.code]
    return LoginFailed(reason) if error.code == UNAVAILABLE else LoginRefused(reason, stale=False)


def certificate_login(error: ConnectError, host: str, tcp_port: int, fault: str) -> LoginError:
    """Return what to raise for a login by certificate that got no connection.

    fault: of the certificate by this machine's clock, as "has expired"; "" for none.  An expired
    one is stale: a new one may be accepted.
    """
    if error.fault is ConnectFault.IDENTITY:
        return LoginRefused(NO_CERTIFICATE)
    if error.fault is ConnectFault.TLS_REJECTED:
        if fault:
            return LoginRefused(_invalid(fault), stale=fault == "has expired")
        return LoginRefused(ALERTS.get(error.alert, NOT_ACCEPTED_AS_SHOWN), stale=False)
    if error.fault is ConnectFault.MQTT_CLOSED:
        return LoginFailed(HUNG_UP)
    if error.code in NOT_ACCEPTED:
        return LoginRefused(NOT_THE_USER, stale=False)
    return login(error, host, tcp_port)


def _invalid(fault: str) -> Reason:
    return Reason(
        "certificate-expired",
        f"The certificate of this device {fault}, by the gateway's clock.",
        "Check the gateway's clock; an expired certificate is replaced by itself if the device CA "
        "is valid.",
        REJECTED,
    )


ManagementError = ConnectError | ConfigError | ManagementFailed | CommandRefused
"""How the management of a broker fails."""


def management(error: ManagementError, host: str, tcp_port: int) -> Reason:
    """Return why the management of clients has failed."""
    match error:
        case ConnectError(fault=ConnectFault.MQTT_REFUSED):
            return MANAGEMENT[error.code]
        case ConnectError():
            return connect_errors.reason(error.fault, host, tcp_port)
        case ConfigError():
            return Reason(
                "management-password-unusable",
                str(error),
                "Correct the secret that management names; then run gatewayctl reload.",
                "waiting",
            )
        case CommandRefused():
            return Reason(
                "management-command-refused",
                f'The broker refused to manage the client: "{error.error}".',
                "Check the log of the broker, then run gatewayctl retry CHILD.",
            )
    return MANAGED[error.fault]


def outcome(error: ManagementError, host: str, tcp_port: int) -> Outcome:
    """Return how a registration ended in which the broker was not looked up: nothing is issued."""
    why = management(error, host, tcp_port)
    return Refused(why) if isinstance(error, CommandRefused) else Failed(why)
