"""Why no connection was made, and why one ended, in words for people: tables.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.cloud.faults import End, Fault
from gatewayd.device.reason import Reason

_NETWORK: Mapping[Fault, tuple[str, str]] = {
    Fault.TOO_OFTEN: (
        "This device has connected to {host} as often as the cloud allows in a minute.",
        "If this lasts, look why it comes and goes.",
    ),
    Fault.CA_FILE: (
        "The trusted root certificates cannot be read.",
        "Check ca_file: a PEM file that gatewayd may read.",
    ),
    Fault.IDENTITY: (
        "The key or the certificate of this device cannot be read.",
        "Look at the log; Reregister makes new ones.",
    ),
    Fault.DNS: (
        "The name {host} cannot be looked up.",
        "Check the settings that name the endpoint, and the gateway's DNS.",
    ),
    Fault.TCP_REFUSED: (
        "Nothing accepts connections at {host} port {port}.",
        "Check host and port, and the firewall.",
    ),
    Fault.TCP_UNREACHABLE: (
        "{host} port {port} does not answer.",
        "Check the gateway's network and the firewall; connect_timeout may be too short.",
    ),
    Fault.TLS_HOST_NAME: (
        "The certificate of the server belongs to another host than {host}.",
        "Check host; a name that the certificate lists is needed, not an address.",
    ),
    Fault.TLS_UNKNOWN_CA: (
        "The certificate of {host} comes from an authority that is not trusted here.",
        "Set ca_file to the root certificate of this endpoint: a system may not have it.",
    ),
    Fault.TLS_EXPIRED: (
        "The certificate of {host}, or of its authority, has expired.",
        "Check the gateway's clock; if it is right, check port and ca_file.",
    ),
    Fault.TLS_NOT_YET_VALID: (
        "The certificate of {host} is not valid yet.",
        "Check the gateway's clock.",
    ),
    Fault.TLS_NAME: (
        "The server does not know the name {host}.",
        "Check host: it must be the domain that the cloud gave to this instance.",
    ),
    Fault.TLS_REJECTED: (
        "{host} does not accept the certificate that was shown.",
        "Check that the authority of the certificate is verified at the cloud.",
    ),
    Fault.TLS_FAILED: (
        "The TLS handshake with {host} failed.",
        "Check that port {port} speaks MQTT over TLS 1.2 or newer.",
    ),
    Fault.TLS_TIMEOUT: (
        "{host} did not answer the TLS handshake.",
        "Check that port {port} speaks MQTT over TLS; connect_timeout may be too short.",
    ),
    Fault.MQTT_TIMEOUT: (
        "{host} did not answer the request.",
        "If this lasts, check that port {port} speaks MQTT; reply_timeout may be too short.",
    ),
    Fault.MQTT_CLOSED: (
        "{host} closed the connection without an answer.",
        "If this lasts, check that port {port} speaks MQTT.",
    ),
    Fault.MQTT_PROTOCOL: (
        "{host} answered with what is not MQTT.",
        "Check host and port {port}.",
    ),
}

ENDS: Mapping[End, Reason] = {
    End.OURS: Reason(End.OURS, "gatewayd closed the session."),
    End.CLOUD: Reason(
        End.CLOUD, "The cloud closed the session: it may be restarting, or the device logged in "
        "elsewhere.",
    ),
    End.LOST: Reason(End.LOST, "The network lost the session.", "Check the gateway's network."),
    End.KEEPALIVE: Reason(
        End.KEEPALIVE, "The cloud stopped answering.", "Check the gateway's network."
    ),
    End.REJECTED: Reason(
        End.REJECTED, "The cloud does not accept the certificate of the device any more.",
        "Check the certificate and its authority at the cloud.",
    ),
    End.PROTOCOL: Reason(End.PROTOCOL, "The cloud sent what is not MQTT; the session was closed."),
}  # fmt: skip
"""Why a session ended."""


def reason(fault: Fault, host: str, tcp_port: int) -> Reason:
    """Return why a step failed; `host` is from our own configuration."""
    text, remedy = (one.format(host=host, port=tcp_port) for one in _NETWORK[fault])
    return Reason(fault, text, remedy)
