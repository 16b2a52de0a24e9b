"""Registration over HTTPS, which tells why it refuses: for the route "direct".

MQTT answers a registration with one of five numbers; HTTPS has a code for each cause.  It serves
pre-registered devices only, and by the newest page only those of the region Shanghai.  A success
issues a secret, so that asking is no mere diagnosis.
Source: "HTTPS-based dynamic registration" of the IoT Platform documentation.

What the cloud answers to a registration over HTTPS, and what that means.  Pure.

Source: "HTTPS-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from gatewayd.cloud import connect_errors, http, tls
from gatewayd.cloud.alibaba import payloads, reasons, result_codes, topics
from gatewayd.cloud.alibaba.direct import DirectRoute
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.signing import register_content, sign
from gatewayd.cloud.connect_errors import SILENT, ConnectError, ConnectFault
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.http import HttpResponse
from gatewayd.cloud.provider import Failed, Issued, KeepSecret, Outcome, Refused, Unknown
from gatewayd.cloud.sub_devices.result_codes import ResultKind, ResultMeaning
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

log = logging.getLogger(__name__)

DONE = 200
LATER = frozenset({ResultKind.TRANSIENT, ResultKind.UNKNOWN})
"""What is worth another try."""

_MAX_CODE = 999_999

BROKEN = Unknown(Reason(
    "cloud-broken-answer",
    "The cloud answered over HTTPS, and neither issued a secret for this child nor said why not.",
    "If this lasts, check the host of the registration over HTTPS, and ask the vendor.",
))  # fmt: skip
ELSEWHERE = Refused(Reason(
    "cloud-elsewhere",
    "The server does not register devices: it refuses the address of the request.",
    "Check the host of the registration over HTTPS.",
))  # fmt: skip


def meaning_of(code: int) -> ResultMeaning:
    """Return what a code means here: the request is signed as that for a sub-device's product."""
    return result_codes.reason(code, topics.PRODUCT_REGISTER)


def understand(answer: HttpResponse, name: CloudName) -> Secret | Outcome:
    """Return the secret that was issued, or how the registration ended.

    The code counts, whatever the status is.  Without one, a status says that the request was not
    acted upon (RFC 9110, 15.4, 15.5), or it is not known whether it was.
    """
    told = payloads.load(answer.body)
    code = _code(told.get("code"))
    if code is None:
        return _by_status(answer.status)
    if code == DONE:
        return _secret(told.get("data"), name) or BROKEN
    meaning = meaning_of(code)
    if meaning.kind is ResultKind.UNKNOWN:
        log.warning("The cloud answered a registration with the code %d.", code)
    return Failed(meaning.reason) if meaning.kind in LATER else Refused(meaning.reason)


def _secret(data: object, name: CloudName) -> Secret | None:
    if not isinstance(data, dict) or not payloads.names(data, name):
        return None
    word = payloads.word(data, "deviceSecret")
    return Secret(word.encode()) if word else None


def _code(told: object) -> int | None:
    """Return a code that was sent as a number or as text."""
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) < len("1000000"):
        told = int(told)
    return told if type(told) is int and 0 <= told <= _MAX_CODE else None


def _by_status(status: int) -> Outcome:
    match status:
        case 408 | 425 | 429:
            return Failed(meaning_of(429).reason)
        case status if 300 <= status < 500:  # noqa: PLR2004  # the classes of RFC 9110, 15
            return ELSEWHERE
    return BROKEN


PATH = "/auth/register/device"
PORT = 443

_RANDOM_BYTES = 8

VAGUE = frozenset({"cloud-auth-failed", "cloud-not-authorised"})
"""The refusals over MQTT that have several causes."""
CLEAR = frozenset(meaning_of(code).reason for code in (6100, 6288, 6289, 6600))
"""The refusals over HTTPS that explain one of those.  Others may say no more than that this host
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
        "Check the host of the registration over HTTPS.",
    ),
}


def host_of(region: str) -> str:
    """Return the host that registers the devices of a region; "" without one.

    Only that of cn-shanghai is in today's documentation, others are in the vendor's C SDK.
    """
    return f"iot-auth.{region}.aliyuncs.com" if region else ""


class HttpsRegistration:
    """Registers devices over HTTPS.

    read_secret, random: as of Direct.  host, port: where.  trust: the roots of that host, which
    has another certificate than MQTT's port 8883; released by whoever made it.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        host: str,
        port: int,
        trust: tls.TrustStore,
    ) -> None:
        self._settings, self._read_secret, self._random = settings, read_secret, random
        self._host, self._port, self._trust = host, port, trust

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret, as Route says."""
        try:
            form = await self._form(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        try:
            async with http.post_form(await self._server(), PATH, form) as answer:
                made = understand(answer, name)
                if isinstance(made, Secret):
                    await keep(made)
                    return Issued()
                return made
        except ConnectError as error:
            return self._not_connected(error.fault)

    async def _form(self, name: CloudName) -> Mapping[str, str]:
        product = self._settings.products[name.product]
        secret = await asyncio.to_thread(
            self._read_secret, product.secret_credential, product.secret_file
        )
        return form_of(name, secret, self._settings.sign_method, self._random(_RANDOM_BYTES).hex())

    async def _server(self) -> tls.Server:
        settings, context = self._settings, await self._trust.context()
        return tls.Server(
            self._host, self._port, context, settings.connect_timeout, settings.reply_timeout
        )

    def _not_connected(self, fault: ConnectFault) -> Outcome:
        if fault in SILENT:
            return Unknown(_SILENCE[fault])
        return Failed(connect_errors.reason(fault, self._host, self._port))


class ExplainedDirectRoute(DirectRoute):
    """Direct, which asks over HTTPS where MQTT refuses and does not say why."""

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.TrustStore,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        https: HttpsRegistration,
    ) -> None:
        super().__init__(settings, trust, read_secret, random)
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
