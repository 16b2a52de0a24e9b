"""The route "certificate": a device registers itself by its first login with its certificate.

The certificate's subject is such that the platform's template makes the wanted device of it.  Key
and certificate are made here, and durable before the platform hears of them: the first connection
is what registers the device.

A login by certificate: a connection for one identity, with a TLS context of its own.

The template file, as it is now: by it the subjects of certificates are chosen.

It is read at the start, which ends where it cannot be used, and again for each certificate, so
that a file that was replaced counts at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.ca.authority import Authority
from gatewayd.cloud.ca.certificates import Validity, span_of
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.cloud.connect_errors import ConnectError
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.identity import (
    CertificateIdentity,
    IssueOptions,
    certify,
    fatal_text,
    make_identity,
    read_identity,
    read_request,
)
from gatewayd.cloud.huawei.login import certificate_login
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiSettings, server
from gatewayd.cloud.huawei.subject import DiagnosticKind, subject_of
from gatewayd.cloud.huawei.template import ProvisioningTemplate, lint
from gatewayd.cloud.huawei.template_device import (
    DesiredDevice,
    SolvedSubject,
    preview,
    solve_subject,
)
from gatewayd.cloud.mqtt import MqttSession, ignore
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    KeepSecret,
    LoginError,
    LoginRefused,
    Outcome,
    Refused,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs

log = logging.getLogger(__name__)


class CertificateLogin:
    """Logs in devices by what identity.py has made.  wall: seconds since the epoch."""

    def __init__(self, settings: HuaweiSettings, wall: Callable[[], float]) -> None:
        self._settings, self._wall = settings, wall

    async def open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler
    ) -> tuple[mqtt.MqttConnection, str]:
        """Log in once; return the connection, and the device ID that it is logged in as.

        on_message: as for mqtt.open_connection.
        Raises LoginRefused, LoginFailed.
        """
        try:
            identity = await asyncio.to_thread(read_identity, secret)
        except InvalidArgs as error:
            raise LoginRefused(reasons.UNREADABLE_ANSWER) from error
        try:
            connection = await self._connect(identity, on_message)
        except ConnectError as error:
            raise self._refused(name, identity, error) from error
        return connection, identity.device_id

    async def _connect(
        self, identity: CertificateIdentity, on_message: mqtt.Handler
    ) -> mqtt.MqttConnection:
        """Connect with a context that is used for nothing else, and so resumes no session."""
        settings = self._settings
        context = await asyncio.to_thread(tls.client_context, settings.ca_file, identity.secret)
        login = certificate_login(identity.device_id, self._wall())
        return await mqtt.open_connection(
            server(settings, context), login, settings.keepalive, on_message
        )

    def _refused(
        self, name: CloudName, identity: CertificateIdentity, error: ConnectError
    ) -> LoginError:
        """Say why, and log what tells one certificate, clock and endpoint from another."""
        settings, span = self._settings, Validity.of(identity.certificate)
        log.info(
            "No login of %s at %s: %s. It showed %s, valid until %s.",
            identity.device_id, settings.host, error, identity.fingerprint, span.ends.isoformat(),
            extra={"cloud": str(name)},
        )  # fmt: skip
        fault = span.fault(self._wall())
        shown = reasons.LoginAttempt(settings.host, settings.port, identity.fingerprint, fault)
        return reasons.login_by_certificate(error, shown)


MAX_BYTES = 1 << 20


def read_template(path: Path) -> bytes:
    """Return what a file holds, or enough of it to be found too large.

    Blocks; raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


class TemplateFile:
    """Reads a template at once.  Blocks; raises ConfigError with all that is wrong, a line each.

    template: that which was read last and can be used.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._data = path, b""
        self.template = self._lint(read_template(path))

    def read(self) -> ProvisioningTemplate:
        """Return the template as it is now.  Blocks; raises ConfigError."""
        data = read_template(self._path)
        if data != self._data:
            self.template = self._lint(data)
        return self.template

    def _lint(self, data: bytes) -> ProvisioningTemplate:
        linted = lint(data)
        if linted.template is None:
            raise ConfigError("\n".join(f"{self._path}: {one}" for one in linted.findings))
        for finding in linted.findings:
            log.warning("%s: %s.", self._path, finding)
        self._data = data
        return linted.template


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
        authority: AuthorityStore,
        wall: Callable[[], float],
    ) -> None:
        self.authority, self.login = authority, CertificateLogin(settings, wall)
        self._own, self._wall = own, wall
        self._file = TemplateFile(own.template_file)

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why the template makes no device of this name; None if it does."""
        return _objection(self._choose(self._file.template, name))

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Tell why no certificate could be issued now; None if one could."""
        return await self.authority.check_ready()

    async def unbind(self, _: CloudName) -> Reason | None:
        """Nothing binds such a device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Make a key and its certificate, as Route says; the platform is not asked."""
        try:
            template = await asyncio.to_thread(self._file.read)
        except ConfigError:
            return Failed(reasons.TEMPLATE_CHANGED)  # it may be being written
        chosen = self._choose(template, name)
        if (objection := _objection(chosen)) is not None:
            return Refused(objection)
        if (check_ready := await self.authority.check_ready()) is not None:
            return Failed(check_ready)
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

    def enrolment_hint(self, _: CloudName, secret: Secret) -> str:
        """Return how to make a certificate known at the platform, by its fingerprint."""
        try:
            return reasons.enrolment_hint(read_identity(secret).fingerprint)
        except InvalidArgs:
            return ""

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed."""
        connection, _ = await self.login.open(name, secret, ignore)
        return MqttSession(connection)

    async def close(self) -> None:
        """Nothing is held: sessions belong to whoever opened them."""

    def _choose(self, template: ProvisioningTemplate, name: CloudName) -> SolvedSubject:
        return solve_subject(
            template, DesiredDevice(name.device, name.product, fixed=self._own.subject)
        )

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

    def _make(
        self, authority: Authority, template: ProvisioningTemplate, chosen: SolvedSubject
    ) -> CertificateIdentity:
        """Make what a device shows.  Blocks."""
        assert chosen.device is not None, "there is no objection"
        how = IssueOptions(self._own.key_algorithm, self._own.days)
        device, subject = chosen.device, chosen.x509_name()
        identity = make_identity(authority, device.device_id, subject, how, self._wall())
        made = preview(template, subject_of(identity.certificate.subject))
        assert made.device == device, "what was issued is what was chosen"
        return identity


def _objection(chosen: SolvedSubject) -> Reason | None:
    if chosen.device is not None:
        return None
    kinds = {finding.kind for finding in chosen.findings if finding.fatal}
    code = "template-product" if DiagnosticKind.OTHERWISE in kinds else "template-unfit"
    return reasons.template(code, fatal_text(chosen.findings))
