"""What a code of a cloud asks for, and what follows from that: tables.  Pure.

Why a child of a gateway cannot be served, and what an operator can do.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

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


class ResultKind(StrEnum):
    """What a code asks for."""

    DONE = "done"
    TRANSIENT = "transient"  # try again later
    PERMANENT = "permanent"  # it would be refused again: a fault of gatewayd or its settings
    OPERATOR = "operator"  # it would be refused again until somebody changes something
    REMOVED = "removed"  # the child is gone at the cloud
    REREGISTER = "reregister"  # the child's secret is not valid
    TOPOLOGY = "topology"  # add the child to the topology, and try once more
    EXISTS = "exists"  # the cloud has it already: look whose it is
    DISABLED = "disabled"  # wait until the cloud enables the child
    CONFLICT = "conflict"  # somebody else uses the child's name
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
    """One code, explained.

    wait: seconds for which the cloud is not to be asked about this child; 0 for what its kind
    wants.
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
        # What is tried again without anybody's doing has failed; the rest is refused.
        return (Failed if self.kind in _LATER else Refused)(self.reason)

    @property
    def login_error(self) -> LoginError:
        """What to raise for a login that was denied so."""
        return _LOGIN_ERRORS.get(self.kind, LoginFailed)(self.reason)


class Denied(Exception):
    """The cloud answered with a code that is not success: it has done nothing for this child."""

    def __init__(self, code: int | str, meaning: ResultMeaning) -> None:
        super().__init__(code)
        self.code, self.meaning = code, meaning


NO_GATEWAY = Reason(
    "route-not-available",
    "Its rule names a route through the gateway's own session, and there is none.",
    "Describe the gateway in the table 'gateway' of the cloud, or correct 'route' in the rule.",
)
NOT_CONFIGURED = Reason(
    "gateway-not-configured",
    "The gateway's own name is not configured for this cloud any more.",
    "Configure the table 'gateway' of this cloud, or forget the gateway's device.",
)
GATEWAY_FULL = Reason(
    "gateway-full",
    "The gateway has as many children as the cloud lets it have.",
    "Forget children that are not needed, or use another gateway.",
)
STOPPED = Reason("stopping", "gatewayd is stopping.")
NO_ANSWER = Reason("cloud-no-answer", "The cloud did not answer the gateway in time.")
LINK_LOST = Reason("gateway-link-lost", "The gateway's own session ended meanwhile.")
NOT_SENT = Reason("gateway-offline", "The gateway itself is not logged in at the cloud.")
FORGOTTEN = Reason("forgotten", "The child was taken off the gateway.")
REMOVED = Reason(
    "cloud-removed",
    "The child was deleted at the cloud, or taken from this gateway.",
    "If it is to come back, create it again, and call Approve.",
)

UNANSWERED = (LinkError, BatcherClosed)
"""What a call raises that has no answer."""

_UNANSWERED: Sequence[tuple[type[Exception], Reason]] = (
    (BatcherClosed, STOPPED),
    (NoAnswer, NO_ANSWER),
    (NotSent, NOT_SENT),
    (LinkError, LINK_LOST),
)


def unanswered(error: Exception) -> Reason:
    """Return why there is no answer."""
    return next(reason for kind, reason in _UNANSWERED if isinstance(error, kind))


def unanswered_outcome(error: Exception) -> Outcome:
    """Return how a registration ended that has no answer."""
    reason = unanswered(error)
    return Failed(reason) if isinstance(error, NotSent) else Unknown(reason)


def gateway_offline(gateway: str, state: Reason | None) -> Reason:
    """Return why no child can be served.  gateway: its device id.  state: what ails it."""
    told = f": {state}" if state else "."
    return Reason(
        "gateway-offline",
        "The gateway itself is not logged in at the cloud.",
        f"Look at {gateway}{told}",
    )


def no_gateway_secret(text: str) -> Reason:
    """Return why the gateway's own secret cannot be used; `text` names the file."""
    return Reason("gateway-secret-unusable", text, "Put it right, then call Retry.")
