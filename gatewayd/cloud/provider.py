"""The port of a cloud: how a child is registered, and how it is logged in.

A provider never decides when: it makes one attempt, and says how that ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret


@dataclass(frozen=True, slots=True)
class Issued:
    """The cloud issued a secret, and `keep` has returned."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The cloud said no, and would say it again: somebody has to act."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was issued, and trying again later may help."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The cloud may have issued a secret that did not arrive.  Never treated as Failed."""

    reason: Reason


Outcome: TypeAlias = Issued | Refused | Failed | Unknown

NO_PROVIDER = Reason(
    "provider-not-configured",
    "The cloud of this child is not configured.",
    "Configure it under [cloud], correct the rule, or forget the child.",
)
"""A name leads to no provider."""

Keep: TypeAlias = Callable[[Secret], Awaitable[None]]
"""Makes a secret durable.  What it raises is passed on unchanged."""


class LoginError(Exception):
    """A login did not open a session."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


class LoginRefused(LoginError):
    """The cloud does not accept these credentials."""


class LoginFailed(LoginError):
    """The cloud did not answer, or not now."""


class Session(Protocol):
    """One child, logged in."""

    async def wait_closed(self) -> Reason:
        """Return why the session ended, when it has."""

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine."""


class CloudProvider(Protocol):
    """One configured cloud account.  Its class declares `Settings`, a frozen dataclass."""

    name: str

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        """Ask the cloud once for the child's secret.

        Calls `keep` at most once, and disconnects after it has returned: a secret is durable
        before the cloud is told that it has arrived.  Cancelled: closes at once.
        """

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once.  Raises LoginRefused, LoginFailed."""

    async def close(self) -> None:
        """Release what the provider holds."""
