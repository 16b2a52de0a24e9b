"""The route "direct-unlisted": direct devices that nobody has created at the cloud.

A registration creates the device, and issues a client id and a token instead of a secret.  The
vendor offers this under conditions, see `CONDITIONS`.  Sources: "MQTT-based dynamic registration"
and "Unique-certificate-per-product verification" of the IoT Platform documentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.alibaba import direct, payloads, reasons
from gatewayd.cloud.alibaba.direct import AlibabaAccount
from gatewayd.cloud.alibaba.payloads import client_id
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.signing import register_content, sign
from gatewayd.cloud.connect_errors import ConnectError, ConnectFault
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.mqtt import Login, MqttSession, ignore
from gatewayd.cloud.provider import KeepSecret, LoginRefused, Outcome, Refused
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

TOPICS = ("/ext/regnwl", "/ext/register")  # an older page has the second for both
MAX_CLIENT_ID, MAX_TOKEN = 256, 1024
"""Characters of what is issued; the vendor gives no limits, so that these are generous."""


CONDITIONS = (
    "The vendor takes unlisted devices on enterprise instances only, in some regions "
    "(Shanghai, by newer pages Beijing), of products with dynamic registration on, and at most "
    "five for each device name."
)

OFF = Reason(
    "route-switched-off",
    f"The route direct-unlisted is not switched on. {CONDITIONS}",
    "Switch it on with 'unlisted' in the configuration of this cloud, or correct the rule.",
)
BAD_GRANT = Reason(
    "secret-unusable",
    "What is kept for this device is no client id with a token.",
    "Call Reregister.",
    substate="credential-rejected",
)

REFUSALS: Mapping[int, Outcome] = {
    2: Refused(Reason(
        "cloud-request-refused",
        f"The cloud finds a field of the request missing, malformed or not allowed. {CONDITIONS}",
        "Try the other securemode_unlisted, 2 or -2, and check instance_id and sign_method.",
    )),
    4: Refused(Reason(
        "cloud-auth-failed",
        "The cloud does not accept this product secret, or takes no unlisted devices; it says no "
        f"more. {CONDITIONS}",
        "Check the product secret and these conditions; then call Retry.",
    )),
    5: Refused(Reason(
        "cloud-not-authorised",
        "The cloud does not let this device register: most likely five have this name already, "
        f"counting registrations whose answer was lost, or it is disabled. {CONDITIONS}",
        "Look at the device in the console: enable it, or delete it; then call Retry.",
        substate="needs-reset",
    )),
}  # fmt: skip
"""Code of the CONNACK to such a registration, to its outcome, where it is not that of others."""


class PreregistrationFreeRoute:
    """Implements Route.  What it keeps as the secret is JSON: {"clientId": …, "deviceToken": …}.

    trust, read_secret, random: as Account has them.
    enabled: whether the operator has switched the route on.
    securemode: -2 by the vendor's table, 2 by its own programs.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        *,
        enabled: bool,
        securemode: int = -2,
    ) -> None:
        self._settings, self._account = (
            settings,
            AlibabaAccount(settings, trust, read_secret, random),
        )
        self._enabled, self._securemode = enabled, securemode

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        if not self._enabled:
            return OFF
        return None if name.product in self._settings.products else reasons.NO_PRODUCT

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Nothing is needed but the cloud itself."""
        return None

    async def unbind(self, _: CloudName) -> Reason | None:
        """Nothing binds a direct device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for a client id and a token, as Route says.

        Each time counts as one more device of this name, of which the cloud takes five.
        """
        try:
            login = await self._request(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        parse = partial(parse_grant, name=name)
        try:
            server = await self._account.server(name)
            return await direct.receive(server, login, self._settings.keepalive, parse, keep)
        except ConnectError as error:
            return refusal(error, *self._account.endpoint(name))

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed."""
        login = connect_login(name, secret)
        if login is None:
            raise LoginRefused(BAD_GRANT)
        try:
            server = await self._account.server(name)
            return MqttSession(
                await mqtt.open_connection(server, login, self._settings.keepalive, ignore)
            )
        except ConnectError as error:
            raise reasons.login(error, *self._account.endpoint(name)) from error

    async def close(self) -> None:
        """Nothing is held: sessions belong to whoever opened them."""

    async def _request(self, name: CloudName) -> Login:
        secret, random = await self._account.product_secret(name), self._account.nonce()
        return register_login(name, secret, self._settings, random, self._securemode)


def register_login(
    name: CloudName, secret: Secret, settings: AlibabaSettings, random: str, securemode: int
) -> Login:
    """Return what a CONNECT says to register.  secret: the productSecret.  Pure."""
    method = settings.sign_method
    options = f"securemode={securemode},authType=regnwl,random={random},signmethod={method}"
    if settings.instance_id:
        options += f",instanceId={settings.instance_id}"
    password = sign(method, secret, register_content(name, random)).encode()
    return _login(name, client_id(name), options, password)


def connect_login(name: CloudName, secret: Secret) -> Login | None:
    """Return what a CONNECT says to log in; None if the secret is none of this route.  Pure.

    The token is the password as it is: nothing is signed.
    """
    told = payloads.load(secret.reveal())
    client, token = _grant(told)
    if not client or told.keys() != {"clientId", "deviceToken"}:
        return None
    return _login(name, client, "authType=connwl,securemode=-2", token.encode())


def parse_grant(topic: str, payload: bytes, name: CloudName) -> Secret | None:
    """Return what was issued to this device, as it is kept; None for any other message.  Pure."""
    if topic not in TOPICS:
        return None
    told = payloads.load(payload)
    client, token = _grant(told)
    if not client or not payloads.names(told, name):
        return None
    return Secret(json.dumps({"clientId": client, "deviceToken": token}).encode())


def refusal(error: ConnectError, host: str, port: int) -> Outcome:
    """Return how a registration ended that got no connection.  Pure."""
    if error.fault is ConnectFault.MQTT_REFUSED and error.code in REFUSALS:
        return REFUSALS[error.code]
    return reasons.registration(error, host, port)


def _grant(told: Mapping[str, object]) -> tuple[str, str]:
    """Return client id and token, both "" where one is missing or cannot be sent."""
    client = payloads.word(told, "clientId", MAX_CLIENT_ID)
    token = payloads.word(told, "deviceToken", MAX_TOKEN)
    return (client, token) if client and token and "|" not in client else ("", "")


def _login(name: CloudName, client: str, options: str, password: bytes) -> Login:
    return Login(f"{client}|{options}|", f"{name.device}&{name.product}", Secret(password))
