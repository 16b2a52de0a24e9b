"""What follows from the durable facts: after a restart, and when a login is refused."""

from __future__ import annotations

from dataclasses import replace

from gatewayd.device.lifecycle import Event, RegistrationRefused, SecretStale, SessionDelayed, State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Record, Verdict
from gatewayd.errors import (
    OwnershipLost,
    RecordChanged,
    StoreCloned,
    StoreError,
    StoreFull,
    StoreRolledBack,
    StoreSealed,
    StoreUnavailable,
)

MAX_STALE = 3
"""How often a first login may be refused before an operator has to act."""

SECRET_LOST = Reason(
    "secret-lost",
    "The cloud knows this child by a secret that this gateway no longer has.",
    "Reset the child at the cloud, or empty its fingerprint there if it has a certificate; "
    "then run gatewayctl reregister CHILD CHILD.",
    "needs-reset",
)
REPEATEDLY_STALE = Reason(
    "secret-repeatedly-stale",
    "The cloud refused each secret at the first login, though it had just issued it.",
    "Check that nothing else registers the same device name, then run gatewayctl retry CHILD.",
)

KEY_CHANGED = Reason(
    "key-changed",
    "It has shown another key than the one that was pinned when it was first approved.",
    "Look at the device. If its new key is genuine, run gatewayctl repin CHILD; if only the old "
    "one is, run gatewayctl approve CHILD once it is back; if neither, run gatewayctl reject "
    "CHILD.",
)

KEY_OF_ANOTHER = Reason(
    "key-of-another",
    "It answers with the key or the certificate of another child.",
    "Run gatewayctl explain CHILD, which names that; find out which device answers at its "
    "address. Once the right one does, run gatewayctl approve CHILD.",
)

LEFT_WITH_SITE = Reason(
    "left-with-site",
    "It went to another gateway of the site to which this gateway belonged.",
    "Where that gateway is gone too, run gatewayctl forget CHILD.",
)
"""Why a child is not taken along by a gateway that leaves its site."""


def on_refused_login(record: Record, reason: Reason, *, stale: bool = True) -> Event:
    """Return the event of a refused login: a stale secret is replaced, one that was used is not.

    Before the first login only the newest secret is valid, so a late duplicate of gatewayd's own
    request may have made this one stale: register again, at most MAX_STALE times.  After it only
    a reset at the cloud gives a new secret: keep this one, and try it slowly.

    stale: whether a newer secret may be accepted.
    """
    if record.activated_at or not stale:
        return SessionDelayed(reason)
    if record.stale < MAX_STALE:
        return SecretStale(reason)
    return RegistrationRefused(REPEATEDLY_STALE)


def on_retry(record: Record) -> Record:
    """Return the facts for another try: a secret that was refused too often is given up."""
    if record.activated_at or record.stale < MAX_STALE:
        return record
    return replace(record.without_stale_secret(), stale=0)


NOT_SEEN_YET = Reason("not-seen-yet", "It has not been seen since gatewayd started.")

HANDED_OVER = Reason(
    "handed-over", "Its holder has the session; gatewayd keeps the secret, and renews it."
)


_KEPT_OUT = {Verdict.REJECTED: State.REJECTED, Verdict.RETIRED: State.RETIRED}


def restore(record: Record, *, has_secret: bool, held: bool = False) -> tuple[State, Reason]:
    """Return the state after a restart, from the durable facts and the rules.

    has_secret: whether the slot that `record.stored` points to can be read.
    held: whether a holder is to have the session, which it has once the first login has happened.
    """
    if (kept := _kept_from_cloud(record)) is not None:
        return kept
    if has_secret and held and record.activated_at:
        return State.HANDED_OVER, HANDED_OVER
    if has_secret:
        return State.ABSENT, NOT_SEEN_YET
    if record.activated_at:
        return State.FAILED, SECRET_LOST
    return State.ADMITTED, NONE


def _kept_from_cloud(record: Record) -> tuple[State, Reason] | None:
    """Return the state of a child that is to have no session; None for any other."""
    if record.verdict in _KEPT_OUT:
        return _KEPT_OUT[record.verdict], record.why
    if record.elsewhere.code:  # also where it is frozen: what is decided here is not for another
        return State.ELSEWHERE, record.elsewhere
    return (State.FROZEN, KEY_CHANGED) if record.is_frozen else None


_STORE_REASONS: tuple[tuple[type[StoreError], Reason], ...] = (
    (
        StoreSealed,
        Reason(
            "store-sealed",
            "The secret store has no key.",
            "gatewayctl store status says why, and what to do.",
        ),
    ),
    (
        StoreRolledBack,
        Reason(
            "store-rollback-suspected",
            "The secret store may be an old copy of itself.",
            "Restore the newest copy, or accept this one with gatewayctl store accept-rollback.",
        ),
    ),
    (
        StoreCloned,
        Reason(
            "store-cloned",
            "The secret store belongs to another machine, which may use the same secrets.",
            "Stop that gateway, then accept this machine with gatewayctl store accept-machine.",
        ),
    ),
    (StoreFull, Reason("store-full", "The disk is full.", "Free space on it.")),
    (
        StoreUnavailable,
        Reason(
            "store-unavailable",
            "The secret store cannot be used now.",
            "gatewayctl store status says why, and what to do.",
        ),
    ),
    (
        OwnershipLost,
        Reason("shard-lost", "Another gateway of the site has the child now, or may soon."),
    ),
    (RecordChanged, Reason("record-changed", "An operator has decided otherwise meanwhile.")),
    (StoreError, Reason("store-failed", "The secret store failed.", "See the journal.")),
)


def reason_of(error: StoreError) -> Reason:
    """Return the reason to show for an error of the store."""
    return next(reason for kind, reason in _STORE_REASONS if isinstance(error, kind))
