"""The port of a cloud: what gatewayd asks of a provider, and what a provider may ask of gatewayd.

For authors of a new cloud.  A class that implements CloudProvider, and declares `Settings` and the
`port_version` of PORTS in gatewayd/plugins.py, is registered as an entry point; its tests inherit
gatewayd/testing/contracts/cloud.py.

A provider never decides when: each method makes one attempt, and reports how it ended.  gatewayd
calls them in this order, for the gateway's own name first if there is one:

    check_name → check_ready → register → connect → … → unbind, close

Every reason is a Reason: a code for programs, a text and a remedy for people.  The optional
abilities are the protocols named SupportsX below, and SupportsPreflight in cloud/preflight.py.
A cloud with several ways to register and log in has a Route for each: see
cloud/routed_provider.py, and cloud/sub_devices/ for children behind the gateway's session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from gatewayd.ca.bundle import Bundle
from gatewayd.cloud.ca.identity import CertificateIdentity
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.device.command import ChildCommand, CommandAnswer
from gatewayd.device.message import Message
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

# How a registration ends.


@dataclass(frozen=True, slots=True)
class Issued:
    """The cloud issued a secret, and `keep` has returned."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The cloud refused, and would refuse again until an operator acts."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was issued; another attempt later may succeed."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The cloud may have issued a secret that did not arrive.  Never treated as Failed."""

    reason: Reason


Outcome: TypeAlias = Issued | Refused | Failed | Unknown

KeepSecret: TypeAlias = Callable[[Secret], Awaitable[None]]
"""Makes a secret durable.  What it raises is passed on unchanged."""


# How a login fails, and how a session ends.


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
    """The cloud did not answer, or cannot accept the login now."""


class LoginRemoved(LoginError):
    """The cloud has removed this child: it does not come back by itself."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a session ended.

    removed: whether the cloud has removed the child.
    by_cloud: whether the cloud ended it, over a path that was alive, as it does with the older of
    two sessions of one device.
    """

    reason: Reason
    removed: bool = False
    by_cloud: bool = False


class Session(Protocol):
    """A child that is logged in."""

    async def wait_closed(self) -> SessionEnd:
        """Wait for the end of the session; return how it ended."""

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine.

        A gateway's session logs its children out first, in at most 20 s more.
        """


# How a message of a child reaches the cloud.


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """The cloud has the message."""


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The cloud refused the message, or has no topic for it, and would refuse it again."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class MessageDelayed:
    """The cloud may have the message, or not: it is to be published again, before later ones.

    left: whether it may have left; if it has not, it has cost nothing.
    """

    reason: Reason
    left: bool = True


Publication: TypeAlias = MessageAccepted | MessageRefused | MessageDelayed
"""How the publication of a message ended."""


@runtime_checkable
class SupportsMessages(Protocol):
    """A session over which its child can speak."""

    @property
    def max_payload(self) -> int:
        """Bytes of the largest payload that the cloud may take from this child."""

    async def publish(self, message: Message) -> Publication:
        """Publish a message once; return when the cloud has acknowledged or refused it.

        Messages leave in the order of the calls, of which several may be under way; each keeps to
        the cloud's rate limits by waiting.  A session that ends returns MessageDelayed at once.
        Cancelled: the message may have been sent.
        """


@runtime_checkable
class SharesConnection(Protocol):
    """A session whose connection carries sessions of other children, too: they take turns on it.

    connection: an object that all of them have in common.
    """

    connection: object


CommandHandler: TypeAlias = Callable[[ChildCommand], None]
"""Handles a command that has arrived.  Never blocks, never raises."""


@runtime_checkable
class SupportsCommands(Protocol):
    """A session over which its child can be commanded."""

    def receive_commands(self, handler: CommandHandler | None) -> None:
        """Have each command handled from now on; None: the child receives no commands.

        Until this is called, and after None, the session refuses commands by itself at once, as
        NO_LISTENER, where the cloud waits for an answer.
        """

    async def answer(self, command: ChildCommand, answer: CommandAnswer) -> bool:
        """Answer a command once; return whether the cloud has acknowledged the answer.

        Answers do not wait behind messages of children.  A command of which the cloud awaits no
        answer, or none of this kind (Alibaba's RRPC knows no negative one), returns True at once.
        A session that ends returns False.
        """


@runtime_checkable
class ExpectsCommands(Protocol):
    """A session of a cloud that has room for the commands of some children of a gateway only."""

    def expect_commands(self, *, expected: bool) -> None:
        """Note whether the child may get any command at all: such children come first."""


# The provider.


class CloudRequestHandler(Protocol):
    """The handler of what a cloud asks of the gateway, which decides.  Never blocks."""

    def permit_join(self, provider: str, seconds: int) -> None:
        """Open the join window for so many seconds; 0 closes it."""

    def approve(self, name: CloudName) -> None:
        """Let this child join: a user of the cloud requests it."""

    def retry(self, name: CloudName) -> None:
        """Let this child log in again: what kept it from that is gone."""


class CloudProvider(Protocol):
    """One configured cloud account.  Its class declares `Settings`, a frozen dataclass.

    name: in the configuration.
    gateway_name: the gateway's own name at this cloud; None if it needs none.  It is registered
    and logged in as a child is, before its children.
    """

    name: str
    gateway_name: CloudName | None

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Set what handles the requests of the cloud from now on."""

    def on_pending(self, name: CloudName) -> None:
        """Note that a child waits for approval, for a cloud that wants to know.  Never blocks."""

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the cloud could not be asked for this name now, after a short wait.

        Asks the cloud nothing, so that it costs no attempt; None if it may be tried.
        """

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask the cloud once for the child's secret.

        Calls `keep` at most once, and disconnects after it has returned: a secret is durable
        before the cloud learns that it has arrived.  Cancelled: closes at once.
        """

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return when to replace a secret, seconds since the epoch; None for never.

        Then `register` is called for a second secret, which takes the place of the first when a
        login with it has succeeded; until then the first must stay good.
        """

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed."""

    async def unbind(self, name: CloudName) -> Reason | None:
        """Remove what binds a child to this gateway at the cloud; return why that failed."""

    async def close(self) -> None:
        """Release what the provider holds."""


NO_PROVIDER = Reason(
    "provider-not-configured",
    "The cloud of this child is not configured.",
    "Configure it under [cloud], or correct the rule, then run gatewayctl reload; or run "
    "gatewayctl forget CHILD.",
)
"""A name leads to no provider."""


class Route(Protocol):
    """One way to register and log in.  Each method is that of CloudProvider, for its names."""

    def check_name(self, name: CloudName) -> Reason | None: ...
    async def check_ready(self, name: CloudName) -> Reason | None: ...
    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome: ...
    async def connect(self, name: CloudName, secret: Secret) -> Session: ...
    async def unbind(self, name: CloudName) -> Reason | None: ...
    async def close(self) -> None: ...


# Optional abilities of a provider.


@dataclass(frozen=True, slots=True)
class Credential:
    """What a child's holder logs in with, in place of gatewayd.  Never shown: it holds secrets.

    host, port: of the endpoint; TLS verifies this name.  address: to connect to; "" for the host.
    ca: trusted roots, PEM; "" for those of the system.
    client_id, user, password: of the CONNECT, ready to be sent.
    certificate, key: to show in the TLS handshake, PEM; "" where the password proves the child.
    topics: of the child at the cloud, by "prefix" of all of them, "properties" for what it reports,
    and "set", a filter for what the cloud wants to set.
    valid_until: when it expires, seconds since the epoch; None where it does not.
    """

    host: str
    port: int
    client_id: str
    user: str
    topics: Mapping[str, str]
    address: str = ""
    ca: str = ""
    password: Secret = field(default_factory=lambda: Secret(b""))
    certificate: str = ""
    key: Secret = field(default_factory=lambda: Secret(b""))
    valid_until: float | None = None


@runtime_checkable
class SupportsAnswers(Protocol):
    """A provider whose children are commanded, and may answer in the form of their cloud."""

    def is_answer(self, topic: str) -> bool:
        """Whether only answers have this topic: then one that is not awaited is no message.

        topic: as `ChildCommand.reply_topic`.
        """

    def identifier_in(self, payload: bytes) -> str:
        """Return the identifier that an answer shows, where its topic does not; "" for none."""

    def is_success(self, command: ChildCommand, payload: bytes) -> bool:
        """Whether an answer says that the child could do it: for the log, and operators."""


@runtime_checkable
class SupportsHandOver(Protocol):
    """A provider to which others than gatewayd can log in, with the secrets of some routes."""

    @classmethod
    def hands_over(cls, route: str) -> bool:
        """Whether a child of this route, "" for the default one, has a session of its own."""

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with.  Asks the cloud nothing.

        Raises StoreError where the secret is none of this route, and ConfigError.
        """


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """The status of a cloud account, as far as its provider knows it.  Empty fields are derived.

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
    """A provider that knows the status of its account."""

    def status(self) -> ProviderStatus:
        """Return the status of the account now.  Never blocks."""


@runtime_checkable
class SupportsEnrolmentHint(Protocol):
    """A provider whose cloud may accept a new secret only after an operator has enrolled it."""

    def enrolment_hint(self, name: CloudName, secret: Secret) -> str:
        """Return how to enrol it at the cloud, as an imperative; "" where that is not needed."""


@runtime_checkable
class SupportsPieces(Protocol):
    """A provider some of whose names depend on one session, as sub-devices on their gateway's."""

    def piece(self, name: CloudName) -> str:
        """Return what all names have in common that only one gateway of a site can have at a time.

        "" for a name that may move to another gateway alone.
        """


@runtime_checkable
class SupportsReread(Protocol):
    """A provider that keeps what it has read from files that its settings name."""

    async def reread(self) -> None:
        """Have these files read again where they have changed: a reload was requested.

        What cannot be used is logged; an operator may correct it, and request another reload.
        """


@runtime_checkable
class SupportsReplacement(Protocol):
    """A route to log in by secrets that an operator gives, and may replace."""

    def is_replaced(self, name: CloudName, secret: Secret) -> bool:
        """Whether another secret than this one was given when that was last read.  Never blocks."""


class CertificateIssuer(Protocol):
    """The issuer of certificates of one authority, for devices of one cloud."""

    authority: AuthorityStore

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        """Return the certificate for a request (PKCS #10, PEM), and that of its authority, PEM.

        name: the device whose subject it gets; None to use the request's own subject, if the cloud
        would accept it.  days: 0 for as many as are configured.
        Raises InvalidArgs, WrongState, StoreError, ConfigError.
        """


@runtime_checkable
class AcceptsCertificates(Protocol):
    """An issuer whose devices may also have certificates that were made elsewhere.

    renew_before: days before its end at which a certificate is renewed.
    """

    renew_before: int

    async def accept(
        self, bundle: Bundle, name: CloudName | None, device_id: str
    ) -> tuple[CloudName, CertificateIdentity]:
        """Return whose certificate it is that an operator gives, and the identity to keep.

        name: the device that is meant; None for the one that the certificate says.
        device_id: of the device at the cloud, where the certificate does not say it; else "".
        Raises InvalidArgs where the device cannot log in with it, and ConfigError.
        """

    def uses_certificate(self, name: CloudName) -> bool:
        """Whether the route of a device, "" for the default one, logs in by its certificate."""


@runtime_checkable
class SupportsDeviceCa(Protocol):
    """A provider whose devices may log in by certificates that are issued here.

    issuer: None where that is not configured.
    """

    issuer: CertificateIssuer | None
