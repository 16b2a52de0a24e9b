"""The route "certificate": the device CA of this cloud issues a child's certificate.

The broker is not asked: it trusts the CA, has the common name for the user, and an access list by
users.  Key and certificate are made here; what is issued is on record in the CA's ledger, and then
durable, before the first login.  A child that is forgotten leaves its certificates on the list of
revoked ones, which the broker has to be given; and each ends in some days.
"""

from __future__ import annotations

import asyncio
import logging

from cryptography import x509

from gatewayd.ca.authority import Authority
from gatewayd.ca.bundle import Bundle
from gatewayd.ca.certificates import (
    Validity,
    common_name,
    common_names,
    read_request,
    to_pem,
)
from gatewayd.cloud.ca.given import given_identity
from gatewayd.cloud.ca.identity import (
    CertificateIdentity,
    IssueOptions,
    make_identity,
    read_identity,
    renewal_due,
)
from gatewayd.cloud.ca.issued import IssuedCertificate
from gatewayd.cloud.ca.store import AuthorityGeneration, AuthorityStore
from gatewayd.cloud.hand_over import trusted_roots
from gatewayd.cloud.mqtt import Login, MqttSession
from gatewayd.cloud.mqtt_broker import reasons
from gatewayd.cloud.mqtt_broker.broker_sessions import BrokerSessions, topics_of
from gatewayd.cloud.mqtt_broker.settings import CERTIFICATE, MqttBrokerSettings
from gatewayd.cloud.mqtt_broker.templates import part_fault
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
from gatewayd.device.reason import CLOCK_NOT_SET, Reason
from gatewayd.device.record import CloudName
from gatewayd.device.recovery import reason_of
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, SecretCorrupt, StoreError, WrongState
from gatewayd.network import tls
from gatewayd.network.connect_errors import ConnectError
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

MAX_USER = 64
"""Characters of a common name (X.520)."""


class CertifiedRoute:
    """Implements Route, HoldableRoute, CertificateIssuer and AcceptsCertificates.

    sessions: opens those of children.  authority: issues the certificates.
    """

    def __init__(
        self,
        sessions: BrokerSessions,
        settings: MqttBrokerSettings,
        authority: AuthorityStore,
        clock: Clock,
    ) -> None:
        self.authority, self.renew_before = authority, settings.issuing.renew_before
        self._sessions, self._settings = sessions, settings
        self._templates, self._clock, self._wall = settings.templates, clock, clock.timestamp
        self._how = IssueOptions(settings.issuing.key_algorithm, settings.issuing.days)

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why no certificate can have this user name; None if one can."""
        return None if len(self._user(name)) <= MAX_USER else reasons.USER_TOO_LONG

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the child could not get a certificate now; None if it could."""
        if (not_ready := await self.authority.check_ready(name)) is not None:
            return not_ready
        if await self.authority.given_to(name) is not None:
            return None
        held = await self.authority.require()
        return None if held.authority.can_revoke else reasons.CANNOT_REVOKE

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Make a key and its certificate, put it on record, and keep it; see Route.

        One that was imported is kept as it is.
        """
        if (not_ready := await self.check_ready(name)) is not None:
            return Failed(not_ready)
        if (given := await self.authority.given_to(name)) is not None:
            if given.device_id != self._user(name):
                return Refused(reasons.GIVEN_OF_OTHER_USER)
            await keep(given.secret)
            return Issued()
        held = await self.authority.require()
        identity = await asyncio.to_thread(self._make, held.authority, self._user(name))
        try:
            await self._note(name, identity.certificate, held)
        except WrongState:
            return Refused(reasons.TOO_MANY)
        except StoreError as error:
            return Failed(reason_of(error))
        try:
            await keep(identity.secret)
        except StoreError:
            raise  # it may be in its slot
        except Exception:
            await self.authority.issued.withdraw(name, identity.certificate.serial_number)
            raise
        return Issued()

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return when to replace a secret: before the end of its certificate.

        At once, where it is a certificate of another user, or none: the settings were changed; and
        where another was imported.
        """
        if _user_in(secret) != self._user(name) or self.authority.replaces(name, secret):
            return 0.0
        return renewal_due(secret, self.renew_before, self._wall())

    async def connect(self, name: CloudName, secret: Secret) -> MqttSession:
        """Log in once.  Raises LoginRefused, LoginFailed.

        A secret that is refused is stale where another was imported: that may be accepted.
        """
        try:
            await self.authority.given_to(name)  # so that it is known from then on
            return await self._log_in(name, secret)
        except LoginRefused as error:
            error.stale = error.stale or self.authority.replaces(name, secret)
            raise
        except StoreError as error:
            raise LoginFailed(reason_of(error)) from error

    async def _log_in(self, name: CloudName, secret: Secret) -> MqttSession:
        identity = self._templates.identity(name)
        try:
            own = await asyncio.to_thread(read_identity, secret)
        except InvalidArgs as error:
            raise LoginRefused(reasons.NO_CERTIFICATE) from error
        if own.device_id != identity.user:
            raise LoginRefused(reasons.OTHER_USER)
        try:
            # a context that is used once, and so resumes no TLS session
            context = await asyncio.to_thread(tls.client_context, self._settings.ca_file, secret)
            login = Login(identity.client_id, identity.user, Secret(b""))
            connection = await self._sessions.open(login, self._sessions.server(context))
        except ConnectError as error:
            validity = Validity.of(own.certificate)
            log.info(
                "Login of %s at %s with certificate %s, valid until %s, failed: %s.",
                identity.user, self._settings.host, own.fingerprint, validity.ends.isoformat(),
                error,
                extra={"cloud": str(name)},
            )  # fmt: skip
            fault = validity.fault(self._wall())
            raise reasons.certificate_login(error, *self._sessions.endpoint, fault) from error
        session = await self._sessions.begin(identity, connection, listen=True)
        if session is None:
            raise LoginFailed(reasons.LIST_DENIES)
        return session

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with.  Raises StoreError, ConfigError."""
        try:
            own = await asyncio.to_thread(read_identity, secret)
        except InvalidArgs as error:
            raise SecretCorrupt(reasons.NO_CERTIFICATE.text) from error
        identity, settings = self._templates.identity(name), self._settings
        return Credential(
            settings.host, settings.port, identity.client_id, own.device_id, topics_of(identity),
            address=settings.address, ca=await trusted_roots(settings.ca_file),
            certificate=own.chain, key=own.key,
            valid_until=Validity.of(own.certificate).ends.timestamp(),
        )  # fmt: skip

    async def unbind(self, name: CloudName) -> Reason | None:
        """Revoke the child's certificates; return why that failed.

        By a clock that is not set, those that are valid could seem to have ended.
        """
        if not self._clock.is_set():
            return CLOCK_NOT_SET
        try:
            await self.authority.issued.revoke(name)
        except WrongState:
            return reasons.TOO_MANY_REVOKED
        except StoreError as error:
            return reason_of(error)
        return None

    async def accept(
        self, bundle: Bundle, name: CloudName | None, device_id: str
    ) -> tuple[CloudName, CertificateIdentity]:
        """Return whose certificate it is that an operator gives; see AcceptsCertificates.

        Its common name is the user, as the broker takes it.  Raises InvalidArgs.
        """
        if name is None or device_id:
            raise InvalidArgs("Name the product and the id of the child, and no device ID")
        self._check_parts(name)
        user = self._user(name)
        if (found := common_names(bundle.certificate)) != [user]:
            shown = ", ".join(found)[:MAX_USER] or "none"
            raise InvalidArgs(
                f"The common name of the certificate must be the child's user {user}, but is "
                f"{shown!a}: get another certificate, or set `user` of the cloud"
            )
        identity = await asyncio.to_thread(given_identity, bundle, user, self._wall())
        return name, identity

    def uses_certificate(self, name: CloudName) -> bool:
        """Whether the route of a device is this one."""
        return name.route in ("", CERTIFICATE)

    async def close(self) -> None:
        """Do nothing: sessions are closed by their owners."""

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        """Return a certificate for a request (PKCS #10, PEM), and its authority's.

        See CertificateIssuer.  Raises InvalidArgs, WrongState, StoreError.
        """
        if name is None:
            raise InvalidArgs("Name the child whose certificate it is to be, or its product and id")
        self._check_parts(name)
        held = await self.authority.require()
        wanted = await asyncio.to_thread(read_request, request)
        certificate = await asyncio.to_thread(
            held.authority.sign, common_name(self._user(name)), wanted.key,
            days or self._how.days, self._wall(),
        )  # fmt: skip
        await self._note(name, certificate, held)
        return to_pem(certificate) + held.authority.pem

    def _check_parts(self, name: CloudName) -> None:
        for part in (name.product, name.device):
            if fault := part_fault(part):
                raise InvalidArgs(f"Product and id: each {fault}")
        if (objection := self.check_name(name)) is not None:
            raise InvalidArgs(objection.text)

    async def _note(
        self, name: CloudName, made: x509.Certificate, held: AuthorityGeneration
    ) -> None:
        """Put a certificate on record before anyone has it.  Raises WrongState, StoreError."""
        ends = int(Validity.of(made).ends.timestamp())
        issued = IssuedCertificate(made.serial_number, ends, held.generation)
        await self.authority.issued.note(name, issued)

    def _make(self, authority: Authority, user: str) -> CertificateIdentity:
        """Make the identity of a child.  Blocks."""
        return make_identity(authority, user, common_name(user), self._how, self._wall())

    def _user(self, name: CloudName) -> str:
        return self._templates.identity(name).user


def _user_in(secret: Secret) -> str:
    """Return the user that a kept secret is for; "" for none."""
    try:
        return read_identity(secret).device_id
    except InvalidArgs:
        return ""
