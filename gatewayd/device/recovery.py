"""What the durable facts say: after a restart, and when a login is refused."""

from __future__ import annotations

from dataclasses import replace

from gatewayd.device.lifecycle import Event, RegistrationRefused, SecretStale, SessionDelayed, State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Record, Verdict
from gatewayd.errors import (
    RecordChanged,
    StoreError,
    StoreFull,
    StoreRolledBack,
    StoreSealed,
    StoreUnavailable,
)

MAX_STALE = 3
"""How often a first login may be refused before somebody has to look."""

SECRET_LOST = Reason(
    "secret-lost",
    "The cloud knows this child by a secret that this gateway no longer has.",
    "Reset the child at the cloud, or empty its fingerprint there if it is known by a certificate; "
    "then call Reregister.",
    "needs-reset",
)
REPEATEDLY_STALE = Reason(
    "secret-repeatedly-stale",
    "The cloud refused each secret at the first login, though it had just issued it.",
    "Look whether somebody else registers the same device name, then call Retry.",
)


def on_refused_login(record: Record, reason: Reason, *, stale: bool = True) -> Event:
    """Judge a refused login: a stale secret is replaced, one that was used never is.

    Before the first login the newest secret alone is valid, so a late duplicate of our own
    request may have made ours stale: register again, at most MAX_STALE times.  After it only
    a reset at the cloud gives a new secret: keep the one we have, and try it slowly.

    stale: whether a newer secret may be accepted.
    """
    if record.activated_at or not stale:
        return SessionDelayed(reason)
    if record.stale < MAX_STALE:
        return SecretStale(reason)
    return RegistrationRefused(REPEATEDLY_STALE)


def on_retry(record: Record) -> Record:
    """The facts to try again with: a secret that was refused too often is given up at last."""
    if record.activated_at or record.stale < MAX_STALE:
        return record
    return replace(record.without_stale_secret(), stale=0)


def restore(record: Record, *, has_secret: bool) -> tuple[State, Reason]:
    """The state after a restart, from the durable facts alone.

    has_secret: whether the slot that `record.stored` points to can be read.
    """
    if record.verdict is Verdict.REJECTED:
        return State.REJECTED, Reason(record.reason)
    if record.verdict is Verdict.RETIRED:
        return State.RETIRED, Reason(record.reason)
    if has_secret:
        return State.ABSENT, Reason("not-seen-yet", "It was not seen since gatewayd started.")
    if record.activated_at:
        return State.FAILED, SECRET_LOST
    return State.ADMITTED, NONE


_STORE_REASONS: tuple[tuple[type[StoreError], Reason], ...] = (
    (
        StoreSealed,
        Reason("store-sealed", "The secret store has no key.", "See the property Protection."),
    ),
    (
        StoreRolledBack,
        Reason(
            "store-rollback-suspected",
            "The secret store may be an old copy of itself.",
            "Put the newest copy back, or accept this one.",
        ),
    ),
    (StoreFull, Reason("store-full", "The disk is full.", "Free some room.")),
    (StoreUnavailable, Reason("store-unavailable", "The secret store cannot be used now.")),
    (RecordChanged, Reason("overtaken", "An operator has decided otherwise meanwhile.")),
    (StoreError, Reason("store-failed", "The secret store failed; the journal says how.")),
)


def reason_of(error: StoreError) -> Reason:
    """Return what to show for an error of the durable store."""
    return next(reason for kind, reason in _STORE_REASONS if isinstance(error, kind))
