"""The durable facts about one child.  Its state after a restart follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from gatewayd.device.move import GENERATION, NO_MOVES, Generation, Move, Moves
from gatewayd.device.proof import Pin
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.secret import SecretRef
from gatewayd.errors import RecordChanged

if TYPE_CHECKING:
    from gatewayd.device.identity import Claim, DeviceId


LEASE_HAS_ENDED = "site-lease-ended"
"""The code of why a child is elsewhere that was this gateway's, and is no other's that is known."""


class Verdict(StrEnum):
    """The recorded decision about a child."""

    ADMITTED = "admitted"
    REJECTED = "rejected"
    RETIRED = "retired"  # removed at the cloud: it does not come back by itself


class Admission(StrEnum):
    """Who or what decided to admit a child."""

    RULE = "rule"
    OPERATOR = "operator"
    WINDOW = "window"  # a rule that asks, while a join window was open
    CLOUD = "cloud"  # the cloud requested it, where the settings allow that
    CONFIGURATION = "configuration"  # the gateway's own name at a cloud


@dataclass(frozen=True, slots=True)
class CloudName:
    """The name of a child at a cloud.  Fixed at admission, then immutable.

    route: one of the provider's ways to register; "" for its default.  Not part of the name.
    """

    provider: str
    product: str
    device: str
    route: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.product}/{self.device}"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of state.db.

    attempt: number of the newest registration intent; 0 before the first.
    attempted_at: when that was recorded; 0 where nothing of it can be under way any more.
    stored: the attempt whose secret is durable and in use; 0 where none is.
    activating: the attempt that may be used to log in; 0 where none may, as where an earlier
    version has died between the two.
    candidate: the attempt whose secret replaces the one in use once a login with it has
    succeeded; 0 where there is none.
    stale: how often the cloud refused the first login with a secret it had just issued.
    reason: the code of why the verdict is what it is.  explanation, remedy: its sentences, "" for
    none.
    pin: the key that was proven when the child was first approved; None where none was.
    moves: to other clouds, and what the child has there; attempt to candidate are of this one.
    elsewhere: why another gateway of the site has the child; NONE where this one has.  It is not on
    the disk, as it follows from the configuration.
    Times are microseconds since the epoch; 0 means never.
    """

    device: DeviceId
    claims: frozenset[Claim]
    label: str
    verdict: Verdict
    admission: Admission
    rule: str
    reason: str
    cloud: CloudName | None
    verdict_at: int
    first_seen: int
    attempt: int = 0
    attempted_at: int = 0
    stored: int = 0
    registered_at: int = 0
    activating: int = 0
    activated_at: int = 0
    stale: int = 0
    candidate: int = 0
    explanation: str = ""
    remedy: str = ""
    pin: Pin | None = None
    moves: Moves = NO_MOVES
    elsewhere: Reason = NONE

    @property
    def is_frozen(self) -> bool:
        """Whether the child has shown another key than the one that is pinned."""
        return self.pin is not None and bool(self.pin.refused)

    @property
    def is_in_force(self) -> bool:
        """Whether the child is admitted, and nothing keeps it from its cloud."""
        kept = self.is_frozen or bool(self.elsewhere.code)
        return self.verdict is Verdict.ADMITTED and not kept

    @property
    def may_speak(self) -> bool:
        """Whether what the child says is accepted: also where it is to wait for its session."""
        waits = self.verdict is Verdict.ADMITTED and not self.is_frozen
        return self.is_in_force or (waits and self.elsewhere.code == LEASE_HAS_ENDED)

    @property
    def issue(self) -> tuple[int, int]:
        """What differs between the secret in use and any other that the child has had.

        The attempt alone does not: after a child was forgotten, attempts count from 1 again.
        """
        return self.stored, self.registered_at

    @property
    def why(self) -> Reason:
        """Why the verdict is what it is, as it was explained when it was recorded."""
        return Reason(self.reason, self.explanation, self.remedy)

    def with_verdict(self, verdict: Verdict, reason: Reason, now: int) -> Record:
        """Return the facts after a decision."""
        return replace(
            self,
            verdict=verdict,
            reason=reason.code,
            explanation=reason.text,
            remedy=reason.remedy,
            verdict_at=now,
        )

    def slot(self, attempt: int) -> SecretRef:
        """Return the slot of an attempt in the secret store."""
        assert self.cloud is not None, "only an admitted child has slots"
        return SecretRef(self.cloud.provider, self.device, attempt)

    def with_intent(self, now: int) -> Record:
        """Return the facts before a cloud is asked for a secret."""
        return replace(self, attempt=self.attempt + 1, attempted_at=now)

    def without_request(self) -> Record:
        """Return the facts once nothing can be under way of the newest intent."""
        return replace(self, attempted_at=0)

    def with_secret(self, attempt: int, now: int) -> Record:
        """Return the facts once the secret of an attempt is in its slot: it is used from now on."""
        return replace(self, stored=attempt, registered_at=now, activating=attempt)

    def without_stale_secret(self) -> Record:
        """Return the facts after a first login was refused.

        The number of the attempt is used up, so that its slot never passes for a fresh secret.
        """
        return replace(self, attempt=self.attempt + 1, stored=0, stale=self.stale + 1)

    def without_any_secret(self) -> Record:
        """Return the facts after a reset at the cloud; the slot of the old secret is not reused."""
        return replace(
            self,
            attempt=self.attempt + 1,
            stored=0,
            activating=0,
            activated_at=0,
            stale=0,
            candidate=0,
        )

    def with_candidate(self, now: int) -> Record:
        """Return the facts before a secret is requested that replaces the one in use."""
        attempt = self.attempt + 1
        return replace(self, attempt=attempt, attempted_at=now, candidate=attempt)

    def with_candidate_proven(self, now: int) -> Record:
        """Return the facts after a login with the candidate: it is in use from now on."""
        proven = self.candidate
        return replace(
            self, stored=proven, activating=proven, candidate=0, registered_at=now, stale=0
        )

    # Moves: device/move.py says what they are.

    @property
    def is_moving(self) -> bool:
        """Whether a move is under way that the other cloud has not refused."""
        return self.moves.under_way is not None and not self.moves.under_way.refused.code

    @property
    def names(self) -> tuple[CloudName, ...]:
        """Every name that the child has at a cloud, the one in use first."""
        if self.cloud is None:
            return ()
        return (self.cloud, *map(self.name_at, self.other_generations))

    @property
    def generations(self) -> tuple[Generation, ...]:
        """What the child has at each cloud, the one in use first."""
        return () if self.cloud is None else (self.generation(), *self.other_generations)

    @property
    def other_generations(self) -> tuple[Generation, ...]:
        """What the child has at clouds where it is not now: dormant, and where it moves."""
        move = self.moves.under_way
        return (*self.moves.dormant, *([move.to] if move else []))

    @staticmethod
    def name_at(one: Generation) -> CloudName:
        """Return the name that the child has in a generation."""
        return CloudName(one.provider, one.product, one.name, one.route)

    def generation(self, left_at: int = 0) -> Generation:
        """Return what the child has at its cloud.  left_at: of the generation."""
        assert self.cloud is not None, "only an admitted child has a generation"
        name = self.cloud
        facts = {fact: getattr(self, fact) for fact in GENERATION}
        return Generation(
            name.provider, name.product, name.device, name.route, **facts, left_at=left_at
        )

    def as_of(self, one: Generation) -> Record:
        """Return the facts with another generation in use, and all else as it is."""
        facts = {fact: getattr(one, fact) for fact in GENERATION}
        return replace(self, cloud=self.name_at(one), **facts)

    def at_target(self) -> Record | None:
        """Return the facts as they are at the cloud to which the child moves; None for none."""
        move = self.moves.under_way
        return self.as_of(move.to) if move is not None and self.is_moving else None

    def with_target(self, target: Record) -> Record:
        """Return the facts after a change at the other cloud.  target: as of `at_target`."""
        move = self.moves.under_way
        assert move is not None, "a move is under way"
        return self._moving(replace(move, to=target.generation(move.to.left_at)))

    def with_generation(self, before: Generation, after: Generation) -> Record:
        """Return the facts after a change of a generation that is not in use."""
        move = self.moves.under_way
        if move is not None and move.to == before:
            return self._moving(replace(move, to=after))
        dormant = tuple(after if one == before else one for one in self.moves.dormant)
        return replace(self, moves=replace(self.moves, dormant=dormant))

    def with_move(self, to: CloudName, now: int) -> Record:
        """Return the facts once the child is to move.

        What is dormant at that cloud is used, by whatever name it has there.
        """
        moves = self.without_move().moves
        known = moves.dormant_at(to.provider)
        target = Generation(to.provider, to.product, to.device, to.route)
        if known is not None:
            target = known if known.may_be_known else replace(target, attempt=known.attempt)
        usable = replace(target, activating=target.stored)  # an earlier version may have left less
        kept = tuple(one for one in moves.dormant if one is not known)
        return replace(self, moves=replace(moves, under_way=Move(usable, now), dormant=kept))

    def with_move_refused(self, reason: Reason) -> Record:
        """Return the facts once the other cloud refused: the child stays where it is."""
        move = self.moves.under_way
        assert move is not None, "a move is under way"
        return self._moving(replace(move, refused=reason))

    def with_move_resumed(self) -> Record:
        """Return the facts once a refused move is tried again; without one, nothing changes."""
        return self if self.moves.under_way is None else self.with_move_refused(NONE)

    def without_move(self) -> Record:
        """Return the facts once a move is called off; what the other cloud may know is dormant."""
        move, dormant = self.moves.under_way, self.moves.dormant
        if move is None:
            return self
        kept = (*dormant, move.to) if move.to.is_worth_keeping else dormant
        return replace(self, moves=replace(self.moves, under_way=None, dormant=kept))

    def switched(self, now: int) -> Record:
        """Return the facts after the login at the other cloud: the child belongs there now."""
        target, first = self.at_target(), self.generation(left_at=now)
        assert target is not None, "a move is under way"
        dormant = self.moves.dormant
        kept = (*dormant, first) if first.is_worth_keeping else dormant
        activated = target.activated_at or now
        return replace(target, activated_at=activated, stale=0, moves=Moves(None, kept, now))

    def without_dormant(self, provider: str) -> Record:
        """Return the facts once what is dormant at a cloud is forgotten."""
        kept = tuple(one for one in self.moves.dormant if one.provider != provider)
        return replace(self, moves=replace(self.moves, dormant=kept))

    def _moving(self, move: Move) -> Record:
        return replace(self, moves=replace(self.moves, under_way=move))


Change: TypeAlias = Callable[[Record | None], Record]
"""Makes the new record from the newest one, None where there is none.  Pure: it may be called
more than once, and on another thread.  If it raises, the record stays as it is."""


def unchanged(record: Record | None, **facts: object) -> Record:
    """Return a record in which these facts still hold.  Raises RecordChanged."""
    if record is None or any(getattr(record, name) != fact for name, fact in facts.items()):
        raise RecordChanged("the record was changed meanwhile")
    return record


class RecordStore(Protocol):
    """The durable records of the children."""

    def __getitem__(self, device: DeviceId) -> Record: ...
    def get(self, device: DeviceId) -> Record | None:
        """Return the newest durable record; None for a child without one."""

    def all(self) -> Iterator[Record]:
        """Return every record, in order of device id."""

    async def update(self, device: DeviceId, change: Change) -> Record:
        """Change a record, and return it when it is durable and was read back.

        Changes of one record are made one after the other, each upon the one before, so that
        none undoes another.  Cancelled: it is made all the same.
        Raises StoreError, and what `change` raises.
        """

    async def forget(self, device: DeviceId) -> None:
        """Return when neither the record nor any secret of the device is left, nor an answer that
        something is its own.
        """

    @property
    def answers(self) -> Mapping[Claim, DeviceId]:
        """Whose claims are, by an operator's answer; NO_DEVICE: they identify none."""

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        """Return when answers are durable; None withdraws one.

        gone: a device that is forgotten in the same commit, as it is another.
        """
