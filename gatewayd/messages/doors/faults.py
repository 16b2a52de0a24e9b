"""Why a door is not connected: a code, a sentence and a remedy for each cause.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from gatewayd.device.reason import Reason
from gatewayd.messages.doors.packets import V5
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import ConnectFault


class DoorFault(StrEnum):
    """What keeps a door from its broker, beside the network."""

    STARTING = "broker-connecting"
    SOCKET_MISSING = "broker-socket-missing"
    SOCKET_REFUSED = "broker-socket-refused"
    SOCKET_DENIED = "broker-socket-denied"
    CREDENTIAL = "broker-credential-unusable"
    CERTIFICATE = "broker-certificate-unusable"
    NO_ANSWER = "broker-no-answer"
    CLOSED = "broker-hung-up"
    NOT_MQTT = "broker-protocol-error"
    VERSION = "broker-version"
    CLIENT_ID = "broker-client-id-refused"
    PASSWORD = "broker-password-refused"  # noqa: S105  # a code
    NOT_ALLOWED = "broker-not-authorised"
    BUSY = "broker-busy"
    REFUSED = "broker-refused"
    TAKEN_OVER = "broker-session-taken-over"
    RESTARTING = "broker-restarting"
    LOST = "broker-connection-lost"
    SILENT = "broker-silent"
    SUBSCRIPTION = "broker-subscription-refused"


_TEXTS: Mapping[DoorFault, tuple[str, str]] = {
    DoorFault.STARTING: ("The connection to the broker at {at} is being made.", ""),
    DoorFault.SOCKET_MISSING: (
        "There is no socket {at}.",
        "Start the broker, or correct the setting socket and run gatewayctl reload.",
    ),
    DoorFault.SOCKET_REFUSED: (
        "Nothing accepts connections at the socket {at}.",
        "Start the broker.",
    ),
    DoorFault.SOCKET_DENIED: (
        "The socket {at} may not be used.",
        "Add gatewayd to the group that may use it, and restart it.",
    ),
    DoorFault.CREDENTIAL: (
        "The password or the private key for the broker at {at} cannot be read.",
        "Check the log, which names the credential or the file.",
    ),
    DoorFault.CERTIFICATE: (
        "The certificate for the broker at {at}, or its private key, cannot be used.",
        (
            "Check that certificate_file and the private key belong together, both PEM; then run "
            "gatewayctl reload."
        ),
    ),
    DoorFault.NO_ANSWER: (
        "The broker at {at} did not answer.",
        (
            "If this lasts, check that it speaks MQTT there; reply_timeout may be too short; "
            "after a correction, run gatewayctl reload."
        ),
    ),
    DoorFault.CLOSED: (
        "The broker at {at} closed the connection without an answer.",
        "If this lasts, check its log, and whether it wants TLS there.",
    ),
    DoorFault.NOT_MQTT: (
        "What answers at {at} sent what is not MQTT, or no broker may send.",
        "Check host and port, then run gatewayctl reload; the log says what was sent.",
    ),
    DoorFault.VERSION: (
        "The broker at {at} speaks neither MQTT 5 nor MQTT 3.1.1.",
        "Update it, or correct host and port and run gatewayctl reload.",
    ),
    DoorFault.CLIENT_ID: (
        "The broker at {at} does not accept the client identifier.",
        "Set client_id to one that it accepts, then run gatewayctl reload.",
    ),
    DoorFault.PASSWORD: (
        "The broker at {at} does not accept user name and password.",
        "Correct user_name and the credential with the password, then run gatewayctl reload.",
    ),
    DoorFault.NOT_ALLOWED: (
        "The broker at {at} does not allow this client to connect.",
        (
            "Allow the user of gatewayd there, or set user_name and a password and run gatewayctl "
            "reload."
        ),
    ),
    DoorFault.BUSY: (
        "The broker at {at} is busy, or unavailable.",
        "If this lasts, check its limits and its log.",
    ),
    DoorFault.REFUSED: ("The broker at {at} refused the connection.", "Check its log."),
    DoorFault.TAKEN_OVER: (
        "Another client has connected to the broker at {at} with the same identifier.",
        "Set client_id so that it is used once at this broker, then run gatewayctl reload.",
    ),
    DoorFault.RESTARTING: ("The broker at {at} is shutting down.", ""),
    DoorFault.LOST: ("The connection to the broker at {at} was lost.", "Check the network."),
    DoorFault.SILENT: ("The broker at {at} stopped answering.", "Check it, and the network."),
    DoorFault.SUBSCRIPTION: (
        "The broker at {at} does not let gatewayd read all topics.",
        (
            "Allow its user to read the topics that the configuration names, or correct these and "
            "run gatewayctl reload."
        ),
    ),
}

_V5_CODES: Mapping[int, DoorFault] = {
    0x81: DoorFault.NOT_MQTT,
    0x82: DoorFault.NOT_MQTT,
    0x84: DoorFault.VERSION,
    0x85: DoorFault.CLIENT_ID,
    0x86: DoorFault.PASSWORD,
    0x87: DoorFault.NOT_ALLOWED,
    0x88: DoorFault.BUSY,
    0x89: DoorFault.BUSY,
    0x8A: DoorFault.NOT_ALLOWED,
    0x8B: DoorFault.RESTARTING,
    0x8D: DoorFault.SILENT,
    0x8E: DoorFault.TAKEN_OVER,
    0x97: DoorFault.BUSY,
    0x9F: DoorFault.BUSY,
}
"""Codes of CONNACK and DISCONNECT (MQTT 5.0, 3.2.2.2 and 3.14.2.1)."""

_V311_CODES: Mapping[int, DoorFault] = {
    1: DoorFault.VERSION,
    2: DoorFault.CLIENT_ID,
    3: DoorFault.BUSY,
    4: DoorFault.PASSWORD,
    5: DoorFault.NOT_ALLOWED,
}
"""Codes of CONNACK (MQTT 3.1.1, 3.2.2.3)."""


def refusal(version: int, code: int) -> DoorFault:
    """Return what a code of CONNACK or DISCONNECT means, as a broker of this version sends it.

    A broker that speaks only MQTT 3.1.1 answers to a CONNECT of MQTT 5 with a code of its own.
    """
    codes = _V5_CODES if version == V5 and code not in _V311_CODES else _V311_CODES
    return codes.get(code, DoorFault.REFUSED)


def door_reason(fault: DoorFault, endpoint: str) -> Reason:
    """Return why a door is not connected.  endpoint: from our own configuration."""
    text, remedy = _TEXTS[fault]
    return Reason(fault, text.format(at=endpoint), remedy)


class DoorError(Exception):
    """A connection to a broker was not made, or has ended.  detail: for the log, a sentence."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason.code)
        self.reason, self.detail = reason, detail

    @classmethod
    def of(cls, fault: DoorFault, endpoint: str, detail: str = "") -> DoorError:
        """Make one of a fault of the broker."""
        return cls(door_reason(fault, endpoint), detail)

    @classmethod
    def of_network(cls, fault: ConnectFault, host: str, port: int) -> DoorError:
        """Make one of a fault of the network."""
        if fault is ConnectFault.IDENTITY:
            return cls.of(DoorFault.CERTIFICATE, f"{host}:{port}")
        return cls(connect_errors.reason(fault, host, port))
