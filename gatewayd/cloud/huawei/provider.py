"""Huawei Cloud IoTDA: each child takes the route that its rule names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from gatewayd.ca.certificates import fingerprint_of
from gatewayd.cloud.ca.configured import ConfiguredCertificate
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.cloud.credentials import ReadAnySecret
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei import settings as names
from gatewayd.cloud.huawei.certificate import CERTIFICATE_ROUTE, CertificateRoute
from gatewayd.cloud.huawei.commanding import commands
from gatewayd.cloud.huawei.gateway import HuaweiGatewayRoute
from gatewayd.cloud.huawei.login import CertificateLogin, SecretLogin
from gatewayd.cloud.huawei.preflight import preflight
from gatewayd.cloud.huawei.settings import RENEW_BEFORE, HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.sub_device import HuaweiSubDeviceRoute, HuaweiSubDevices
from gatewayd.cloud.provider import CertificateIssuer, ProviderStatus
from gatewayd.cloud.routed_provider import GATEWAY_ROUTE, RoutedProvider
from gatewayd.cloud.sub_devices.result_codes import NO_GATEWAY
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network import tls
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock

DEFAULT_ROUTE, SUB_DEVICE_ROUTE = CERTIFICATE_ROUTE, "sub-device"


class Huawei(RoutedProvider):
    """One instance.  Implements CloudProvider and all its optional abilities.

    name: the provider's name in the configuration.  read_secret: see cloud/credentials.py.
    issuer: issues the devices' certificates; None without self-registration.
    Blocks: reads the template.  Raises ConfigError.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = HuaweiSettings
    preflight = staticmethod(preflight)
    is_answer = staticmethod(commands.is_answer)
    identifier_in = staticmethod(commands.identifier_in)
    is_success = staticmethod(commands.is_success)
    holdable: ClassVar[frozenset[str]] = frozenset({"", DEFAULT_ROUTE})
    joint: ClassVar[frozenset[str]] = frozenset({GATEWAY_ROUTE, SUB_DEVICE_ROUTE})

    def __init__(
        self,
        name: str,
        settings: HuaweiSettings,
        read_secret: ReadAnySecret,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if problems := list(settings.problems()):
            raise ConfigError("\n".join(f"cloud.{name}: {problem}" for problem in problems))
        super().__init__(name, DEFAULT_ROUTE)
        self.issuer: CertificateIssuer | None = None
        self._settings, self._read_secret = settings, read_secret
        self._trust = tls.TrustStore(settings.ca_file)
        self._certificate: CertificateRoute | None = None
        self._own: ConfiguredCertificate | None = None
        if settings.certificates is not None:
            authority = AuthorityStore(clock.timestamp)
            self._certificate = self.issuer = CertificateRoute(
                name, settings, settings.certificates, authority, read_secret, clock
            )
            self._routes[DEFAULT_ROUTE] = self._certificate
        if settings.gateway is not None:
            self._add_gateway(settings.gateway, clock)

    def _add_gateway(self, own: HuaweiGateway, clock: Clock) -> None:
        settings = self._settings
        self._sub_devices = children = HuaweiSubDevices(self.name, settings, own, clock)
        self.gateway_name = CloudName(self.name, own.product, own.device, GATEWAY_ROUTE)
        self._routes[SUB_DEVICE_ROUTE] = HuaweiSubDeviceRoute(children)
        files = own.files
        if files is not None:
            days = settings.certificates.renew_before if settings.certificates else RENEW_BEFORE
            self._own = ConfiguredCertificate(
                files, self._read_secret, own.own_device_id, days, clock.timestamp
            )
            login = CertificateLogin(settings, self._read_secret, clock.timestamp)
            gateway = HuaweiGatewayRoute(
                settings, children, self._own, partial(self._own.open, login.open)
            )
        elif own.login == "secret":
            secret = SecretLogin(settings, own, self._trust, self._read_secret, clock.timestamp)
            gateway = HuaweiGatewayRoute(settings, children, secret, secret.open)
        else:
            certificate = self._certificate
            assert certificate is not None, "the settings have no problem"
            gateway = HuaweiGatewayRoute(settings, children, certificate, certificate.open)
        self._routes[GATEWAY_ROUTE] = gateway

    def status(self) -> ProviderStatus:
        """Return when the CA ends that the devices' certificates depend on."""
        end = self.issuer.authority.expiry() if self.issuer else None
        return ProviderStatus(certificate_expiry=int(end) * 1_000_000 if end else 0)

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the platform could not be asked for this name now."""
        own = self._settings.gateway if name.route == GATEWAY_ROUTE else None
        by_authority = own is not None and own.login == "certificate" and self._own is None
        if by_authority and self._certificate is not None:
            return await self._certificate.check_ready(name)
        return await super().check_ready(name)

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return when a certificate is to be replaced, or a secret that is configured."""
        if self._own is not None and name.route == GATEWAY_ROUTE:
            return self._own.renew_at(name, secret)
        certificate = self._certificate_of(name)
        due = certificate.renew_at(name, secret) if certificate else None
        return super().renew_at(name, secret) if due is None else due

    def enrolment_hint(self, name: CloudName, secret: Secret) -> str:
        """Return how to make a certificate known at the platform; "" for another secret."""
        if self._own is not None and name.route == GATEWAY_ROUTE:
            return reasons.enrolment_hint(fingerprint_of(secret))
        certificate = self._certificate_of(name)
        return certificate.enrolment_hint(name, secret) if certificate else ""

    async def reread(self) -> None:
        """Have roots and template read again; secrets are, whenever they are needed."""
        self._trust.release()
        if self._certificate is not None:
            await self._certificate.reread()
        if self._own is not None:
            await self._own.reread()

    def _certificate_of(self, name: CloudName) -> CertificateRoute | None:
        by_certificate = self._route_of(name) in (DEFAULT_ROUTE, GATEWAY_ROUTE)
        return self._certificate if by_certificate else None

    def _illegal(self, name: CloudName) -> Reason | None:
        if fault := names.NODE_ID.fault(name.device):
            return reasons.illegal("node-id-invalid", "node ID", fault)
        if fault := names.PRODUCT_ID.fault(name.product):
            return reasons.illegal("product-id-invalid", "product ID", fault)
        products = self._settings.products
        known = not products or name.product in products or name.route == GATEWAY_ROUTE
        return None if known else reasons.NO_PRODUCT

    def _no_route(self, name: CloudName) -> Reason:
        return _NO_ROUTE.get(self._route_of(name), reasons.NO_ROUTE)


_NO_ROUTE: Mapping[str, Reason] = {
    DEFAULT_ROUTE: reasons.NO_CERTIFICATES,
    GATEWAY_ROUTE: NO_GATEWAY,
    SUB_DEVICE_ROUTE: NO_GATEWAY,
}
