"""Alibaba Cloud IoT Platform: each child takes the route that its rule names."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import ClassVar

from gatewayd.cloud import tls
from gatewayd.cloud.alibaba import https_registration, payloads, reasons
from gatewayd.cloud.alibaba import reasons as child_reasons
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.direct import DirectRoute
from gatewayd.cloud.alibaba.gateway import AlibabaGatewayRoute
from gatewayd.cloud.alibaba.preflight import preflight
from gatewayd.cloud.alibaba.preregistration_free import PreregistrationFreeRoute
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaSettings
from gatewayd.cloud.alibaba.sub_device import KnownSecretRoute, ProductSecretRoute, RegisteredRoute
from gatewayd.cloud.alibaba.sub_devices import AlibabaSubDevices
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.provider import (
    CloudRequestHandler,
    KeepSecret,
    LoginError,
    LoginFailed,
    Outcome,
    Refused,
    Route,
    Session,
)
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.result_codes import NO_GATEWAY
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock

DEFAULT, OWN = "direct", "gateway"
SUB_DEVICE = frozenset({"sub-device", "sub-device-secret", "sub-device-known"})
SIGNED = frozenset({"direct", "direct-unlisted", "sub-device-secret"})
"""Routes that need the secret of the product."""


class Alibaba:
    """One account.  Implements CloudProvider.

    name: the provider's name in the configuration.
    read_secret: see cloud/credential.py.  random: so many bytes nobody can guess.
    Raises ConfigError.
    """

    Settings: ClassVar[type] = AlibabaSettings
    preflight = staticmethod(preflight)

    def __init__(
        self,
        name: str,
        settings: AlibabaSettings,
        read_secret: ReadSecret,
        random: Callable[[int], bytes] = secrets.token_bytes,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if problems := list(_problems(settings)):
            raise ConfigError("\n".join(f"cloud.{name}: {problem}" for problem in problems))
        self.name = name
        self.gateway_name: CloudName | None = None
        self._settings, self._read_secret, self._random = settings, read_secret, random
        self._trust = tls.TrustStore(settings.ca_file)
        self._children: AlibabaSubDevices | None = None
        self._direct = self._make_direct(clock)
        self._routes: dict[str, Route] = {
            DEFAULT: self._direct,
            "direct-unlisted": PreregistrationFreeRoute(
                settings, self._trust, read_secret, random,
                enabled=settings.unlisted, securemode=settings.securemode_unlisted,
            ),
        }  # fmt: skip
        if settings.gateway is not None:
            self._add_gateway(settings.gateway, clock)

    def _make_direct(self, clock: Clock) -> DirectRoute:
        settings, parts = self._settings, (self._trust, self._read_secret, self._random)
        if not settings.explain:
            return DirectRoute(settings, *parts, clock.now)
        host = settings.https_host or https_registration.host_of(settings.region)
        trust = tls.TrustStore(settings.https_ca_file)
        registration = https_registration.HttpsRegistration(
            settings, self._read_secret, self._random, host, settings.https_port, trust
        )
        return https_registration.ExplainedDirectRoute(settings, *parts, registration)

    def _add_gateway(self, own: AlibabaGateway, clock: Clock) -> None:
        settings, read_secret, link = (
            self._settings,
            self._read_secret,
            GatewayLink[AlibabaUplink](),
        )
        children = AlibabaSubDevices(self.name, settings, own, link, clock)
        self.gateway_name = CloudName(self.name, own.product, own.device, OWN)
        self._children = children
        self._routes |= {
            OWN: AlibabaGatewayRoute(
                settings, self._direct, link, self._trust, read_secret, clock.now
            ),
            "sub-device": RegisteredRoute(settings, children, read_secret),
            "sub-device-secret": ProductSecretRoute(settings, children, read_secret, self._random),
            "sub-device-known": KnownSecretRoute(settings, children, read_secret),
        }  # fmt: skip

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Tell somebody what the cloud asks for, from now on."""
        if self._children is not None:
            self._children.set_requests(requests)

    def on_pending(self, name: CloudName) -> None:
        """Tell the cloud that a child of this name waits for a yes."""
        if self._children is not None and name.route in SUB_DEVICE:
            self._children.on_pending(name)

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        route = self._routes.get(name.route or DEFAULT)
        if route is None:
            return _no_route(name)
        if not payloads.DEVICE_NAME.fullmatch(name.device):
            return reasons.BAD_NAME
        if (objection := route.check_name(name)) is not None:
            return objection
        product = self._settings.products.get(name.product)
        unsigned = product is not None and not product.has_secret
        if unsigned and (name.route or DEFAULT) in SIGNED:
            return child_reasons.NO_PRODUCT_SECRET
        return None

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the cloud could not be asked for this name now."""
        route = self._routes.get(name.route or DEFAULT)
        return await route.check_ready(name) if route else _no_route(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret."""
        if (objection := self.check_name(name)) is not None:
            return Refused(objection)
        outcome = await self._routes[name.route or DEFAULT].register(name, keep)
        if name.route == OWN:
            self._tell_children(getattr(outcome, "reason", None))
        return outcome

    def renew_at(self, _name: CloudName, _secret: Secret) -> float | None:
        """A secret of this cloud does not grow old."""
        return None

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""
        route = self._routes.get(name.route or DEFAULT)
        if route is None:
            raise LoginFailed(_no_route(name))
        if name.route != OWN or self._children is None:
            return await route.connect(name, secret)
        try:
            session = await route.connect(name, secret)
        except LoginError as error:
            self._tell_children(error.reason)
            raise
        self._children.look()
        return session

    async def unbind(self, name: CloudName) -> Reason | None:
        """Loosen what binds a child to this gateway at the cloud."""
        route = self._routes.get(name.route or DEFAULT)
        return await route.unbind(name) if route else None

    async def close(self) -> None:
        """Release what the routes hold."""
        if self._children is not None:
            await self._children.close()
        for route in self._routes.values():
            await route.close()
        self._trust.release()

    def _tell_children(self, ails: Reason | None) -> None:
        """Let the children say what ails the gateway."""
        if self._children is not None:
            self._children.tell(ails)


def _problems(settings: AlibabaSettings) -> list[str]:
    problems = list(settings.problems())
    own = settings.gateway
    if own is not None and not payloads.DEVICE_NAME.fullmatch(own.device):
        problems.append(f"gateway.device: {reasons.BAD_NAME.text}")
    return problems


def _no_route(name: CloudName) -> Reason:
    return NO_GATEWAY if name.route in SUB_DEVICE else reasons.NO_ROUTE
