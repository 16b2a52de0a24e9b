"""The routes "sub-device…": children that the gateway registers and logs in over its own session.

They are devices of node type "gateway sub-device", created in the console before.  The routes
differ in where a child's secret comes from; the rest, all sub-devices of one gateway, is shared.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.commanding.commands import AlibabaCommands
from gatewayd.cloud.alibaba.commanding.subscriptions import CommandSubscriptions
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.downlink import AlibabaDownlink, FoundDeviceReporter
from gatewayd.cloud.alibaba.payloads import sub_name
from gatewayd.cloud.alibaba.requests import AlibabaRequests
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaSettings
from gatewayd.cloud.alibaba.sub_device_sessions import (
    AlibabaSubDeviceSessions,
    SessionCheck,
    Signing,
)
from gatewayd.cloud.command_router import ChildCommands, CommandRouter
from gatewayd.cloud.credentials import GivenSecret
from gatewayd.cloud.provider import (
    CloudRequestHandler,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.cloud.sub_devices.link import GatewayLink, NotSent
from gatewayd.cloud.sub_devices.link_monitor import LinkMonitor
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
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)


class AlibabaSubDevices:
    """All sub-devices of one gateway.

    provider: its name in the configuration.  own: the gateway.
    commands: those of the gateway and of its children.
    """

    def __init__(
        self,
        provider: str,
        settings: AlibabaSettings,
        own: AlibabaGateway,
        link: GatewayLink[AlibabaUplink],
        clock: Clock,
    ) -> None:
        self._link, self._reports_found = link, own.report_found
        self.requests = AlibabaRequests(link, clock.now)
        signing = Signing(settings, clock.timestamp)
        self._own = SubName(own.product, own.device)
        self._subscriptions = CommandSubscriptions(link)
        self.commands = CommandRouter(
            AlibabaCommands(), self._answer, provider, clock.now, self._subscribe
        )
        self.sessions = AlibabaSubDeviceSessions(
            link, self.requests, signing, self.commands, own.children, clock.now
        )
        self._reporter = FoundDeviceReporter(self.requests.report_found)
        self._check = SessionCheck(self.sessions, clock.now)
        self._downlink = AlibabaDownlink(
            provider, self.sessions, self._check, settings.products, own.children
        )
        self._monitor = LinkMonitor(provider, link, self._downlink, own.children)

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Set what handles the requests of the cloud from now on."""
        self._downlink.handler = requests

    def serve_over(self, uplink: AlibabaUplink) -> None:
        """Serve the children over the gateway's new session from now on."""
        self._link.put(uplink)
        self._monitor.update()
        self._subscriptions.begin()

    def set_gateway_reason(self, reason: Reason | None) -> None:
        """Set why the gateway is not logged in, for the children's reasons; None if not known."""
        self._monitor.offline_reason = reason

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the cloud cannot be asked for this child now, after a short wait."""
        if (cooling := self.sessions.cooldown.reason(sub_name(name))) is not None:
            return cooling
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Return why the gateway is not online, after a short wait; None if it is."""
        return await self._monitor.offline(name)

    def on_pending(self, name: CloudName) -> None:
        """Report to the cloud that a child waits, where the configuration says so."""
        if self._reports_found:
            self._reporter.report(sub_name(name))

    async def _answer(self, child: SubName, mapped: MappedMessage) -> bool:
        """Answer a command over the gateway's newest session."""
        limit = None if child == self._own else self.sessions.limit_of(child)
        try:
            return await self._link.get().answer_command(mapped, limit)
        except NotSent:
            return False

    def _subscribe(self, child: SubName, commands: ChildCommands) -> None:
        """Subscribe to a child's commands, or not any more; the gateway's own always are."""
        if child != self._own:
            self._subscriptions.want(child, commands)

    async def close(self) -> None:
        """End what is under way."""
        await self._subscriptions.close()
        await self._reporter.close()
        await self._monitor.close()
        await self._check.close()
        await self.sessions.close()


class AlibabaSubDeviceRoute(ABC):
    """A route for sub-devices of the gateway.  Implements Route."""

    issued = True
    """Whether the secrets come from the cloud."""

    def __init__(self, account: AlibabaAccount, children: AlibabaSubDevices) -> None:
        self._account, self._children = account, children
        self._products = account.settings.products

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        if (objection := self._account.check_name(name)) is not None:
            return objection
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
        return super().check_name(name) or self._account.check_secret(name)

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
