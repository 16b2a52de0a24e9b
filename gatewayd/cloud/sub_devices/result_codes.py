"""What a result code of a cloud means for a child of a gateway, and what follows.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from gatewayd.cloud.batch import BatcherClosed
from gatewayd.cloud.provider import (
    Failed,
    LoginError,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.cloud.sub_devices.link import LinkError, NoAnswer, NotSent
from gatewayd.device.reason import Reason

Key = TypeVar("Key", bound=Hashable)


class ResultKind(StrEnum):
    """What a code means, in terms of what to do."""

    DONE = "done"
    TRANSIENT = "transient"  # try again later
    PERMANENT = "permanent"  # it would be refused again: a fault of gatewayd or its settings
    OPERATOR = "operator"  # it would be refused again until an operator changes something
    REMOVED = "removed"  # the child is gone at the cloud
    REREGISTER = "reregister"  # the child's secret is not valid
    TOPOLOGY = "topology"  # add the child to the topology, and try once more
    EXISTS = "exists"  # the cloud has it already: find out whose it is
    DISABLED = "disabled"  # wait until the cloud enables the child
    CONFLICT = "conflict"  # another client uses the child's name
    UNKNOWN = "unknown"  # not documented: refused for a while, then one more try


_PAUSES: Mapping[ResultKind, float] = {
    ResultKind.CONFLICT: 300.0,  # two gateways would take the child from each other for ever
    ResultKind.UNKNOWN: 600.0,
}
_LATER = frozenset({ResultKind.TRANSIENT, ResultKind.UNKNOWN, ResultKind.DISABLED})
_LOGIN_ERRORS: Mapping[ResultKind, type[LoginError]] = {
    ResultKind.REREGISTER: LoginRefused,
    ResultKind.REMOVED: LoginRemoved,
}


@dataclass(frozen=True, slots=True)
class ResultMeaning:
    """The meaning of one code.

    wait: seconds for which the cloud is not to be asked about this child; 0 for those of its kind.
    """

    kind: ResultKind
    reason: Reason
    wait: float = 0.0

    @property
    def pause(self) -> float:
        """Seconds for which the cloud is not to be asked about this child."""
        return self.wait or _PAUSES.get(self.kind, 0.0)

    @property
    def outcome(self) -> Outcome:
        """How a registration ended that was denied so."""
        # What is tried again by itself has failed; the rest is refused.
        return (Failed if self.kind in _LATER else Refused)(self.reason)

    @property
    def login_error(self) -> LoginError:
        """What to raise for a login that was denied so."""
        return _LOGIN_ERRORS.get(self.kind, LoginFailed)(self.reason)


class Denied(Exception):
    """The cloud answered with a code other than success: it has done nothing for this child."""

    def __init__(self, code: int | str, meaning: ResultMeaning) -> None:
        super().__init__(code)
        self.code, self.meaning = code, meaning


class MissingFromReply(Exception):
    """The cloud answered with success, and the reply does not name this child."""


NO_GATEWAY = Reason(
    "route-not-available",
    "The rule names a route over the gateway's session, and this cloud has no gateway.",
    "Add the table 'gateway' to the cloud, or correct 'route' in the rule; then run gatewayctl "
    "reload.",
)
NOT_CONFIGURED = Reason(
    "gateway-not-configured",
    "The gateway's name is no longer configured for this cloud.",
    "Configure the table 'gateway' of this cloud, then run gatewayctl reload; or run "
    "gatewayctl forget CHILD.",
)
GATEWAY_FULL = Reason(
    "gateway-full",
    "The gateway has as many children as the cloud allows.",
    "Forget children that are not needed, or use another gateway.",
)
STOPPED = Reason("stopping", "gatewayd is stopping.")
NO_ANSWER = Reason("cloud-no-answer", "The cloud did not answer the gateway in time.")
LINK_LOST = Reason("gateway-link-lost", "The gateway's session ended meanwhile.")
NOT_SENT = Reason("gateway-offline", "The gateway is not logged in at the cloud.")
FORGOTTEN = Reason("forgotten", "The child was removed from the gateway.")
REMOVED = Reason(
    "cloud-removed",
    "The child was deleted at the cloud, or taken from this gateway.",
    "To get it back, create it again, and run gatewayctl approve CHILD.",
)


class Cooldown(Generic[Key]):
    """The children that the cloud is not to be asked about for a while.

    now: seconds of a steady clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[Key, tuple[float, Reason]] = {}

    def start(self, name: Key, meaning: ResultMeaning) -> None:
        """Begin the cooldown that follows from this result, if any does."""
        if meaning.pause:
            self._forget_old()
            self._until[name] = self._now() + meaning.pause, meaning.reason

    def reason(self, name: Key) -> Reason | None:
        """Return why the cloud is not to be asked yet; None if it may be."""
        until, reason = self._until.get(name, (0.0, None))
        return reason if until > self._now() else None

    def end(self, name: Key) -> None:
        """End the cooldown of a child."""
        self._until.pop(name, None)

    def _forget_old(self) -> None:
        """Keep the table as small as what cools down now, which the gateway's limit bounds."""
        now = self._now()
        self._until = {name: one for name, one in self._until.items() if one[0] > now}


UNANSWERED = (LinkError, BatcherClosed)
"""What a request raises that has no reply."""

_UNANSWERED: Sequence[tuple[type[Exception], Reason]] = (
    (BatcherClosed, STOPPED),
    (NoAnswer, NO_ANSWER),
    (NotSent, NOT_SENT),
    (LinkError, LINK_LOST),
)


def unanswered(error: Exception) -> Reason:
    """Return why there is no reply."""
    return next(reason for kind, reason in _UNANSWERED if isinstance(error, kind))


def unanswered_outcome(error: Exception) -> Outcome:
    """Return how a registration ended that has no reply."""
    reason = unanswered(error)
    return Failed(reason) if isinstance(error, NotSent) else Unknown(reason)


def gateway_offline(gateway: str, state: Reason | None) -> Reason:
    """Return why no child can be served.  gateway: its device id.  state: why it is offline."""
    cause = f": {state}" if state else "."
    return Reason(
        "gateway-offline",
        "The gateway is not logged in at the cloud.",
        f"Check device {gateway}{cause}",
    )


def no_gateway_secret(text: str) -> Reason:
    """Return why the gateway's secret cannot be used; `text` names the file."""
    return Reason("gateway-secret-unusable", text, "Correct this, then run gatewayctl reload.")


def given_secret_refused(reason: Reason, where: str) -> Reason:
    """Return why a secret is refused that an operator gives: what to do is to give another one.

    where: as "the file /etc/gatewayd/secret".
    """
    remedy = f"Check the secret of this device, {where}, then run gatewayctl reload."
    return replace(reason, remedy=f"{remedy} {reason.remedy}".strip())
