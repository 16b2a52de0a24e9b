"""What the cloud's answers mean, and what an operator can do: tables.  Pure.

A CONNACK carries a code and no text, so where one has several causes the likely ones are listed.
Sources: "MQTT-based dynamic registration" and the return codes in "Establish MQTT connections
over TCP" of the documentation.  Code 5 in a registration is not documented; it was seen for
devices that are activated already.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.cloud import provider as port
from gatewayd.cloud.faults import SILENT, ConnectError, End, Fault
from gatewayd.device.reason import Reason

REGISTRATION: Mapping[int, port.Outcome] = {
    1: port.Refused(Reason(
        "cloud-protocol-refused",
        "The cloud does not speak MQTT 3.1.1.",
        "Check that host names an endpoint of Alibaba Cloud IoT Platform.",
    )),
    2: port.Refused(Reason(
        "cloud-request-refused",
        "The cloud finds a field of the request missing or malformed.",
        "Try the other securemode_register, 2 or -2, and check instance_id and sign_method.",
    )),
    3: port.Failed(Reason(
        "cloud-unavailable",
        "The cloud says that it cannot serve now.",
    )),
    4: port.Refused(Reason(
        "cloud-auth-failed",
        "The cloud does not accept this product secret with this device name; it says no more.",
        "Check the product secret, that the device name was created in the console, and that "
        "dynamic registration is on for the product; then call Retry.",
    )),
    5: port.Refused(Reason(
        "cloud-not-authorised",
        "The cloud does not let this device register: most likely it is activated already, "
        "or dynamic registration is off for the product.",
        "Reset the device at the cloud (ResetThing), or turn dynamic registration on in the "
        "console; then call Reregister.",
        substate="needs-reset",
    )),
}  # fmt: skip
"""Code of the CONNACK to a registration, to its outcome."""

LOGIN: Mapping[int, tuple[type[port.LoginError], Reason]] = {
    1: (port.LoginFailed, Reason(
        "cloud-protocol-refused",
        "The cloud does not speak MQTT 3.1.1.",
        "Check that host names an endpoint of Alibaba Cloud IoT Platform.",
    )),
    2: (port.LoginFailed, Reason(
        "cloud-request-refused",
        "The cloud finds the client id or its options malformed.",
        "Check sign_method, and that host belongs to the instance that holds the product.",
    )),
    3: (port.LoginFailed, Reason(
        "cloud-unavailable",
        "The cloud says that it cannot serve now.",
        "If this lasts, check keepalive: the cloud takes 30 to 1200 s.",
    )),
    4: (port.LoginRefused, Reason(
        "cloud-auth-failed",
        "The cloud does not accept this user name and password.",
        "Check that the device still exists at the cloud.",
        substate="credential-rejected",
    )),
    5: (port.LoginRefused, Reason(
        "cloud-not-authorised",
        "The cloud does not let this device in: its secret is not valid any more, or it was "
        "disabled or deleted at the cloud.",
        "Look at the device in the console: enable it, or reset it and call Reregister.",
        substate="credential-rejected",
    )),
}  # fmt: skip
"""Code of the CONNACK to a login, to what is raised.

Codes 1 and 2 say nothing against the secret: it must not count as stale for them.
"""

_NETWORK: Mapping[Fault, tuple[str, str]] = {
    Fault.TOO_OFTEN: (
        "This device has connected to {host} as often as the cloud allows in a minute.",
        "If this lasts, look why it comes and goes.",
    ),
    Fault.CA_FILE: (
        "The trusted root certificates cannot be read.",
        "Check ca_file: a PEM file that gatewayd may read.",
    ),
    Fault.DNS: (
        "The name {host} cannot be looked up.",
        "Check host, region and instance_id, and the gateway's DNS.",
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
        "Set ca_file to the endpoint's root certificate; no system has that of port 8883.",
    ),
    Fault.TLS_EXPIRED: (
        "The certificate of {host}, or of its authority, has expired.",
        "Check the gateway's clock; if it is right, check port and ca_file.",
    ),
    Fault.TLS_NOT_YET_VALID: (
        "The certificate of {host} is not valid yet.",
        "Check the gateway's clock.",
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
    End.PROTOCOL: Reason(End.PROTOCOL, "The cloud sent what is not MQTT; the session was closed."),
}  # fmt: skip
"""Why a session ended."""

NO_ROUTE = Reason(
    "route-not-available",
    "Its rule names a route that this cloud does not have, or that is not switched on.",
    "Correct 'route' in the rule, or switch the route on in the configuration.",
)

NO_PUSH = Reason(
    "cloud-no-secret",
    "The cloud accepted the request, and sent no secret in time.",
)
HUNG_UP = Reason(
    "cloud-hung-up",
    "The cloud accepted the request, and closed the connection before a secret came.",
)
BAD_PUSH = Reason(
    "cloud-bad-secret",
    "The cloud accepted the request, and sent no message that holds a secret for this child.",
    "If this lasts, ask the vendor: the log says how many messages came.",
)
BAD_NAME = Reason(
    "device-name-invalid",
    "The cloud takes device names of 4 to 32 letters, digits and - _ @ . : only.",
    "Extract another name in the rule that admits this child.",
)
NO_PRODUCT = Reason(
    "product-not-configured",
    "The product of this child is not configured for this cloud.",
    "Add it to the products of the cloud, or correct the rule.",
)


def no_product_secret(text: str) -> Reason:
    """Return why a product secret cannot be used; `text` names the file, and what to do."""
    return Reason("product-secret-unusable", text, "Put it right, then call Retry.")


def registration(error: ConnectError, host: str, tcp_port: int) -> port.Outcome:
    """Return how a registration ended that got no connection."""
    if error.fault is Fault.MQTT_REFUSED:
        return REGISTRATION[error.code]
    reason = network(error.fault, host, tcp_port)
    return port.Unknown(reason) if error.fault in SILENT else port.Failed(reason)


def login(error: ConnectError, host: str, tcp_port: int) -> port.LoginError:
    """Return what to raise for a login that got no connection."""
    if error.fault is Fault.MQTT_REFUSED:
        kind, reason = LOGIN[error.code]
        return kind(reason)
    return port.LoginFailed(network(error.fault, host, tcp_port))


def network(fault: Fault, host: str, tcp_port: int) -> Reason:
    """Return the reason of a step that failed; `host` is from our own configuration."""
    text, remedy = (one.format(host=host, port=tcp_port) for one in _NETWORK[fault])
    return Reason(fault, text, remedy)
