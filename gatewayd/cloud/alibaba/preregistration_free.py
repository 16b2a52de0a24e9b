"""Direct devices that were not created at the cloud before: preregistration-free.

A registration creates the device, and issues a client id and a token instead of a secret.  The
vendor offers this under conditions, see `CONDITIONS`.  Sources: "MQTT-based dynamic registration"
and "Unique-certificate-per-product verification" of the IoT Platform documentation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.direct import DirectRoute
from gatewayd.cloud.alibaba.payloads import register_content, sign
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.mqtt import Login
from gatewayd.cloud.provider import LoginRefused, Refused
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network.connect_errors import ConnectError, ConnectFault

TOPICS = ("/ext/regnwl", "/ext/register")  # an older page has the second for both
MAX_CLIENT_ID, MAX_TOKEN = 256, 1024
"""Characters of what is issued; the vendor gives no limits, so that these are generous."""


CONDITIONS = (
    "The vendor registers such devices on enterprise instances only, in some regions "
    "(Shanghai, by newer pages Beijing), of products of directly connected devices with dynamic "
    "registration on, and at most five for each device name."
)

SWITCHED_OFF = Reason(
    "route-switched-off",
    f"The route direct-preregistration-free is not switched on. {CONDITIONS}",
    "Set preregistration_free = true in the configuration of this cloud, or correct the rule; then "
    "run gatewayctl reload.",
)
BAD_GRANT = Reason(
    "secret-unusable",
    "The stored secret of this device is not a client id with a token.",
    "Run gatewayctl reregister CHILD CHILD.",
    substate="credential-rejected",
)

REFUSALS: Mapping[int, Refused] = {
    2: Refused(Reason(
        "cloud-request-refused",
        f"The cloud finds a field of the request missing, malformed or not allowed. {CONDITIONS}",
        "Try the other securemode_preregistration_free, 2 or -2, and check instance_id and "
        "sign_method; then run gatewayctl reload.",
    )),
    4: Refused(Reason(
        "cloud-auth-failed",
        "The cloud does not accept this product secret, or does not register devices that were "
        f"not created before; it does not say which. {CONDITIONS}",
        "Check the product secret and these conditions; then run gatewayctl retry CHILD.",
    )),
    5: Refused(Reason(
        "cloud-not-authorised",
        "The cloud does not let this device register: most likely five have this name already, "
        f"counting registrations whose answer was lost, or it is disabled. {CONDITIONS}",
        "Look at the device in the console: enable it, or delete it; then run gatewayctl retry "
        "CHILD.",
        substate="needs-reset",
    )),
}  # fmt: skip
"""Code of the CONNACK to such a registration, to its outcome, where it is not that of others."""


class PreregistrationFreeRoute(DirectRoute):
    """The route "direct-preregistration-free": a registration creates the device.

    What it keeps as the secret is JSON: {"clientId": …, "deviceToken": …}.  Each registration
    counts as one more device of this name, of which the cloud takes five.
    """

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        return super().check_name(name) if self._settings.preregistration_free else SWITCHED_OFF

    def _register_login(self, name: CloudName, secret: Secret, nonce: str) -> Login:
        return register_login(name, secret, self._settings, nonce)

    def _connect_login(self, name: CloudName, secret: Secret) -> Login:
        login = connect_login(name, secret)
        if login is None:
            raise LoginRefused(BAD_GRANT)
        return replace(login, clean_session=self._settings.clean_session)

    def _parse_push(self, topic: str, payload: bytes, name: CloudName) -> Secret | None:
        return parse_grant(topic, payload, name)

    def _refusal(self, error: ConnectError, name: CloudName) -> reasons.NoSecret:
        refused = error.fault is ConnectFault.MQTT_REFUSED
        known = REFUSALS.get(error.code) if refused else None
        return known or super()._refusal(error, name)


def register_login(
    name: CloudName, secret: Secret, settings: AlibabaSettings, random: str
) -> Login:
    """Return what a CONNECT says to register.  secret: the productSecret.  Pure.

    The securemode is -2 by the vendor's table, 2 by its own programs.
    """
    method, securemode = settings.sign_method, settings.securemode_preregistration_free
    options = f"securemode={securemode},authType=regnwl,random={random},signmethod={method}"
    if settings.instance_id:
        options += f",instanceId={settings.instance_id}"
    password = sign(method, secret, register_content(name, random)).encode()
    return _login(name, payloads.client_id_of(name, settings), options, password)


def connect_login(name: CloudName, secret: Secret) -> Login | None:
    """Return what a CONNECT says to log in; None if the secret is none of this route.  Pure.

    The token is the password as it is: nothing is signed.
    """
    fields = payloads.load(secret.reveal())
    client, token = _grant(fields)
    if not client or fields.keys() != {"clientId", "deviceToken"}:
        return None
    options = {"authType": "connwl", "securemode": "-2", **payloads.RRPC}
    joined = ",".join(f"{key}={value}" for key, value in options.items())
    return _login(name, client, joined, token.encode())


def parse_grant(topic: str, payload: bytes, name: CloudName) -> Secret | None:
    """Return what was issued to this device, as it is kept; None for any other message.  Pure."""
    if topic not in TOPICS:
        return None
    fields = payloads.load(payload)
    client, token = _grant(fields)
    if not client or not payloads.names(fields, name):
        return None
    return Secret(json.dumps({"clientId": client, "deviceToken": token}).encode())


def _grant(fields: Mapping[str, object]) -> tuple[str, str]:
    """Return client id and token, both "" where one is missing or cannot be sent."""
    client = payloads.word(fields, "clientId", MAX_CLIENT_ID)
    token = payloads.word(fields, "deviceToken", MAX_TOKEN)
    return (client, token) if client and token and "|" not in client else ("", "")


def _login(name: CloudName, client: str, options: str, password: bytes) -> Login:
    return Login(f"{client}|{options}|", f"{name.device}&{name.product}", Secret(password))
