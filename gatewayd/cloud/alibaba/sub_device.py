"""The routes "sub-device…": children that the gateway registers and logs in over its own session.

They are devices of node type "gateway sub-device", created in the console before.  The routes
differ in where a child's secret comes from; the rest is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.sub_devices import AlibabaSubDevices
from gatewayd.cloud.credentials import GivenSecret
from gatewayd.cloud.provider import (
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.cloud.sub_devices.result_codes import (
    GATEWAY_FULL,
    UNANSWERED,
    Denied,
    MissingFromReply,
    given_secret_refused,
    unanswered_outcome,
)
from gatewayd.cloud.sub_devices.sessions import SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError


class AlibabaSubDeviceRoute(ABC):
    """A route for sub-devices of the gateway.  Implements Route."""

    issued = True
    """Whether the secrets come from the cloud."""

    def __init__(self, account: AlibabaAccount, children: AlibabaSubDevices) -> None:
        self._account, self._children = account, children
        self._products = account.settings.products

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        if name.product not in self._products:
            return reasons.NO_PRODUCT
        room = self._children.sessions.topology.has_room(payloads.sub_name(name))
        return None if room else GATEWAY_FULL

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the cloud could not be asked for this name now: the gateway must be online."""
        return await self._children.check_ready(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask for the child's secret, as Route says; with others, where there are any."""
        self._children.sessions.expect(payloads.sub_name(name))
        secret = await self._ask(name)
        if isinstance(secret, Refused):
            self._children.sessions.topology.release(payloads.sub_name(name))
        if not isinstance(secret, Secret):
            return secret
        await keep(secret)
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> SubDeviceSession:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""
        if (not_ready := await self._children.check_ready(name)) is not None:
            raise LoginFailed(not_ready)
        return await self._children.sessions.connect(name, secret, issued=self.issued)

    async def unbind(self, name: CloudName) -> Reason | None:
        """Take the child out of the gateway's topology; return why that failed."""
        if (offline := await self._children.offline(name)) is not None:
            return offline
        return await self._children.sessions.unbind(name)

    async def close(self) -> None:  # noqa: B027  # not for subclasses to fill
        """Hold nothing: the provider closes what the routes share."""

    @abstractmethod
    async def _secret(self, name: CloudName) -> Secret:
        """Get the secret.  Raises ConfigError, and what a request raises."""

    async def _ask(self, name: CloudName) -> Secret | Outcome:
        try:
            return await self._secret(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        except Denied as denied:
            self._children.sessions.cooldown.start(payloads.sub_name(name), denied.meaning)
            return denied.meaning.outcome
        except MissingFromReply:
            return Unknown(reasons.MISSING_FROM_REPLY)
        except UNANSWERED as error:
            return unanswered_outcome(error)


class RegisteredRoute(AlibabaSubDeviceRoute):
    """The route "sub-device": the gateway's session vouches for the child."""

    async def _secret(self, name: CloudName) -> Secret:
        return await self._children.requests.register.submit(payloads.sub_name(name))


class ProductSecretRoute(AlibabaSubDeviceRoute):
    """The route "sub-device-secret": the secret of its product vouches for the child.

    It also takes over a child that was another gateway's.
    """

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        if (objection := super().check_name(name)) is not None:
            return objection
        return None if self._products[name.product].has_secret else reasons.NO_PRODUCT_SECRET

    async def _secret(self, name: CloudName) -> Secret:
        key, method = await self._account.product_secret(name), self._account.settings.sign_method
        entry = payloads.with_product_secret(name, key, method, self._account.nonce())
        return await self._children.requests.provision.submit(entry)


class KnownSecretRoute(AlibabaSubDeviceRoute):
    """The route "sub-device-known": an operator gives the child's own secret."""

    issued = False

    def __init__(self, account: AlibabaAccount, children: AlibabaSubDevices) -> None:
        super().__init__(account, children)
        self._refused: dict[CloudName, GivenSecret] = {}

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        if (objection := super().check_name(name)) is not None:
            return objection
        product = self._products[name.product]
        given = product.device_credentials or product.device_directory
        return None if given else reasons.NO_DEVICE_SECRETS

    async def check_ready(self, _: CloudName) -> Reason | None:
        """Return None: a registration does not ask the cloud."""
        return None

    async def _ask(self, name: CloudName) -> Secret | Outcome:
        try:
            return await self._secret(name)
        except ConfigError as error:
            return Refused(reasons.no_device_secret(str(error)))

    async def connect(self, name: CloudName, secret: Secret) -> SubDeviceSession:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed.

        Where a secret is refused, the one that is given is read again.
        """
        try:
            session = await super().connect(name, secret)
        except LoginRefused as error:
            given = self._refused.setdefault(name, self._given(name))
            replaced = await given.was_replaced(secret)
            refusal = given_secret_refused(error.reason, given.where)
            raise LoginRefused(refusal, stale=replaced) from error
        self._refused.pop(name, None)
        return session

    def is_replaced(self, name: CloudName, secret: Secret) -> bool:
        """Whether another secret was given when this one was refused."""
        return name in self._refused and self._refused[name].replaces(secret)

    async def _secret(self, name: CloudName) -> Secret:
        return await self._given(name).read()

    def _given(self, name: CloudName) -> GivenSecret:
        product = self._products[name.product]
        prefix, directory = product.device_credentials, product.device_directory
        credential = f"{prefix}{name.device}" if prefix else ""
        file = directory / name.device if directory else None
        return self._account.given_secret(credential, file)
