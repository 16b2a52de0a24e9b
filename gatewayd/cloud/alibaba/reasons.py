"""Why a child cannot be registered or logged in, and what an operator can do: tables.  Pure.

A CONNACK carries a code and no text, so where one has several causes the likely ones are listed.
Sources: "MQTT-based dynamic registration", the return codes in "Establish MQTT connections over
TCP", "Register sub-devices" (on the node type) and "Manage endpoints" of the documentation.  Code 5
in a registration is not documented; it was seen for devices that are activated already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from gatewayd.cloud import provider as port
from gatewayd.device.reason import Reason
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import SILENT, ConnectError, ConnectFault

NoSecret: TypeAlias = port.Refused | port.Failed | port.Unknown
"""How a registration ended that brought nothing."""

NODE_TYPE = (
    "Check the product's node type in the console: for a gateway sub-device the rule must name a "
    "route sub-device; the default route, direct, is for directly connected devices.  After a "
    "correction of a file, run gatewayctl reload."
)
"""The commonest mistake, which the cloud does not name."""

REGISTRATION: Mapping[int, port.Refused | port.Failed] = {
    1: port.Refused(Reason(
        "cloud-protocol-refused",
        "The cloud does not speak MQTT 3.1.1.",
        "Check that host names an endpoint of Alibaba Cloud IoT Platform; then run gatewayctl "
        "reload.",
    )),
    2: port.Refused(Reason(
        "cloud-request-refused",
        "The cloud finds a field of the request missing or malformed.",
        "Try the other securemode_register, 2 or -2, and check instance_id and sign_method; then "
        "run gatewayctl reload.",
    )),
    3: port.Failed(Reason(
        "cloud-unavailable",
        "The cloud is not available now.",
    )),
    4: port.Refused(Reason(
        "cloud-auth-failed",
        "The cloud does not accept this product secret with this device name; it does not say why.",
        f"{NODE_TYPE}  Check also {{secret}}, that the device name was created in the console, "
        "that dynamic registration is on for the product, and that {host} is the endpoint of its "
        "region and instance; then run gatewayctl retry CHILD.",
    )),
    5: port.Refused(Reason(
        "cloud-not-authorised",
        "The cloud does not let this device register: most likely it is already activated, "
        "or dynamic registration is off for the product, or its devices are gateway sub-devices.",
        "Reset the device at the cloud (ResetThing), or turn dynamic registration on in the "
        f"console; then run gatewayctl reregister CHILD CHILD.  {NODE_TYPE}",
        substate="needs-reset",
    )),
}  # fmt: skip
"""Code of the CONNACK to a registration, to its outcome."""

LOGIN: Mapping[int, tuple[type[port.LoginError], Reason]] = {
    1: (port.LoginFailed, Reason(
        "cloud-protocol-refused",
        "The cloud does not speak MQTT 3.1.1.",
        "Check that host names an endpoint of Alibaba Cloud IoT Platform; then run gatewayctl "
        "reload.",
    )),
    2: (port.LoginFailed, Reason(
        "cloud-request-refused",
        "The cloud finds the client id or its options malformed.",
        "Check sign_method, and that host belongs to the instance that holds the product; then run "
        "gatewayctl reload.",
    )),
    3: (port.LoginFailed, Reason(
        "cloud-unavailable",
        "The cloud is not available now.",
        "If this lasts, check keepalive, of which the cloud takes 30 to 1200 s; then run "
        "gatewayctl reload.",
    )),
    4: (port.LoginRefused, Reason(
        "cloud-auth-failed",
        "The cloud does not accept this user name and password.",
        "Check that the device still exists at the cloud, and that {host} is the endpoint of its "
        f"region and instance.  {NODE_TYPE}",
        substate="credential-rejected",
    )),
    5: (port.LoginRefused, Reason(
        "cloud-not-authorised",
        "The cloud does not accept this login: the secret is no longer valid, or the device was "
        "disabled or deleted at the cloud, or {host} is of another region or instance, or the "
        "devices of this product are gateway sub-devices.",
        "Check the device in the console: enable it, or reset it and run gatewayctl reregister "
        "CHILD CHILD.  Check also "
        f"host, region and instance_id.  {NODE_TYPE}",
        substate="credential-rejected",
    )),
}  # fmt: skip
"""Code of the CONNACK to a login, to what is raised.

Codes 1 and 2 do not concern the secret: it must not count as stale for them.
"""

NO_ROUTE = Reason(
    "route-not-available",
    "The rule names a route that this cloud does not have, or that is not switched on.",
    "Correct 'route' in the rule, or switch the route on in the configuration; then run gatewayctl "
    "reload.",
)

NO_PUSH = Reason(
    "cloud-no-secret",
    "The cloud accepted the request, but sent no secret in time.",
)
HUNG_UP = Reason(
    "cloud-hung-up",
    "The cloud accepted the request, but closed the connection before it sent a secret.",
)
BAD_PUSH = Reason(
    "cloud-bad-secret",
    "The cloud accepted the request, but sent no message with a secret for this child.",
    "If this lasts, ask the vendor; the log has the number of messages.",
)
BAD_NAME = Reason(
    "device-name-invalid",
    "The cloud accepts device names of 4 to 32 letters, digits and - _ @ . : only.",
    "Extract another name in the rule that admits this child, then run gatewayctl reload.",
)
CLIENT_ID_TOO_LONG = Reason(
    "client-id-too-long",
    "The client id of this child would have more than 64 characters, which the cloud refuses.",
    "Shorten client_id of the cloud, as to {device}, and restart gatewayd.",
)
NO_PRODUCT = Reason(
    "product-not-configured",
    "The product of this child is not configured for this cloud.",
    "Add it to the products of the cloud, or correct the rule; then run gatewayctl reload.",
)
NO_PRODUCT_SECRET = Reason(
    "product-secret-missing",
    "This route signs with the product's secret, which is not configured.",
    "Set secret_credential or secret_file of the product, or name another route in the rule; then "
    "run gatewayctl reload.",
)
NO_DEVICE_SECRETS = Reason(
    "device-secret-missing",
    "The secrets of this product's devices are not configured.",
    "Set device_credentials or device_directory of the product, then run gatewayctl reload.",
)
MISSING_FROM_REPLY = Reason(
    "cloud-bad-secret",
    "The cloud accepted the request, but its reply holds no secret for this child.",
    "If this lasts, check the device in the console.",
)


def registration(
    error: ConnectError, host: str, tcp_port: int, place: str = "the product secret"
) -> NoSecret:
    """Return how a registration ended that got no connection.  place: of the product secret."""
    if error.fault is ConnectFault.MQTT_REFUSED:
        outcome = REGISTRATION[error.code]
        return replace(outcome, reason=_filled(outcome.reason, host=host, secret=place))
    reason = connect_errors.reason(error.fault, host, tcp_port)
    return port.Unknown(reason) if error.fault in SILENT else port.Failed(reason)


def login(error: ConnectError, host: str, tcp_port: int) -> port.LoginError:
    """Return what to raise for a login that got no connection."""
    if error.fault is ConnectFault.MQTT_REFUSED:
        kind, reason = LOGIN[error.code]
        return kind(_filled(reason, host=host))
    return port.LoginFailed(connect_errors.reason(error.fault, host, tcp_port))


def _filled(reason: Reason, **facts: str) -> Reason:
    """Fill in facts from our own configuration."""
    text, remedy = reason.text.format(**facts), reason.remedy.format(**facts)
    return replace(reason, text=text, remedy=remedy)


def no_product_secret(text: str) -> Reason:
    """Return why a product secret cannot be used; `text` names the file, and what to do."""
    return Reason("product-secret-unusable", text, "Correct this, then run gatewayctl reload.")


def no_device_secret(text: str) -> Reason:
    """Return why a device secret cannot be used; `text` names the file, and what to do."""
    return Reason("device-secret-unusable", text, "Correct this, then run gatewayctl reload.")
