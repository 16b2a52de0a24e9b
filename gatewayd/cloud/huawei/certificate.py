"""The route "certificate": a device registers itself by its first login with its certificate.

The certificate's subject is such that the platform's template makes the wanted device of it.  Key
and certificate are made here, and durable before the platform hears of them: the first connection
is what registers the device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud.authority import Authority
from gatewayd.cloud.authority_keeper import AuthorityKeeper
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.certificate_login import CertificateLogin
from gatewayd.cloud.huawei.certificate_request import certify, read_request, why
from gatewayd.cloud.huawei.certificate_template import TemplateFile
from gatewayd.cloud.huawei.findings import Kind
from gatewayd.cloud.huawei.identity import Identity, Issue, make_identity, read_identity
from gatewayd.cloud.huawei.preview import preview
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiSettings
from gatewayd.cloud.huawei.subject import subject_of
from gatewayd.cloud.huawei.template import Template
from gatewayd.cloud.huawei.wanted import Chosen, Wanted, choose
from gatewayd.cloud.mqtt_session import MqttSession, ignore
from gatewayd.cloud.provider import Failed, Issued, Keep, Outcome, Refused
from gatewayd.cloud.x509_certificates import span_of
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs

DAY = 86_400.0


class CertificateRoute:
    """Implements Route and Issuer.

    authority: issues the certificates.  wall: seconds since the epoch.
    login: opens connections, for other routes too.
    Blocks: reads the template.  Raises ConfigError.
    """

    def __init__(
        self,
        settings: HuaweiSettings,
        own: HuaweiCertificates,
        authority: AuthorityKeeper,
        wall: Callable[[], float],
    ) -> None:
        self.authority, self.login = authority, CertificateLogin(settings, wall)
        self._own, self._wall = own, wall
        self._file = TemplateFile(own.template_file)

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why the template makes no device of this name; None if it does."""
        return _objection(self._choose(self._file.template, name))

    async def obstacle(self, _: CloudName) -> Reason | None:
        """Tell why no certificate could be issued now; None if one could."""
        return await self.authority.obstacle()

    async def forget(self, _: CloudName) -> Reason | None:
        """Nothing binds such a device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        """Make a key and its certificate, as Route says; the platform is not asked."""
        try:
            template = await asyncio.to_thread(self._file.read)
        except ConfigError:
            return Failed(reasons.TEMPLATE_CHANGED)  # it may be being written
        chosen = self._choose(template, name)
        if (objection := _objection(chosen)) is not None:
            return Refused(objection)
        if (obstacle := await self.authority.obstacle()) is not None:
            return Failed(obstacle)
        held = await self.authority.demand()
        identity = await asyncio.to_thread(self._make, held.authority, template, chosen)
        await keep(identity.secret)
        return Issued()

    def renew_at(self, _: CloudName, secret: Secret) -> float | None:
        """Tell when a certificate is to be replaced: before its end, seconds since the epoch.

        One that begins only in the future was made by a clock that was wrong: at once.
        """
        span = span_of(secret)
        if span is None:
            return None
        ahead = span.starts.timestamp() > self._wall()
        return 0.0 if ahead else span.ends.timestamp() - self._own.renew_before * DAY

    def introduction(self, _: CloudName, secret: Secret) -> str:
        """Return how to make a certificate known at the platform, by its fingerprint."""
        try:
            return reasons.introduction(read_identity(secret).fingerprint)
        except InvalidArgs:
            return ""

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed."""
        connection, _ = await self.login.open(name, secret, ignore)
        return MqttSession(connection)

    async def close(self) -> None:
        """Nothing is held: sessions belong to whoever opened them."""

    def _choose(self, template: Template, name: CloudName) -> Chosen:
        return choose(template, Wanted(name.device, name.product, fixed=self._own.subject))

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        """Return a certificate for a request (PKCS #10, PEM) and its authority's, as Issuer says.

        Raises InvalidArgs, WrongState, StoreError, ConfigError.
        """
        template = await asyncio.to_thread(self._file.read)
        held = await self.authority.demand()
        chosen = self._choose(template, name) if name else None
        span = days or self._own.days, self._wall()
        wanted = await asyncio.to_thread(read_request, request)
        return await asyncio.to_thread(certify, held.authority, template, wanted, chosen, span)

    def _make(self, authority: Authority, template: Template, chosen: Chosen) -> Identity:
        """Make what a device shows.  Blocks."""
        assert chosen.device is not None, "there is no objection"
        how = Issue(self._own.key_algorithm, self._own.days)
        device, subject = chosen.device, chosen.x509_name()
        identity = make_identity(authority, device.device_id, subject, how, self._wall())
        made = preview(template, subject_of(identity.certificate.subject))
        assert made.device == device, "what was issued is what was chosen"
        return identity


def _objection(chosen: Chosen) -> Reason | None:
    if chosen.device is not None:
        return None
    kinds = {finding.kind for finding in chosen.findings if finding.fatal}
    code = "template-product" if Kind.OTHERWISE in kinds else "template-unfit"
    return reasons.template(code, why(chosen.findings))
