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
