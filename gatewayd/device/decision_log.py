"""The log of decisions: what operators, programs and clouds have decided, who, and from where.

It is for people: nothing follows from it.  It holds no secret, and nothing raw from the LAN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MAX_TEXT = 200
"""Characters that are kept of each text."""


class DecisionKind(StrEnum):
    """What was decided; each word is part of the D-Bus API."""

    APPROVED = "approved"
    REJECTED = "rejected"
    FORGOTTEN = "forgotten"
    REREGISTERED = "reregistered"
    RENAMED = "renamed"
    SPLIT = "split"  # two devices are two, whatever both show
    REPINNED = "repinned"  # another key was accepted
    MERGED = "merged"  # two devices are one
    MOVED = "moved"  # to another cloud; the note has its name
    MOVE_CANCELLED = "move-cancelled"
    DORMANT_FORGOTTEN = "dormant-forgotten"  # what was kept at a cloud where it is not any more
    JOIN_WINDOW = "join-window"
    CREDENTIAL_READ = "credential-read"  # what a child logs in with has left gatewayd
    CREDENTIAL_MADE = "credential-made"  # a password or certificate for the LAN, or a child's
    CREDENTIAL_REVOKED = "credential-revoked"
    AUTHORITY_CHANGED = "authority-changed"
    STORE_CHANGED = "store-changed"
    STORE_EXPORTED = "store-exported"
    SITE_CHANGED = "site-changed"
    SITE_MEMBER_ACCEPTED = "site-member-accepted"  # a gateway; the note has its name
    SITE_MEMBER_REMOVED = "site-member-removed"
    MESSAGES_FOLLOWED = "messages-followed"
    RELOADED = "reloaded"
    DIAGNOSED = "diagnosed"  # diagnostics have left gatewayd


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One decision, as it is kept.

    number: counts up, and is given when it is logged.  at: microseconds since the epoch.
    device: the id of the child; "" where it is about the gateway.
    by: the user, as "olga"; or a cloud, as "cloud huawei".
    origin: from where, as "ssh from 192.0.2.7"; "" where that is not known.
    note: what more there is to say, as the operator's reason; "" for nothing.
    """

    number: int
    at: int
    kind: str
    device: str
    by: str
    origin: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """Which decisions to return, the newest first.

    before: only those with a smaller number; 0 for all.  since: microseconds since the epoch.
    device: the id of a child, or the beginning of one; "" for all.
    """

    before: int = 0
    since: int = 0
    device: str = ""


class DecisionLog(Protocol):
    """The log, durable and bounded: the oldest decisions make room for new ones."""

    async def append(
        self, kind: DecisionKind, device: str, by: str, origin: str = "", note: str = ""
    ) -> None:
        """Log a decision that was made now; return when it is durable.  Raises StoreError.

        The arguments are those of `LoggedDecision`; longer texts are cut.
        """

    async def newest(self, query: DecisionQuery, limit: int) -> Sequence[LoggedDecision]:
        """Return decisions, the newest first, `limit` at most.  Raises StoreError."""
