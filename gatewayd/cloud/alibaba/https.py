"""Registration over HTTPS, which tells why it refuses: for the route "direct".

MQTT answers a registration with one of five numbers; HTTPS has a code for each cause.  It serves
pre-registered devices only, and by the newest page only those of the region Shanghai.  A success
issues a secret, so that asking is no mere diagnosis.
Source: "HTTPS-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gatewayd.cloud import http, network, tls
from gatewayd.cloud.alibaba import reasons
from gatewayd.cloud.alibaba.direct import Direct
from gatewayd.cloud.alibaba.https_answers import meaning, understand
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.signing import register_content, sign
from gatewayd.cloud.credential import ReadSecret
from gatewayd.cloud.faults import SILENT, ConnectError, Fault
from gatewayd.cloud.provider import Failed, Issued, Keep, Outcome, Refused, Unknown
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

PATH = "/auth/register/device"
PORT = 443

_RANDOM_BYTES = 8

VAGUE = frozenset({"cloud-auth-failed", "cloud-not-authorised"})
"""The refusals over MQTT that have several causes."""
CLEAR = frozenset(meaning(code).reason for code in (6100, 6288, 6289, 6600))
"""The refusals over HTTPS that explain one of those.  Others may say no more than that this host
does not serve the product."""

_SILENCE: Mapping[Fault, Reason] = {
    Fault.MQTT_TIMEOUT: Reason(
        Fault.MQTT_TIMEOUT, "The cloud did not answer the request over HTTPS."
    ),
    Fault.MQTT_CLOSED: Reason(
        Fault.MQTT_CLOSED, "The cloud closed the connection without an answer over HTTPS."
    ),
    Fault.MQTT_PROTOCOL: Reason(
        Fault.MQTT_PROTOCOL,
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
        trust: tls.Trust,
    ) -> None:
        self._settings, self._read_secret, self._random = settings, read_secret, random
        self._host, self._port, self._trust = host, port, trust

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
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

    def _not_connected(self, fault: Fault) -> Outcome:
        if fault in SILENT:
            return Unknown(_SILENCE[fault])
        return Failed(network.reason(fault, self._host, self._port))


class ExplainedDirect(Direct):
    """Direct, which asks over HTTPS where MQTT refuses and does not say why."""

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.Trust,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
        https: HttpsRegistration,
    ) -> None:
        super().__init__(settings, trust, read_secret, random)
        self._https = https

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
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
