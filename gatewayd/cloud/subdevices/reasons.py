"""Why a child of a gateway cannot be served, and what an operator can do.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gatewayd.cloud.batch import Stopped
from gatewayd.cloud.provider import Failed, Outcome, Unknown
from gatewayd.cloud.subdevices.link import LinkError, NoAnswer, NotSent
from gatewayd.device.reason import Reason

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

UNANSWERED = (LinkError, Stopped)
"""What a call raises that has no answer."""

_UNANSWERED: Sequence[tuple[type[Exception], Reason]] = (
    (Stopped, STOPPED),
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
