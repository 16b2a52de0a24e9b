"""Registration over HTTPS, whose replies say why it was refused: for the route "direct".

MQTT answers a registration with one of five numbers; HTTPS has a code for each cause.  It serves
pre-registered devices only, and by the newest page only those of the region Shanghai.  A success
issues a secret, so that asking is no mere diagnosis.
Source: "HTTPS-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from gatewayd.cloud import http
from gatewayd.cloud.alibaba import alink, payloads, reasons, result_codes
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.direct import PreregisteredRoute
from gatewayd.cloud.alibaba.payloads import register_content, sign
from gatewayd.cloud.paho_socket import MAY_SEND
from gatewayd.cloud.provider import Failed, Issued, KeepSecret, Outcome, Refused, Unknown
from gatewayd.cloud.sub_devices.result_codes import ResultKind, ResultMeaning
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network import connect_errors, tls
from gatewayd.network.connect_errors import SILENT, ConnectError, ConnectFault
from gatewayd.network.http_response import HttpResponse

log = logging.getLogger(__name__)

DONE = 200
LATER = frozenset({ResultKind.TRANSIENT, ResultKind.UNKNOWN})
"""Kinds of codes after which the outcome is Failed: another try may help."""

_MAX_CODE = 999_999

BROKEN = Unknown(Reason(
    "cloud-broken-answer",
    "The reply of the cloud over HTTPS holds neither a secret for this child nor an error code.",
    "If this lasts, ask the vendor; or correct the host of the registration over HTTPS, then run "
    "gatewayctl reload.",
))  # fmt: skip
ELSEWHERE = Refused(Reason(
    "cloud-elsewhere",
    "The server does not register devices: it refuses the address of the request.",
    "Check the host of the registration over HTTPS; then run gatewayctl reload.",
))  # fmt: skip


def meaning_of(code: int) -> ResultMeaning:
    """Return what a code means here: the request is signed as that for a sub-device's product."""
    return result_codes.reason(code, alink.PRODUCT_REGISTER)


def parse_response(response: HttpResponse, name: CloudName) -> Secret | Outcome:
    """Return the secret that was issued, or how the registration ended.

    The code counts, whatever the status is.  Without one, a status says that the request was not
    acted upon (RFC 9110, 15.4, 15.5), or it is not known whether it was.
    """
    reply = payloads.load(response.body)
    code = _code(reply.get("code"))
    if code is None:
        return _by_status(response.status)
    if code == DONE:
        return _secret(reply.get("data"), name) or BROKEN
    meaning = meaning_of(code)
    if meaning.kind is ResultKind.UNKNOWN:
        log.warning("The cloud answered a registration with the code %d.", code)
    return Failed(meaning.reason) if meaning.kind in LATER else Refused(meaning.reason)


def _secret(data: object, name: CloudName) -> Secret | None:
    if not isinstance(data, dict) or not payloads.names(data, name):
        return None
    word = payloads.word(data, "deviceSecret")
    return Secret(word.encode()) if word else None


def _code(sent: object) -> int | None:
    """Return a code that was sent as a number or as text."""
    if isinstance(sent, str) and sent.isascii() and sent.isdigit() and len(sent) < len("1000000"):
        sent = int(sent)
    return sent if type(sent) is int and 0 <= sent <= _MAX_CODE else None


def _by_status(status: int) -> Outcome:
    match status, status // 100:  # RFC 9110, 15: the first digit is the class
        case 408 | 425 | 429, _:
            return Failed(meaning_of(429).reason)
        case _, 3 | 4:
            return ELSEWHERE
    return BROKEN


PATH = "/auth/register/device"
PORT = 443

VAGUE = frozenset({"cloud-auth-failed", "cloud-not-authorised"})
"""Codes of refusals over MQTT that have several causes."""
CLEAR = frozenset(meaning_of(code).reason for code in (6100, 6288, 6289, 6600))
"""Reasons of refusals over HTTPS that explain one of those.  Others may mean only that this host
does not serve the product."""

_SILENCE: Mapping[ConnectFault, Reason] = {
    ConnectFault.MQTT_TIMEOUT: Reason(
        ConnectFault.MQTT_TIMEOUT, "The cloud did not answer the request over HTTPS."
    ),
    ConnectFault.MQTT_CLOSED: Reason(
        ConnectFault.MQTT_CLOSED, "The cloud closed the connection without an answer over HTTPS."
    ),
    ConnectFault.MQTT_PROTOCOL: Reason(
        ConnectFault.MQTT_PROTOCOL,
        "The cloud answered with what is not HTTP.",
        "Check the host of the registration over HTTPS; then run gatewayctl reload.",
    ),
}


def host_of(region: str) -> str:
    """Return the host that registers the devices of a region; "" without one.

    Only that of cn-shanghai is in today's documentation, others are in the vendor's C SDK.
    """
    return f"iot-auth.{region}.aliyuncs.com" if region else ""


class HttpsRegistration:
    """The client of the registration over HTTPS.

    trust: the roots of that host, which has another certificate than MQTT's port 8883; released by
    its owner.
    """

    def __init__(
        self, account: AlibabaAccount, host: str, port: int, trust: tls.TrustStore
    ) -> None:
        self._account, self._host, self._port, self._trust = account, host, port, trust

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret, as Route says."""
        try:
            secret = await self._account.product_secret(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        form = form_of(name, secret, self._account.settings.sign_method, self._account.nonce())
        try:
            server = await self._account.server_at(self._host, self._port, self._trust)
            async with http.post_form(server, PATH, form, MAY_SEND.get()) as response:
                result = parse_response(response, name)
                if isinstance(result, Secret):
                    await keep(result)
                    return Issued()
                return result
        except ConnectError as error:
            return self._not_connected(error.fault)

    def _not_connected(self, fault: ConnectFault) -> Outcome:
        if fault in SILENT:
            return Unknown(_SILENCE[fault])
        return Failed(connect_errors.reason(fault, self._host, self._port))


class ExplainedRoute(PreregisteredRoute):
    """The route "direct" that asks over HTTPS where MQTT refuses and does not say why."""

    def __init__(
        self, account: AlibabaAccount, now: Callable[[], float], https: HttpsRegistration
    ) -> None:
        super().__init__(account, now)
        self._https = https

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret; a second time if the refusal is vague.

        The second may issue the secret.  Where it is no clearer, the first stands.
        """
        outcome = await super().register(name, keep)
        if not isinstance(outcome, Refused) or outcome.reason.code not in VAGUE:
            return outcome
        explained = await self._https.register(name, keep)
        if isinstance(explained, Issued | Unknown) or explained.reason in CLEAR:
            return explained
        return outcome


def form_of(name: CloudName, secret: Secret, method: str, random: str) -> Mapping[str, str]:
    """Return what is sent.  secret: the productSecret.  Pure."""
    return {
        "productKey": name.product,
        "deviceName": name.device,
        "random": random,
        "sign": sign(method, secret, register_content(name, random)),
        "signMethod": method,
    }
