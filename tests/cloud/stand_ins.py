"""Substitutes around a provider under test: the request handler, clocks, a counter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from gatewayd.cloud.command_router import CommandRouter
from gatewayd.cloud.provider import CloudProvider, CloudRequestHandler, KeepSecret, Outcome, Session
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device.command import ChildCommand, CommandAnswer
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.rate_limiter import RateLimiter


class NoForm:
    """The form of a cloud that has no commands."""

    has_copies = False

    def read(self, _topic: str, _payload: bytes) -> None:
        return None

    def write(self, _child: Hashable, _command: ChildCommand, _answer: CommandAnswer) -> None:
        return None


def commands_of_no_kind() -> CommandRouter[Any]:
    async def send(_child: Hashable, _mapped: MappedMessage) -> bool:
        return False

    return CommandRouter(NoForm(), send, "cloud", time.monotonic)


@dataclass
class Wishes:
    """What the cloud asked for.  Implements Requests."""

    permitted: list[tuple[str, int]] = field(default_factory=list)
    names: list[CloudName] = field(default_factory=list)
    again: list[CloudName] = field(default_factory=list)

    def permit_join(self, provider: str, seconds: int) -> None:
        self.permitted.append((provider, seconds))

    def approve(self, name: CloudName) -> None:
        self.names.append(name)

    def retry(self, name: CloudName) -> None:
        self.again.append(name)


@dataclass
class ManualClock:
    """The time of day, and a steady clock that a test may put forward."""

    ahead: float = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead


class Steps:
    """A clock that goes on by a second with each look, so that nothing waits for limits."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        self._now += 1.0
        return self._now


class CountLimit:
    """A limit of how many messages leave, whatever their size.  Implements PublicationLimit."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def acquire(self, _: int, ended: asyncio.Future[Any]) -> None:
        """Return when a message may leave.  Raises TooManyWaiting."""
        await self._limiter.acquire(1, ended)

    def arrived(self, size: int) -> None:
        """Do nothing: a message counts when it leaves."""


class Counted:
    """A provider that counts the calls for children which are under way.  Passes all on."""

    def __init__(self, provider: CloudProvider) -> None:
        self._provider = provider
        self.name, self.gateway_name = provider.name, provider.gateway_name
        self.under_way = 0

    def set_requests(self, requests: CloudRequestHandler) -> None:
        self._provider.set_requests(requests)

    def on_pending(self, name: CloudName) -> None:
        self._provider.on_pending(name)

    def check_name(self, name: CloudName) -> Reason | None:
        return self._provider.check_name(name)

    async def check_ready(self, name: CloudName) -> Reason | None:
        return await self._provider.check_ready(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        self.under_way += 1
        try:
            return await self._provider.register(name, keep)
        finally:
            self.under_way -= 1

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        return self._provider.renew_at(name, secret)

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        self.under_way += 1
        try:
            return await self._provider.connect(name, secret)
        finally:
            self.under_way -= 1

    async def unbind(self, name: CloudName) -> Reason | None:
        return await self._provider.unbind(name)

    async def close(self) -> None:
        await self._provider.close()
