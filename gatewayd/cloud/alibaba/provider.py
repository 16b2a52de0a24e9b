"""Alibaba Cloud IoT Platform: each child takes the route that its rule names."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import ClassVar

from gatewayd.cloud.alibaba import https_registration, reasons
from gatewayd.cloud.alibaba.account import AlibabaAccount, connect_limit
from gatewayd.cloud.alibaba.commanding import commands
from gatewayd.cloud.alibaba.direct import DirectRoute, PreregisteredRoute
from gatewayd.cloud.alibaba.gateway import AlibabaGatewayRoute
from gatewayd.cloud.alibaba.preflight import preflight
from gatewayd.cloud.alibaba.preregistration_free import PreregistrationFreeRoute
from gatewayd.cloud.alibaba.settings import DEVICE_NAME, AlibabaGateway, AlibabaSettings
from gatewayd.cloud.alibaba.sub_device import (
    AlibabaSubDevices,
    KnownSecretRoute,
    ProductSecretRoute,
    RegisteredRoute,
)
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.outbound import proxy_of
from gatewayd.cloud.routed_provider import GATEWAY_ROUTE, RoutedProvider
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.result_codes import NO_GATEWAY
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.errors import ConfigError
from gatewayd.network import tls
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock

DEFAULT_ROUTE, FREE_ROUTE = "direct", "direct-preregistration-free"
FORMER_FREE_ROUTE = "direct-unlisted"
"""What FREE_ROUTE was called in earlier versions: children on record have come by it."""
SUB_DEVICE_ROUTES = frozenset({"sub-device", "sub-device-secret", "sub-device-known"})


class Alibaba(RoutedProvider):
    """One account.  Implements CloudProvider.

    name: the provider's name in the configuration.  read_secret: see cloud/credentials.py.
    random: so many bytes that cannot be guessed.  Raises ConfigError.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = AlibabaSettings
    preflight = staticmethod(preflight)
    is_answer = staticmethod(commands.is_answer)
    identifier_in = staticmethod(commands.identifier_in)
    is_success = staticmethod(commands.is_success)
    holdable: ClassVar[frozenset[str]] = frozenset(
        {"", DEFAULT_ROUTE, FREE_ROUTE, FORMER_FREE_ROUTE}
    )
    joint: ClassVar[frozenset[str]] = frozenset({GATEWAY_ROUTE, *SUB_DEVICE_ROUTES})

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
        super().__init__(name, DEFAULT_ROUTE)
        self._roots = [trust := tls.TrustStore(settings.ca_file)]
        limit, proxy = connect_limit(clock.now), proxy_of(settings, read_secret)
        self._account = AlibabaAccount(
            settings, read_secret, trust, random, limit, proxy=proxy, websocket=settings.websocket
        )
        self._children: AlibabaSubDevices | None = None
        direct = self._direct_route(clock)
        self._routes[DEFAULT_ROUTE] = direct
        self._routes[FREE_ROUTE] = self._routes[FORMER_FREE_ROUTE] = PreregistrationFreeRoute(
            self._account, clock.now
        )
        if settings.gateway is not None:
            self._add_gateway(settings.gateway, direct, clock)

    def _direct_route(self, clock: Clock) -> DirectRoute:
        account, settings = self._account, self._account.settings
        if not settings.explain:
            return PreregisteredRoute(account, clock.now)
        host = settings.https_host or https_registration.host_of(settings.region)
        self._roots.append(trust := tls.TrustStore(settings.https_ca_file))
        https = https_registration.HttpsRegistration(account, host, settings.https_port, trust)
        return https_registration.ExplainedRoute(account, clock.now, https)

    def _add_gateway(self, own: AlibabaGateway, direct: DirectRoute, clock: Clock) -> None:
        account = self._account
        children = AlibabaSubDevices(self.name, account.settings, own, GatewayLink(), clock)
        self.gateway_name = CloudName(self.name, own.product, own.device, GATEWAY_ROUTE)
        self._sub_devices = self._children = children
        self._routes |= {
            GATEWAY_ROUTE: AlibabaGatewayRoute(account, direct, children, clock.now),
            "sub-device": RegisteredRoute(account, children),
            "sub-device-secret": ProductSecretRoute(account, children),
            "sub-device-known": KnownSecretRoute(account, children),
        }

    def on_pending(self, name: CloudName) -> None:
        """Report to the cloud that a child waits for approval, where it is a sub-device."""
        if self._children is not None and name.route in SUB_DEVICE_ROUTES:
            self._children.on_pending(name)

    async def reread(self) -> None:
        """Have the trusted roots read again; secrets are, whenever they are needed."""
        for trust in self._roots:
            trust.release()

    def _no_route(self, name: CloudName) -> Reason:
        return NO_GATEWAY if name.route in SUB_DEVICE_ROUTES else reasons.NO_ROUTE


def _problems(settings: AlibabaSettings) -> Iterator[str]:
    yield from settings.problems()
    own = settings.gateway
    if own is not None and not DEVICE_NAME.fullmatch(own.device):
        yield f"gateway.device: {reasons.BAD_NAME.text}"
