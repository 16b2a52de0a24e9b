"""The port of a cloud: how a child is registered, and how it is logged in.

A provider never decides when: it makes one attempt, and says how that ended.

What a cloud can do whose devices prove who they are by certificates that are issued here.

One way to register and log in a child at a cloud that has several.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.device.reason import NONE, Reason
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

KeepSecret: TypeAlias = Callable[[Secret], Awaitable[None]]
"""Makes a secret durable.  What it raises is passed on unchanged."""


class LoginError(Exception):
    """A login did not open a session."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


class LoginRefused(LoginError):
    """The cloud does not accept these credentials.

    stale: whether newer ones may be accepted, where these were never accepted before.
    """

    def __init__(self, reason: Reason, *, stale: bool = True) -> None:
        super().__init__(reason)
        self.stale = stale


class LoginFailed(LoginError):
    """The cloud did not answer, or not now."""


class LoginRemoved(LoginError):
    """The cloud has removed this child: it does not come back by itself."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a session ended.

    removed: the cloud has removed the child.
    """

    reason: Reason
    removed: bool = False


class Session(Protocol):
    """One child, logged in."""

    async def wait_closed(self) -> SessionEnd:
        """Return how the session ended, when it has."""

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine.

        That of a gateway takes leave of its children first, in at most 20 s more.
        """


class CloudRequestHandler(Protocol):
    """What a cloud may ask of the gateway, which decides.  Never blocks."""

    def permit_join(self, provider: str, seconds: int) -> None:
        """Open the join window for so many seconds; 0 closes it."""

    def approve(self, name: CloudName) -> None:
        """Somebody at the cloud wants this child to join."""

    def retry(self, name: CloudName) -> None:
        """What kept this child from logging in is gone."""


class CloudProvider(Protocol):
    """One configured cloud account.  Its class declares `Settings`, a frozen dataclass.

    own: the gateway's own name at this cloud; None if it needs none.  It is registered and
    logged in as a child is, before its children.
    """

    name: str
    gateway_name: CloudName | None

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Tell somebody what the cloud asks for, from now on."""

    def on_pending(self, name: CloudName) -> None:
        """A child of this name was found and waits for a yes: a cloud may want to know.

        Never blocks.
        """

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the cloud could not be asked for this name now, after a short wait.

        Nothing is asked, so that it costs no attempt; None if it may be tried.
        """

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret.

        Calls `keep` at most once, and disconnects after it has returned: a secret is durable
        before the cloud is told that it has arrived.  Cancelled: closes at once.
        """

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Tell when a secret is to be replaced, seconds since the epoch; None for never.

        Then `register` is called for a second secret, which takes the place of the first when a
        login with it has succeeded; until then the first must stay good.
        """

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""

    async def unbind(self, name: CloudName) -> Reason | None:
        """Loosen what binds a child to this gateway at the cloud; return why it was not done."""

    async def close(self) -> None:
        """Release what the provider holds."""


@runtime_checkable
class SupportsEnrolmentHint(Protocol):
    """A provider whose cloud may have to be told of a new secret before it accepts it."""

    def enrolment_hint(self, name: CloudName, secret: Secret) -> str:
        """Return what makes it known there, as an imperative; "" where nothing does."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """How a cloud account does, as far as its provider can tell.  What is left out is derived.

    endpoint: "host:port".  state: a word of org.gatewayd1.Provider; reason: why that.
    certificate_expiry: when the first certificate that it depends on expires, microseconds since
    the epoch; 0 where there is none.
    """

    endpoint: str = ""
    state: str = ""
    reason: Reason = NONE
    certificate_expiry: int = 0


@runtime_checkable
class SupportsStatus(Protocol):
    """A provider that can tell how its account does; not every one can."""

    def status(self) -> ProviderStatus:
        """Return how the account does now.  Never blocks."""


class CertificateIssuer(Protocol):
    """Issues certificates of one authority, for devices of one cloud."""

    authority: AuthorityStore

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        """Return the certificate for a request (PKCS #10, PEM), and that of its authority, PEM.

        name: the device whose subject it gets; None to take the request's own, if the cloud would
        take it.  days: 0 for as many as are configured.
        Raises InvalidArgs, WrongState, StoreError, ConfigError.
        """


@runtime_checkable
class SupportsDeviceCa(Protocol):
    """A provider that may have an issuer; None where that is not configured."""

    issuer: CertificateIssuer | None


class Route(Protocol):
    """As CloudProvider (cloud/provider.py), for the names of one route."""

    def check_name(self, name: CloudName) -> Reason | None: ...
    async def check_ready(self, name: CloudName) -> Reason | None: ...
    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome: ...
    async def connect(self, name: CloudName, secret: Secret) -> Session: ...
    async def unbind(self, name: CloudName) -> Reason | None: ...
    async def close(self) -> None: ...
