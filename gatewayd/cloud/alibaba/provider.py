"""Alibaba Cloud IoT Platform: each child takes the route that its rule names."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import ClassVar

from gatewayd.cloud.alibaba import messages, reasons
from gatewayd.cloud.alibaba.direct import Direct
from gatewayd.cloud.alibaba.route import Route
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.credential import ReadSecret
from gatewayd.cloud.provider import Keep, Outcome, Refused, Requests, Session
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

DEFAULT = "direct"


class Alibaba:
    """One account.  Implements CloudProvider.

    name: the provider's name in the configuration.
    read_secret: see cloud/credential.py.  random: so many bytes nobody can guess.
    Raises ConfigError.
    """

    Settings: ClassVar[type] = AlibabaSettings

    def __init__(
        self,
        name: str,
        settings: AlibabaSettings,
        read_secret: ReadSecret,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if problems := list(settings.problems()):
            raise ConfigError("\n".join(f"cloud.{name}: {problem}" for problem in problems))
        self.name = name
        self.own: CloudName | None = None
        self._requests: Requests | None = None
        self._routes: Mapping[str, Route] = {DEFAULT: Direct(settings, read_secret, random)}

    def listen(self, requests: Requests) -> None:
        """Tell somebody what the cloud asks for, from now on."""
        self._requests = requests

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        if (name.route or DEFAULT) not in self._routes:
            return reasons.NO_ROUTE
        if not messages.DEVICE_NAME.fullmatch(name.device):
            return reasons.BAD_NAME
        return self._route(name).why_not(name)

    async def obstacle(self, name: CloudName) -> Reason | None:
        """Tell why the cloud could not be asked for this name now."""
        return await self._route(name).obstacle(name)

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        """Ask the cloud once for the child's secret."""
        if (objection := self.why_not(name)) is not None:
            return Refused(objection)
        return await self._route(name).register(name, keep)

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""
        return await self._route(name).connect(name, secret)

    async def forget(self, name: CloudName) -> Reason | None:
        """Loosen what binds a child to this gateway at the cloud."""
        return await self._route(name).forget(name)

    async def close(self) -> None:
        """Release what the routes hold."""
        for route in self._routes.values():
            await route.close()

    def _route(self, name: CloudName) -> Route:
        return self._routes[name.route or DEFAULT]
