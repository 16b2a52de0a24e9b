"""The route "certificate": a device registers itself by its first login with its certificate.

The subject of the certificate is such that the platform's template makes the desired device of it.
Key and certificate are made here, and durable before they are used: the first connection registers
the device.  The template file is read at the start, which fails where it cannot be used, and again
for each certificate, so that a replaced file counts at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from pathlib import Path

from gatewayd.ca.authority import Authority
from gatewayd.ca.bundle import Bundle
from gatewayd.ca.certificates import Validity, read_request
from gatewayd.cloud import mqtt
from gatewayd.cloud.ca.given import given_identity
from gatewayd.cloud.ca.identity import (
    CertificateIdentity,
    IssueOptions,
    make_identity,
    read_identity,
    renewal_due,
)
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.cloud.command_router import ChildCommands, EarlyPackets, own_commands
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.hand_over import trusted_roots
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.commanding.commands import HuaweiCommands
from gatewayd.cloud.huawei.commanding.commands import topics as command_topics
from gatewayd.cloud.huawei.identity import certify, fatal_text
from gatewayd.cloud.huawei.login import CertificateLogin, certificate_login
from gatewayd.cloud.huawei.reporting.publishers import HuaweiLimit, device_publisher
from gatewayd.cloud.huawei.settings import DEVICE_ID, HuaweiCertificates, HuaweiSettings
from gatewayd.cloud.huawei.subject import subject_of
from gatewayd.cloud.huawei.template import DiagnosticKind, ProvisioningTemplate, lint
from gatewayd.cloud.huawei.template_device import (
    DesiredDevice,
    SolvedSubject,
    preview,
    solve_subject,
)
from gatewayd.cloud.mqtt import MqttSession
from gatewayd.cloud.provider import (
    Credential,
    Failed,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
)
from gatewayd.cloud.routed_provider import GATEWAY_ROUTE
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.recovery import reason_of
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs, SecretCorrupt, StoreError
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.watched_file import WatchedFile, read_regular

log = logging.getLogger(__name__)


MAX_BYTES = 1 << 20
CERTIFICATE_ROUTE = "certificate"


def read_template(path: Path) -> bytes:
    """Return the content of a template's file.  Blocks; raises ConfigError."""
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be read: {error.strerror}")


class TemplateFile:
    """A template file, read at once, and again when its content has changed.

    template: the last usable one that was read.
    Blocks; raises ConfigError with a line for each error.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._watched = path, WatchedFile(path, MAX_BYTES)
        self._reading = threading.Lock()  # for several registrations at a time
        self._fault = ""
        self.template = self._lint(self._changed() or b"")

    def read(self) -> ProvisioningTemplate:
        """Return the current template.  Blocks; raises ConfigError."""
        with self._reading:
            data = self._changed()
            if data is not None:
                try:
                    self.template, self._fault = self._lint(data), ""
                except ConfigError as error:
                    self._fault = str(error)
            if self._fault:
                raise ConfigError(self._fault)
            return self.template

    def _changed(self) -> bytes | None:
        try:
            return self._watched.changed()
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def _lint(self, data: bytes) -> ProvisioningTemplate:
        linted = lint(data)
        if linted.template is None:
            raise ConfigError("\n".join(f"{self._path}: {one}" for one in linted.diagnostics))
        for diagnostic in linted.diagnostics:
            log.warning("%s: %s.", self._path, diagnostic)
        return linted.template


class CertificateRoute:
    """Implements Route, CertificateIssuer and AcceptsCertificates.

    name: of the cloud.  authority: issues the certificates.  renew_before: days before their end.
    read_secret: see cloud/credentials.py.
    Blocks: reads the template.  Raises ConfigError.
    """

    def __init__(
        self,
        name: str,
        settings: HuaweiSettings,
        own: HuaweiCertificates,
        authority: AuthorityStore,
        read_secret: ReadSecret,
        clock: Clock,
    ) -> None:
        self.authority, self.renew_before = authority, own.renew_before
        self._login = CertificateLogin(settings, read_secret, clock.timestamp)
        self._name, self._settings, self._own = name, settings, own
        self._services = settings.services
        self._now, self._wall = clock.now, clock.timestamp
        self._file = TemplateFile(own.template_file)

    async def reread(self) -> None:
        """Read the template again where it has changed; one that cannot be used is logged."""
        try:
            await asyncio.to_thread(self._file.read)
        except ConfigError as error:
            for line in str(error).splitlines():
                log.warning("The template in use stays: %s.", line)

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why the template makes no device of this name; None if it does."""
        return _objection(self._solve(self._file.template, name))

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the device cannot get a certificate now; None if it can."""
        return await self.authority.check_ready(name)

    async def unbind(self, _: CloudName) -> Reason | None:
        """Return None: nothing binds such a device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Make a key and its certificate, unless one was imported; see Route.

        The platform is not asked.
        """
        try:
            template = await asyncio.to_thread(self._file.read)
        except ConfigError:
            return Failed(reasons.TEMPLATE_CHANGED)  # perhaps it is just being written
        solved = self._solve(template, name)
        if (objection := _objection(solved)) is not None:
            return Refused(objection)
        if (not_ready := await self.authority.check_ready(name)) is not None:
            return Failed(not_ready)
        if (given := await self.authority.given_to(name)) is not None:
            await keep(given.secret)
            return Issued()
        held = await self.authority.require()
        identity = await asyncio.to_thread(self._make, held.authority, template, solved)
        await keep(identity.secret)
        return Issued()

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return when to replace a certificate; at once by another one that was imported."""
        if self.authority.replaces(name, secret):
            return 0.0
        return renewal_due(secret, self.renew_before, self._wall())

    def enrolment_hint(self, _: CloudName, secret: Secret) -> str:
        """Return how to make a certificate known at the platform, by its fingerprint."""
        try:
            return reasons.enrolment_hint(read_identity(secret).fingerprint)
        except InvalidArgs:
            return ""

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed."""
        early = EarlyPackets()
        connection, device_id = await self.open(name, secret, early)
        service, limit = self._services.get(name.product, ""), HuaweiLimit(self._now)

        def commands() -> ChildCommands:
            form = HuaweiCommands(device_id, lambda _: service)
            return own_commands(connection, device_id, form, limit, name.provider, self._now)

        publisher = partial(device_publisher, connection, device_id, service, limit)
        session = MqttSession(connection, publisher, commands)
        connection.on_message = session.handle_first
        early.hand_over(session.handle_first)
        settings = self._settings
        async with mqtt.preparing(connection, settings.host, settings.port):
            async with asyncio.timeout(settings.reply_timeout):
                await mqtt.subscribe_to_commands(connection, command_topics(device_id), device_id)
        return session

    async def open(
        self, name: CloudName, secret: Secret, on_message: mqtt.Handler | None
    ) -> tuple[mqtt.MqttConnection, str]:
        """Log in once, as CertificateLogin does; what was imported is known from then on.

        A secret that is refused is stale where another was imported: that may be accepted.
        """
        try:
            await self.authority.given_to(name)
        except StoreError as error:
            raise LoginFailed(reason_of(error)) from error
        try:
            return await self._login.open(name, secret, on_message)
        except LoginRefused as error:
            error.stale = error.stale or self.authority.replaces(name, secret)
            raise

    async def credential(self, _: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with: certificate and key prove it, no password.

        Raises StoreError, ConfigError.
        """
        try:
            identity = await asyncio.to_thread(read_identity, secret)
        except InvalidArgs as error:
            raise SecretCorrupt("The secret holds no certificate of a device") from error
        settings, own = self._settings, f"$oc/devices/{identity.device_id}/sys/"
        login = certificate_login(identity.device_id, self._wall())
        topics = {
            "prefix": own,
            "properties": f"{own}properties/report",
            "set": f"{own}properties/set/#",
        }
        return Credential(
            settings.host, settings.port, login.client_id, login.user_name, topics,
            address=settings.address, ca=await trusted_roots(settings.ca_file),
            certificate=identity.chain, key=identity.key,
            valid_until=Validity.of(identity.certificate).ends.timestamp(),
        )  # fmt: skip

    async def close(self) -> None:
        """Do nothing: sessions are closed by their owners."""

    def _solve(self, template: ProvisioningTemplate, name: CloudName) -> SolvedSubject:
        return solve_subject(
            template, DesiredDevice(name.device, name.product, fixed=self._own.subject)
        )

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        """Return a certificate for a request (PKCS #10, PEM), and its authority's.

        See CertificateIssuer.  Raises InvalidArgs, WrongState, StoreError, ConfigError.
        """
        template = await asyncio.to_thread(self._file.read)
        held = await self.authority.require()
        solved = self._solve(template, name) if name else None
        signing_request = await asyncio.to_thread(read_request, request)
        return await asyncio.to_thread(
            certify, held.authority, template, signing_request, solved,
            days=days or self._own.days, now=self._wall(),
        )  # fmt: skip

    async def accept(
        self, bundle: Bundle, name: CloudName | None, device_id: str
    ) -> tuple[CloudName, CertificateIdentity]:
        """Return whose certificate it is that an operator gives; see AcceptsCertificates.

        The template has to make that device of its subject, unless the device ID is given: then
        the device is one that was created at the platform by hand.
        Raises InvalidArgs, ConfigError.
        """
        template = await asyncio.to_thread(self._file.read)
        if device_id:
            if name is None:
                raise InvalidArgs("A device ID needs the product and the node ID of the device")
            if fault := DEVICE_ID.fault(device_id):
                raise InvalidArgs(f"The device ID {fault}")
        else:
            made = preview(template, subject_of(bundle.certificate.subject))
            if made.device is None:
                raise InvalidArgs(
                    "The template makes no device of this certificate's subject: "
                    f"{fatal_text(made.diagnostics)}. For a device that was created at the "
                    "platform by hand, give its device ID"
                )
            device_id = made.device.device_id
            found = (made.device.product_id, made.device.node_id)
            if name is not None and (name.product, name.device) != found:
                raise InvalidArgs(
                    "The template makes another device of this certificate's subject: product "
                    f"{found[0]}, node ID {found[1]}"
                )
            name = name or CloudName(self._name, *found)
        if (objection := self.check_name(name)) is not None:
            raise InvalidArgs(objection.text)
        return name, await asyncio.to_thread(given_identity, bundle, device_id, self._wall())

    def uses_certificate(self, name: CloudName) -> bool:
        """Whether the route of a device logs in by a certificate that is issued or kept here."""
        gateway = self._settings.gateway
        if name.route == GATEWAY_ROUTE and gateway is not None:
            return gateway.login == "certificate" and gateway.files is None
        return name.route in ("", CERTIFICATE_ROUTE)

    def _make(
        self, authority: Authority, template: ProvisioningTemplate, solved: SolvedSubject
    ) -> CertificateIdentity:
        """Make the identity of a device.  Blocks."""
        assert solved.device is not None, "there is no objection"
        how = IssueOptions(self._own.key_algorithm, self._own.days)
        device, subject = solved.device, solved.x509_name()
        identity = make_identity(authority, device.device_id, subject, how, self._wall())
        made = preview(template, subject_of(identity.certificate.subject))
        assert made.device == device, "the certificate has the solved subject"
        return identity


def _objection(solved: SolvedSubject) -> Reason | None:
    if solved.device is not None:
        return None
    kinds = {diagnostic.kind for diagnostic in solved.diagnostics if diagnostic.fatal}
    code = "template-product" if DiagnosticKind.OTHERWISE in kinds else "template-unfit"
    return reasons.template(code, fatal_text(solved.diagnostics))
