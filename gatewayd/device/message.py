"""A message that a child sends to its cloud, as every stage sees it.  Pure.

A door (`messages/`) receives it, the outbox stores it, and the child's session publishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PROPERTIES = "properties"
"""The topic of the neutral form, which every provider maps to its cloud's own: a flat JSON object
of property names and values, with an optional member "time", milliseconds since the epoch."""
EVENTS = "events/"
"""Begins the topic of an event in the neutral form, `events/NAME`: a flat JSON object of its
values, with an optional member "time"."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a child.

    topic: what follows `c/CHILD/up/` at gatewayd's own broker: `properties`, `events/NAME`, or the
    remainder of a topic as the cloud's own documents name it.
    payload: as the child sent it; for a topic of the cloud it passes unchanged.
    at: when a door received it, milliseconds since the epoch; 0 where the clock was not right yet.
    late: whether it waited through an outage, or for its turn behind one.
    confirmed: whether only the cloud's own reply counts, where it sends one; else the PUBACK does.
    """

    topic: str
    payload: bytes
    at: int
    late: bool = False
    confirmed: bool = False


class DropReason(StrEnum):
    """Why a message is not, or no longer, on its way to the cloud."""

    RATE = "rate"  # the child sends more than it may
    TOO_LARGE = "too-large"  # for the cloud, or for gatewayd
    SHARE = "share"  # the child's part of the outbox is full
    TOTAL = "total"  # the outbox is full
    AGE = "age"  # it waited longer than it may
    REFUSED = "refused"  # by the cloud, or the cloud has no such topic
    UNKNOWN_CHILD = "unknown-child"  # no admitted child is meant
    FORGOTTEN = "forgotten"  # its child was forgotten or rejected
    CORRUPT = "corrupt"  # the outbox could not be read


class OnFull(StrEnum):
    """What happens to a message where there is no room for it."""

    DROP_OLDEST = "drop-oldest"  # the oldest of its child makes room
    REFUSE = "refuse"  # it is dropped itself


class AfterOutage(StrEnum):
    """The order in which messages leave after an outage."""

    LIVE_FIRST = "live-first"  # new ones before those that have waited
    IN_ORDER = "in-order"  # as they came


class Acceptance(StrEnum):
    """What counts as the cloud's receipt of a message."""

    PUBACK = "puback"  # MQTT's acknowledgement
    REPLY = "reply"  # the cloud's own reply, where it sends one
