"""A broker as a cloud: each child has a client of its own there."""

from __future__ import annotations

from typing import ClassVar

from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.mqtt_broker import messages, reasons
from gatewayd.cloud.mqtt_broker.broker_sessions import BrokerSessions
from gatewayd.cloud.mqtt_broker.certificate import CertifiedRoute
from gatewayd.cloud.mqtt_broker.password import PasswordRoute
from gatewayd.cloud.mqtt_broker.preflight import preflight
from gatewayd.cloud.mqtt_broker.settings import CERTIFICATE, PASSWORD, MqttBrokerSettings
from gatewayd.cloud.mqtt_broker.templates import part_fault
from gatewayd.cloud.provider import CertificateIssuer, ProviderStatus
from gatewayd.cloud.routed_provider import RoutedProvider
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network import tls
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock


class MqttBroker(RoutedProvider):
    """One broker.  Implements CloudProvider, SupportsDeviceCa and SupportsStatus.

    name: the provider's name in the configuration.  read_secret: see cloud/credentials.py.
    issuer: issues the children's certificates; None where a password is their identity.
    Raises ConfigError.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = MqttBrokerSettings
    preflight = staticmethod(preflight)
    is_answer = staticmethod(messages.is_answer)
    identifier_in = staticmethod(messages.identifier_in)
    is_success = staticmethod(messages.is_success)
    holdable: ClassVar[frozenset[str]] = frozenset({"", PASSWORD, CERTIFICATE})

    def __init__(
        self,
        name: str,
        settings: MqttBrokerSettings,
        read_secret: ReadSecret,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if problems := list(settings.problems()):
            raise ConfigError("\n".join(f"cloud.{name}: {problem}" for problem in problems))
        super().__init__(name, settings.identity)
        self._settings, self._trust = settings, tls.TrustStore(settings.ca_file)
        self.issuer: CertificateIssuer | None = None
        self._route: PasswordRoute | CertifiedRoute
        sessions = BrokerSessions(name, settings, read_secret, clock.now)
        if settings.management is not None:
            self._route = PasswordRoute(
                sessions, settings, settings.management, self._trust, read_secret
            )
        else:
            authority = AuthorityStore(clock.timestamp)
            self._route = self.issuer = CertifiedRoute(sessions, settings, authority, clock)
        self._routes[settings.identity] = self._route

    def status(self) -> ProviderStatus:
        """Return when the CA ends that the children's certificates depend on."""
        end = self.issuer.authority.expiry() if self.issuer else None
        return ProviderStatus(certificate_expiry=int(end) * 1_000_000 if end else 0)

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return when a certificate is to be replaced, or a secret of the other kind: at once."""
        return self._route.renew_at(name, secret)

    async def reread(self) -> None:
        """Have the roots read again; the management's password is, for each login."""
        self._trust.release()

    def _illegal(self, name: CloudName) -> Reason | None:
        if fault := part_fault(name.product):
            return reasons.illegal("product-id-invalid", "product", fault)
        if fault := part_fault(name.device):
            return reasons.illegal("device-name-invalid", "device name", fault)
        known = not self._settings.products or name.product in self._settings.products
        return None if known else reasons.NO_PRODUCT

    def _no_route(self, name: CloudName) -> Reason:
        return Reason(
            "route-not-available",
            f"A broker has no route {name.route[:32]!a}.",
            f'Name the route "{self._settings.identity}" in the rule, or none; then run gatewayctl '
            "reload.",
        )
