"""How making a connection fails, and how one ends.  The words are reason codes."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """The step at which a connection could not be made."""

    TOO_OFTEN = "connects-exhausted"  # we do not ask: the cloud would take it amiss
    CA_FILE = "ca-file-unusable"  # the file of trusted roots cannot be read, or holds none
    IDENTITY = "certificate-unusable"  # the key and the certificate to show cannot be read
    DNS = "dns-failed"
    TCP_REFUSED = "tcp-refused"  # nobody listens there, or a firewall says no
    TCP_UNREACHABLE = "tcp-unreachable"  # no route, or no answer in time
    TLS_HOST_NAME = "tls-host-name"
    TLS_UNKNOWN_CA = "tls-unknown-ca"
    TLS_EXPIRED = "tls-expired"
    TLS_NOT_YET_VALID = "tls-not-yet-valid"
    TLS_NAME = "tls-name-unknown"  # the server serves no such name (RFC 6066, 3)
    TLS_REJECTED = "tls-certificate-rejected"  # ours, by the server
    TLS_FAILED = "tls-failed"
    TLS_TIMEOUT = "tls-timeout"
    MQTT_TIMEOUT = "cloud-no-answer"  # from here on, the CONNECT may have arrived
    MQTT_CLOSED = "cloud-hung-up"
    MQTT_PROTOCOL = "cloud-protocol-error"
    MQTT_REFUSED = "cloud-refused"  # the CONNACK says why, by a code


SILENT = frozenset({Fault.MQTT_TIMEOUT, Fault.MQTT_CLOSED, Fault.MQTT_PROTOCOL})
"""The cloud may have acted on the CONNECT, and has not told."""


class ConnectError(Exception):
    """A connection was not made.

    code: what the CONNACK said, 1 to 5 (MQTT 3.1.1, 3.2.2.3); 0 unless `fault` is MQTT_REFUSED.
    alert: what the server said of our certificate, as "certificate-expired"; "" unless `fault` is
    TLS_REJECTED.
    """

    def __init__(self, fault: Fault, code: int = 0, alert: str = "") -> None:
        super().__init__(f"{fault} ({code or alert})" if code or alert else str(fault))
        self.fault, self.code, self.alert = fault, code, alert


class End(StrEnum):
    """Why a connection has ended."""

    OURS = "closed"
    CLOUD = "cloud-closed"
    LOST = "connection-lost"
    REJECTED = "tls-certificate-rejected"  # with TLS 1.3 that comes after the handshake
    KEEPALIVE = "keepalive-timeout"
    PROTOCOL = "cloud-protocol-error"
