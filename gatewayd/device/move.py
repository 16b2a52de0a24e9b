"""A move of a child to another cloud, as facts, and what each step makes of them.

A child has a generation at each cloud that knows it: its name there, and how far it got with the
secret.  One is in use; it stands in the record itself.  A move makes another one beside it:

    asked → intent n on record → secret in slot n → pointer to slot n → login → switch

Until the switch, the child stays where it is, and the move can be called off.  The switch is one
commit: the other generation is in use from then on, and the first one is dormant.  A dormant
generation is kept, with its secret, until an operator forgets it: a cloud that has seen a first
login may issue no other secret.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gatewayd.device.reason import NONE, Reason
from gatewayd.device.secret import SecretRef

if TYPE_CHECKING:
    from gatewayd.device.identity import DeviceId

MAX_DORMANT = 8
"""Dormant generations of one child, at most."""


class MoveStep(StrEnum):
    """How far a move has come; each word is part of the D-Bus API."""

    REGISTERING = "registering"  # the other cloud is to issue a secret, or has just done so
    LOGGING_IN = "logging-in"  # that secret is durable; a login with it switches
    REFUSED = "refused"  # the other cloud would not have the child: an operator has to act


@dataclass(frozen=True, slots=True)
class Generation:
    """What a child has at one cloud.

    left_at: when it became dormant, microseconds since the epoch; 0 where it never was in use.
    The other facts are those of `CloudName` and `Record`.
    """

    provider: str
    product: str
    name: str
    route: str
    attempt: int = 0
    attempted_at: int = 0
    stored: int = 0
    registered_at: int = 0
    activating: int = 0
    activated_at: int = 0
    stale: int = 0
    candidate: int = 0
    left_at: int = 0

    @property
    def may_be_known(self) -> bool:
        """Whether the cloud may know the child: a secret is here, was, or may be on its way."""
        return bool(self.stored or self.attempted_at or self.registered_at)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether it has had an attempt: its number, and its slot, are never used again."""
        return bool(self.attempt)

    def slot(self, device: DeviceId, attempt: int) -> SecretRef:
        """Return the slot of an attempt in the secret store."""
        return SecretRef(self.provider, device, attempt)


GENERATION = (
    "attempt", "attempted_at", "stored", "registered_at", "activating", "activated_at", "stale",
    "candidate",
)  # fmt: skip
"""The facts that a generation and a record have in common, besides the name."""


@dataclass(frozen=True, slots=True)
class Move:
    """A move that is under way, or was refused.

    to: the generation at the other cloud.  asked_at: microseconds since the epoch.
    refused: why the other cloud would not have the child; NONE while the move is under way.
    """

    to: Generation
    asked_at: int
    refused: Reason = NONE

    @property
    def step(self) -> MoveStep:
        """How far it has come."""
        if self.refused.code:
            return MoveStep.REFUSED
        return MoveStep.LOGGING_IN if self.to.stored else MoveStep.REGISTERING


@dataclass(frozen=True, slots=True)
class Moves:
    """The moves of a child.

    under_way: the newest one, unless it is done.  dormant: the generations that are kept.
    moved_at: when the newest switch was, microseconds since the epoch; 0 for never.
    """

    under_way: Move | None = None
    dormant: tuple[Generation, ...] = ()
    moved_at: int = 0

    def dormant_at(self, provider: str) -> Generation | None:
        """Return the dormant generation at a cloud; None where there is none."""
        return next((one for one in self.dormant if one.provider == provider), None)

    def text(self) -> str:
        """Return it as it stands on the disk."""
        move = self.under_way
        facts = {
            "dormant": [astuple(one) for one in self.dormant],
            "moved_at": self.moved_at,
            "to": None if move is None else astuple(move.to),
            "asked_at": 0 if move is None else move.asked_at,
            "refused": [] if move is None or not move.refused.code else astuple(move.refused),
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Moves:
        """Read what `text` made.

        Raises KeyError, TypeError, ValueError, OverflowError, RecursionError.
        """
        facts = json.loads(text)
        move = None
        if facts["to"] is not None:
            refused = Reason(*facts["refused"]) if facts["refused"] else NONE
            move = Move(_generation(facts["to"]), int(facts["asked_at"]), refused)
        return cls(move, tuple(map(_generation, facts["dormant"])), int(facts["moved_at"]))


def _generation(facts: list[Any]) -> Generation:
    made = Generation(*facts)
    texts, numbers = astuple(made)[:4], astuple(made)[4:]
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("the name of a generation is text")
    if not all(isinstance(one, int) for one in numbers):
        raise ValueError("the facts of a generation are numbers")
    return made


NO_MOVES = Moves()
"""Of a child that never was to move."""
