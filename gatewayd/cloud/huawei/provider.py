"""Huawei Cloud IoTDA: each child takes the route that its rule names."""

from __future__ import annotations

from typing import ClassVar

from gatewayd.cloud import tls
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei import settings as names
from gatewayd.cloud.huawei.certificate import CertificateRoute
from gatewayd.cloud.huawei.gateway import HuaweiGatewayRoute
from gatewayd.cloud.huawei.login import SecretLogin
from gatewayd.cloud.huawei.preflight import preflight
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.sub_device import HuaweiSubDeviceRoute
from gatewayd.cloud.huawei.sub_devices import HuaweiSubDevices
from gatewayd.cloud.provider import (
    CertificateIssuer,
    CloudRequestHandler,
    KeepSecret,
    LoginFailed,
    Outcome,
    ProviderStatus,
    Refused,
    Route,
    Session,
)
from gatewayd.cloud.sub_devices.result_codes import NO_GATEWAY
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock

DEFAULT, OWN, SUB_DEVICE = "certificate", "gateway", "sub-device"


class Huawei:
    """One instance.  Implements CloudProvider, Introducing, Reporting and Issuing.

    name: the provider's name in the configuration.
    read_secret: see cloud/credential.py.
    issuer: what issues the devices' certificates; None where there is no self-registration.
    Blocks: reads the template.  Raises ConfigError.
    """

    Settings: ClassVar[type] = HuaweiSettings
    preflight = staticmethod(preflight)

    def __init__(
        self,
        name: str,
        settings: HuaweiSettings,
        read_secret: ReadSecret,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if problems := list(settings.problems()):
            raise ConfigError("\n".join(f"cloud.{name}: {problem}" for problem in problems))
        self.name = name
        self.gateway_name: CloudName | None = None
        self.issuer: CertificateIssuer | None = None
        self._settings, self._read_secret = settings, read_secret
        self._trust = tls.TrustStore(settings.ca_file)
        self._certificate: CertificateRoute | None = None
        self._children: HuaweiSubDevices | None = None
        self._routes: dict[str, Route] = {}
        if settings.certificates is not None:
            authority = AuthorityStore(clock.timestamp)
            self._certificate = self.issuer = CertificateRoute(
                settings, settings.certificates, authority, clock.timestamp
            )
            self._routes[DEFAULT] = self._certificate
        if settings.gateway is not None:
            self._add_gateway(settings.gateway, clock)

    def _add_gateway(self, own: HuaweiGateway, clock: Clock) -> None:
        settings = self._settings
        self._children = children = HuaweiSubDevices(self.name, settings, own, clock)
        self.gateway_name = CloudName(self.name, own.product, own.device, OWN)
        self._routes[SUB_DEVICE] = HuaweiSubDeviceRoute(children)
        if own.login == "secret":
            secret = SecretLogin(settings, own, self._trust, self._read_secret, clock.timestamp)
            self._routes[OWN] = HuaweiGatewayRoute(settings, children, secret, secret.open)
        else:
            certificate = self._certificate
            assert certificate is not None, "the settings have no problem"
            self._routes[OWN] = HuaweiGatewayRoute(
                settings, children, certificate, certificate.login.open
            )

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Tell somebody what the cloud asks for, from now on."""
        if self._children is not None:
            self._children.set_requests(requests)

    def on_pending(self, name: CloudName) -> None:
        """The platform does not want to know who waits for a yes."""

    def status(self) -> ProviderStatus:
        """Return when the CA ends that the devices' certificates depend on."""
        end = self.issuer.authority.expiry() if self.issuer else None
        return ProviderStatus(certificate_expiry=int(end) * 1_000_000 if end else 0)

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        route = self._routes.get(name.route or DEFAULT)
        if route is None:
            return _no_route(name)
        return _illegal(name) or self._unlisted(name) or route.check_name(name)

    def _unlisted(self, name: CloudName) -> Reason | None:
        listed = name.route == OWN or name.product in (self._settings.products or (name.product,))
        return None if listed else reasons.NO_PRODUCT

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the cloud could not be asked for this name now."""
        route = self._routes.get(name.route or DEFAULT)
        if route is None:
            return _no_route(name)
        own = self._settings.gateway if name.route == OWN else None
        if own is not None and own.login == DEFAULT and self._certificate is not None:
            return await self._certificate.check_ready(name)
        return await route.check_ready(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Make, or ask the cloud once for, what the child logs in with."""
        if (objection := self.check_name(name)) is not None:
            return Refused(objection)
        return await self._routes[name.route or DEFAULT].register(name, keep)

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Tell when a certificate is to be replaced; None for what is none."""
        certificate = self._certificate_of(name)
        return certificate.renew_at(name, secret) if certificate else None

    def enrolment_hint(self, name: CloudName, secret: Secret) -> str:
        """Return how to make a certificate known at the platform; "" for what is none."""
        certificate = self._certificate_of(name)
        return certificate.enrolment_hint(name, secret) if certificate else ""

    def _certificate_of(self, name: CloudName) -> CertificateRoute | None:
        return self._certificate if (name.route or DEFAULT) in (DEFAULT, OWN) else None

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""
        route = self._routes.get(name.route or DEFAULT)
        if route is None:
            raise LoginFailed(_no_route(name))
        return await route.connect(name, secret)

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


def _illegal(name: CloudName) -> Reason | None:
    if fault := names.NODE_ID.fault(name.device):
        return reasons.illegal("node-id-invalid", "node ID", fault)
    if fault := names.PRODUCT_ID.fault(name.product):
        return reasons.illegal("product-id-invalid", "product ID", fault)
    return None


def _no_route(name: CloudName) -> Reason:
    by_route = {DEFAULT: reasons.NO_CERTIFICATES, OWN: NO_GATEWAY, SUB_DEVICE: NO_GATEWAY}
    return by_route.get(name.route or DEFAULT, reasons.NO_ROUTE)
