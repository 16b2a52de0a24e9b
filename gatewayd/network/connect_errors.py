"""How making a connection fails, and how a connection ends: reason codes and their texts.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from gatewayd.device.reason import Reason


class ConnectFault(StrEnum):
    """The step at which a connection could not be made."""

    TOO_OFTEN = "connects-exhausted"  # not tried: the cloud limits how often
    CA_FILE = "ca-file-unusable"  # the file of trusted roots cannot be read, or holds none
    IDENTITY = "certificate-unusable"  # the key and the certificate to show cannot be read
    PROXY_DNS = "proxy-dns-failed"
    PROXY_REFUSED = "proxy-refused"  # as TCP_REFUSED, at the proxy
    PROXY_UNREACHABLE = "proxy-unreachable"  # likewise
    PROXY_CREDENTIALS = "proxy-credentials-unusable"  # ours cannot be read, or have another form
    PROXY_TIMEOUT = "proxy-no-answer"
    PROXY_CLOSED = "proxy-hung-up"
    PROXY_PROTOCOL = "proxy-protocol-error"
    PROXY_AUTHENTICATION = "proxy-wants-credentials"  # 407, and we have sent none
    PROXY_DENIED = "proxy-credentials-refused"  # 407 to those that we have sent
    PROXY_METHOD = "proxy-authentication-unsupported"  # 407, by a method other than Basic
    PROXY_FORBIDDEN = "proxy-forbidden"  # 403, or another 3xx or 4xx
    PROXY_NO_WAY = "proxy-cannot-reach"  # 5xx: name lookup or TCP failed there
    DNS = "dns-failed"
    TCP_REFUSED = "tcp-refused"  # nothing listens there, or a firewall refuses
    TCP_UNREACHABLE = "tcp-unreachable"  # no route, or no answer in time
    TLS_HOST_NAME = "tls-host-name"
    TLS_UNKNOWN_CA = "tls-unknown-ca"
    PORTAL = "captive-portal"  # the server is neither trusted nor of this name
    TLS_EXPIRED = "tls-expired"
    TLS_NOT_YET_VALID = "tls-not-yet-valid"
    TLS_NAME = "tls-name-unknown"  # the server serves no such name (RFC 6066, 3)
    TLS_REJECTED = "tls-certificate-rejected"  # ours, by the server
    TLS_FAILED = "tls-failed"
    TLS_TIMEOUT = "tls-timeout"
    WEBSOCKET_TIMEOUT = "websocket-no-answer"
    WEBSOCKET_REFUSED = "websocket-refused"  # the server has no WebSocket there
    MQTT_TIMEOUT = "cloud-no-answer"  # from here on, the CONNECT may have arrived
    MQTT_CLOSED = "cloud-hung-up"
    MQTT_PROTOCOL = "cloud-protocol-error"
    MQTT_REFUSED = "cloud-refused"  # the CONNACK says why, by a code


SILENT = frozenset(
    {ConnectFault.MQTT_TIMEOUT, ConnectFault.MQTT_CLOSED, ConnectFault.MQTT_PROTOCOL}
)
"""Faults after which the cloud may have acted on the CONNECT."""


PROXY = frozenset(
    {
        ConnectFault.PROXY_DNS,
        ConnectFault.PROXY_REFUSED,
        ConnectFault.PROXY_UNREACHABLE,
        ConnectFault.PROXY_CREDENTIALS,
        ConnectFault.PROXY_TIMEOUT,
        ConnectFault.PROXY_CLOSED,
        ConnectFault.PROXY_PROTOCOL,
        ConnectFault.PROXY_AUTHENTICATION,
        ConnectFault.PROXY_DENIED,
        ConnectFault.PROXY_METHOD,
        ConnectFault.PROXY_FORBIDDEN,
        ConnectFault.PROXY_NO_WAY,
    }
)
"""Faults on the way to the proxy, and at it."""

UNTRUSTED = frozenset(
    {
        ConnectFault.TLS_HOST_NAME,
        ConnectFault.TLS_UNKNOWN_CA,
        ConnectFault.PORTAL,
        ConnectFault.TLS_EXPIRED,
        ConnectFault.TLS_NOT_YET_VALID,
    }
)
"""Faults of the server's certificate: it is refused before a device is named to it."""

UNREACHED = (
    PROXY | UNTRUSTED | {ConnectFault.DNS, ConnectFault.TCP_REFUSED, ConnectFault.TCP_UNREACHABLE}
)
"""Faults by which the cloud cannot have learnt which device it was that tried."""


class ConnectError(Exception):
    """A connection was not made.

    code: that of the CONNACK, 1 to 5 (MQTT 3.1.1, 3.2.2.3); 0 unless `fault` is MQTT_REFUSED.
    alert: the server's TLS alert about our certificate, as "certificate-expired"; "" unless `fault`
    is TLS_REJECTED.
    """

    def __init__(self, fault: ConnectFault, code: int = 0, alert: str = "") -> None:
        super().__init__(f"{fault} ({code or alert})" if code or alert else str(fault))
        self.fault, self.code, self.alert = fault, code, alert


class ConnectionEnd(StrEnum):
    """Why a connection has ended."""

    OURS = "closed"
    CLOUD = "cloud-closed"
    LOST = "connection-lost"
    REJECTED = "tls-certificate-rejected"  # with TLS 1.3 that comes after the handshake
    KEEPALIVE = "keepalive-timeout"
    PROTOCOL = "cloud-protocol-error"


_NETWORK: Mapping[ConnectFault, tuple[str, str]] = {
    ConnectFault.TOO_OFTEN: (
        "This device has connected to {host} as often as the cloud allows in a minute.",
        "If this lasts, find out why it reconnects so often.",
    ),
    ConnectFault.CA_FILE: (
        "The trusted root certificates cannot be read.",
        "Check ca_file: a PEM file that gatewayd may read{reload}.",
    ),
    ConnectFault.IDENTITY: (
        "The key or the certificate of this device cannot be read.",
        "Check the log; gatewayctl reregister CHILD CHILD makes new ones.",
    ),
    ConnectFault.PROXY_DNS: (
        "The name of the proxy cannot be looked up.",
        "Check the setting proxy, and the gateway's DNS{reload}.",
    ),
    ConnectFault.PROXY_REFUSED: (
        "Nothing accepts connections where the proxy should be.",
        "Check host and port in the setting proxy, and that the proxy is running{reload}.",
    ),
    ConnectFault.PROXY_UNREACHABLE: (
        "The proxy does not answer.",
        "Check host and port in the setting proxy, and the gateway's network{reload}.",
    ),
    ConnectFault.PROXY_CREDENTIALS: (
        "The user and password for the proxy cannot be used.",
        "Put user:password into the file or the credential that the settings name{reload}.",
    ),
    ConnectFault.PROXY_TIMEOUT: (
        "The proxy accepts connections, and did not answer the request for {host} port {port}.",
        (
            "Check that the setting proxy names an HTTP proxy, and that connect_timeout is not too "
            "short{reload}."
        ),
    ),
    ConnectFault.PROXY_CLOSED: (
        "The proxy closed the connection without an answer.",
        "Check that the setting proxy names an HTTP proxy, and the proxy's log{reload}.",
    ),
    ConnectFault.PROXY_PROTOCOL: (
        "What answers where the proxy should be is no HTTP proxy.",
        "Check host and port in the setting proxy: http, and neither SOCKS nor https{reload}.",
    ),
    ConnectFault.PROXY_AUTHENTICATION: (
        "The proxy wants a user and a password (407).",
        "Set proxy_credential or proxy_file{reload}.",
    ),
    ConnectFault.PROXY_DENIED: (
        "The proxy refuses the user or the password (407).",
        "Correct user:password in the file or credential that the settings name{reload}.",
    ),
    ConnectFault.PROXY_METHOD: (
        "The proxy wants a login by another method than Basic (407).",
        "Have the proxy let this gateway through by its address, or by Basic.",
    ),
    ConnectFault.PROXY_FORBIDDEN: (
        "The proxy does not allow CONNECT to {host} port {port}.",
        (
            "Have its administrator allow it; if only port 443 is allowed, set transport to "
            "websocket{reload}."
        ),
    ),
    ConnectFault.PROXY_NO_WAY: (
        "The proxy cannot reach {host} port {port}: it cannot look the name up, or connect.",
        "Check the settings that name the endpoint, the DNS and the firewall of the proxy{reload}.",
    ),
    ConnectFault.DNS: (
        "The name {host} cannot be looked up.",
        "Check the settings that name the endpoint, and the gateway's DNS{reload}.",
    ),
    ConnectFault.TCP_REFUSED: (
        "Nothing accepts connections at {host} port {port}.",
        "Check host and port, and the firewall{reload}.",
    ),
    ConnectFault.TCP_UNREACHABLE: (
        "{host} port {port} does not answer.",
        (
            "Check the gateway's network and the firewall, and that connect_timeout is not too "
            "short{reload}."
        ),
    ),
    ConnectFault.TLS_HOST_NAME: (
        "The certificate of the server belongs to another host than {host}.",
        (
            "Check host: a name, not an address{reload}; if it is right, a captive portal may be "
            "answering."
        ),
    ),
    ConnectFault.TLS_UNKNOWN_CA: (
        "The certificate of {host} comes from an authority that is not trusted here.",
        "Put the root of this endpoint into ca_file, or set ca_file{reload}.",
    ),
    ConnectFault.PORTAL: (
        "A captive portal or proxy seems to answer for {host}: name and root are another server's.",
        (
            "Log in to the portal, or have port {port} let through; if there is none, correct "
            "host{reload}."
        ),
    ),
    ConnectFault.TLS_EXPIRED: (
        "The certificate of {host}, or of its authority, has expired.",
        "Check the gateway's clock; if it is right, check port and the content of ca_file{reload}.",
    ),
    ConnectFault.TLS_NOT_YET_VALID: (
        "The certificate of {host} is not valid yet.",
        "Check the gateway's clock.",
    ),
    ConnectFault.TLS_NAME: (
        "The server does not know the name {host}.",
        "Check host: it must be the domain that the cloud gave to this instance{reload}.",
    ),
    ConnectFault.TLS_REJECTED: (
        "{host} does not accept the certificate that was shown.",
        "Check that the authority of the certificate is verified at the cloud.",
    ),
    ConnectFault.TLS_FAILED: (
        "The TLS handshake with {host} failed.",
        (
            "Check that port {port} speaks TLS 1.2 or newer, and that no captive portal answers "
            "there{reload}."
        ),
    ),
    ConnectFault.TLS_TIMEOUT: (
        "{host} did not answer the TLS handshake.",
        (
            "Check that port {port} speaks MQTT over TLS, and that connect_timeout is not too "
            "short{reload}."
        ),
    ),
    ConnectFault.WEBSOCKET_TIMEOUT: (
        "{host} did not answer the request for a WebSocket.",
        (
            "Check that port {port} speaks MQTT over WebSocket, and that connect_timeout is not "
            "too short{reload}."
        ),
    ),
    ConnectFault.WEBSOCKET_REFUSED: (
        "{host} port {port} offers no WebSocket for MQTT there.",
        "Check port and websocket_path, or set transport to tcp{reload}.",
    ),
    ConnectFault.MQTT_TIMEOUT: (
        "{host} did not answer the request.",
        (
            "If this lasts, check that port {port} speaks MQTT, and that reply_timeout is not too "
            "short{reload}."
        ),
    ),
    ConnectFault.MQTT_CLOSED: (
        "{host} closed the connection without an answer.",
        "If this lasts, check that port {port} speaks MQTT{reload}.",
    ),
    ConnectFault.MQTT_PROTOCOL: (
        "{host} answered with what is not MQTT.",
        "Check host and port {port}{reload}.",
    ),
}

ENDS: Mapping[ConnectionEnd, Reason] = {
    ConnectionEnd.OURS: Reason(ConnectionEnd.OURS, "gatewayd closed the session."),
    ConnectionEnd.CLOUD: Reason(
        ConnectionEnd.CLOUD,
        "The cloud closed the session: it may be restarting, or the device logged in elsewhere.",
    ),
    ConnectionEnd.LOST: Reason(
        ConnectionEnd.LOST, "The network connection was lost.", "Check the gateway's network."
    ),
    ConnectionEnd.KEEPALIVE: Reason(
        ConnectionEnd.KEEPALIVE, "The cloud stopped answering.", "Check the gateway's network."
    ),
    ConnectionEnd.REJECTED: Reason(
        ConnectionEnd.REJECTED,
        "The cloud does not accept the certificate of the device any more.",
        "Check the certificate and its authority at the cloud.",
    ),
    ConnectionEnd.PROTOCOL: Reason(
        ConnectionEnd.PROTOCOL,
        "The cloud sent what is not MQTT, or no server may send; the session was closed.",
        "Check host and port, then run gatewayctl reload; the log names what was sent.",
    ),
}
"""Why a session ended."""


RELOAD = "; then run gatewayctl reload"
"""What has a daemon read again what was corrected."""


def reason(fault: ConnectFault, host: str, tcp_port: int, reload: str = RELOAD) -> Reason:
    """Return why a step failed; `host` is from our own configuration.

    reload: what its remedy says after a correction of a file; "" where no daemon is to read it.
    """
    text, remedy = (one.format(host=host, port=tcp_port, reload=reload) for one in _NETWORK[fault])
    return Reason(fault, text, remedy)
