"""The routes "sub-device…": children that the gateway registers and logs in over its own session.

They are devices of node type "gateway sub-device", created in the console before.  The routes
differ in what a child's secret comes from; the rest is the same.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba import reasons as child_reasons
from gatewayd.cloud.alibaba.requests import NotListed
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.sub_devices import AlibabaSubDevices
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.provider import Issued, KeepSecret, LoginFailed, Outcome, Refused, Unknown
from gatewayd.cloud.sub_devices.result_codes import (
    GATEWAY_FULL,
    UNANSWERED,
    Denied,
    unanswered_outcome,
)
from gatewayd.cloud.sub_devices.sessions import SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

_RANDOM_BYTES = 8


class AlibabaSubDeviceRoute(ABC):
    """Implements Route.  read_secret: see cloud/credential.py; called off the loop."""

    issued = True
    """Whether the secrets come from the cloud."""

    def __init__(
        self, settings: AlibabaSettings, children: AlibabaSubDevices, read_secret: ReadSecret
    ) -> None:
        self._settings, self._children, self._read_secret = settings, children, read_secret

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        if name.product not in self._settings.products:
            return reasons.NO_PRODUCT
        room = self._children.family.topology.has_room(payloads.sub_name(name))
        return None if room else GATEWAY_FULL

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the cloud could not be asked for this name now: the gateway must be online."""
        return await self._children.check_ready(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask for the child's secret, as Route says; with others, where there are any."""
        self._children.family.expect(payloads.sub_name(name))
        secret = await self._ask(name)
        if isinstance(secret, Refused):
            self._children.family.topology.spare(payloads.sub_name(name))
        if not isinstance(secret, Secret):
            return secret
        await keep(secret)
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> SubDeviceSession:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""
        if (check_ready := await self._children.check_ready(name)) is not None:
            raise LoginFailed(check_ready)
        return await self._children.family.connect(name, secret, issued=self.issued)

    async def unbind(self, name: CloudName) -> Reason | None:
        """Take the child out of the gateway's topology; return why that was not done."""
        if (offline := await self._children.offline(name)) is not None:
            return offline
        return await self._children.family.unbind(name)

    async def close(self) -> None:  # noqa: B027  # not for subclasses to fill
        """What the routes share is closed by whoever made it."""

    @abstractmethod
    async def _secret(self, name: CloudName) -> Secret:
        """Get the secret.  Raises ConfigError, Denied, NotListed, and what a call raises."""

    async def _ask(self, name: CloudName) -> Secret | Outcome:
        try:
            return await self._secret(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        except Denied as denied:
            self._children.family.pauses.note(payloads.sub_name(name), denied.meaning)
            return denied.meaning.outcome
        except NotListed:
            return Unknown(child_reasons.NOT_LISTED)
        except UNANSWERED as error:
            return unanswered_outcome(error)


class RegisteredRoute(AlibabaSubDeviceRoute):
    """The route "sub-device": the gateway's session vouches for the child."""

    async def _secret(self, name: CloudName) -> Secret:
        return await self._children.calls.register.submit(payloads.sub_name(name))


class ProductSecretRoute(AlibabaSubDeviceRoute):
    """The route "sub-device-secret": the secret of its product vouches for the child.

    It also takes over a child that was another gateway's.  random: as of Direct.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        children: AlibabaSubDevices,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(settings, children, read_secret)
        self._random = random

    async def _secret(self, name: CloudName) -> Secret:
        product = self._settings.products[name.product]
        key = await asyncio.to_thread(
            self._read_secret, product.secret_credential, product.secret_file
        )
        method, random = self._settings.sign_method, self._random(_RANDOM_BYTES).hex()
        entry = payloads.with_product_secret(name, key, method, random)
        return await self._children.calls.provision.submit(entry)


class KnownSecretRoute(AlibabaSubDeviceRoute):
    """The route "sub-device-known": an operator gives the child's own secret."""

    issued = False

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        if (objection := super().check_name(name)) is not None:
            return objection
        product = self._settings.products[name.product]
        given = product.device_credentials or product.device_directory
        return None if given else child_reasons.NO_DEVICE_SECRETS

    async def check_ready(self, _: CloudName) -> Reason | None:
        """The cloud is not asked."""
        return None

    async def _ask(self, name: CloudName) -> Secret | Outcome:
        try:
            return await self._secret(name)
        except ConfigError as error:
            return Refused(child_reasons.no_device_secret(str(error)))

    async def _secret(self, name: CloudName) -> Secret:
        product = self._settings.products[name.product]
        prefix, directory = product.device_credentials, product.device_directory
        credential = f"{prefix}{name.device}" if prefix else ""
        file = directory / name.device if directory else None
        return await asyncio.to_thread(self._read_secret, credential, file)
