"""The view of a child: its state, its record and its evidence in one frozen object."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Protocol

from gatewayd.admission.controller import AdmissionController, DiscoveredDevices, PolicyVersion
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import (
    MODEL_KEYS,
    VENDOR_KEYS,
    Claim,
    DeviceId,
    Evidence,
    Trust,
    strength,
)
from gatewayd.device.lifecycle import State
from gatewayd.device.move import NO_MOVES
from gatewayd.device.proof import Pin, Proof
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Record, RecordStore
from gatewayd.device.recovery import SECRET_LOST
from gatewayd.device.views import DeviceView, Facts, Reporter
from gatewayd.manager.manager import Child
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

_ON_THE_WAY = {
    State.ADMITTED, State.REGISTERING, State.SECURING, State.REGISTERED, State.ACTIVATING,
}  # fmt: skip
STEPS = 2.0
"""Seconds for which the steps of a child on its way to online are not announced one by one: where
hundreds come together each takes some seconds, and a signal costs as much as a durable step."""
_NOT_SEEN: tuple[Evidence | None, Trust] = None, Trust.CLAIMED
"""What is kept of the identity of a child that is not seen: one for all of them."""
NO_FACTS: Facts = {}
"""One for all children: each empty table that is made takes 64 bytes."""


class MovingChild(Protocol):
    """A move on which is being worked.

    reason: why it does not go on, and until when, seconds of the event loop's clock; 0: not known.
    changed: set when the child has changed, for which it may wait.
    """

    reason: Reason
    until: float
    changed: asyncio.Event


class DevicePublisher:
    """The `ChildPublisher` that makes views for the reporter: of what has changed, when it asks.

    moving: the moves on which is being worked.
    """

    def __init__(
        self,
        records: RecordStore,
        devices: DiscoveredDevices,
        admission: AdmissionController,
        reporter: Reporter,
        clock: Clock,
        moving: Mapping[DeviceId, MovingChild],
    ) -> None:
        self._records, self._devices, self._admission = records, devices, admission
        self._reporter, self._clock, self._moving = reporter, clock, moving
        self._changed: dict[DeviceId, Child] = {}
        self._passing: dict[DeviceId, tuple[Child, float]] = {}  # since when, the oldest first
        self._trust: dict[DeviceId, tuple[Evidence | None, Trust]] = {}
        self._version: PolicyVersion | None = None

    def show(self, child: Child) -> None:
        """Have a child shown, new or changed."""
        self._notify(child.id)
        first = not self._has_changes
        if self._is_passing(child):
            _, since = self._passing.get(child.id, (child, self._clock.now()))
            self._passing[child.id] = child, since
            self._changed.pop(child.id, None)
        else:
            self._changed[child.id] = child
            self._passing.pop(child.id, None)
        if first:
            self._reporter.gather(self.show_changes)

    def remove(self, device: DeviceId) -> None:
        """Show a child no more."""
        self._notify(device)
        self._changed.pop(device, None)
        self._passing.pop(device, None)
        self._trust.pop(device, None)
        self._reporter.remove(device)

    def show_changes(self, limit: int, *, steps: bool = False) -> bool:
        """Show children that have changed, `limit` at most; return whether more have.

        steps: else one that is on its way to online, and does not wait, is shown when it is there,
        or after STEPS.
        """
        due = chain(self._changed.values(), self._passing_since(0.0 if steps else STEPS))
        for child in tuple(islice(due, limit)):
            self._changed.pop(child.id, None)
            self._passing.pop(child.id, None)
            try:
                self._reporter.show(self._view(child))
            except Exception:  # border: one child that cannot be shown must not hide the others
                log.exception("Device %s cannot be shown.", child.id, extra={"device": child.id})
        if not self._changed:
            self._changed = {}  # one that was emptied keeps the room for all that it has held
        return self._has_changes

    @property
    def _has_changes(self) -> bool:
        return bool(self._changed or self._passing)

    def _is_passing(self, child: Child) -> bool:
        """Whether a child that was shown before is on its way, and does not wait."""
        return child.state in _ON_THE_WAY and not child.until and child.id in self._trust

    def _passing_since(self, seconds: float) -> Iterator[Child]:
        """Yield the children on their way whose oldest step that was not shown is so old."""
        now = self._clock.now()
        for child, since in self._passing.values():
            if now - since < seconds:
                return
            yield child

    def _notify(self, device: DeviceId) -> None:
        """Let the move of a child go on that waits for a change of it, or end."""
        if (moving := self._moving.get(device)) is not None:
            moving.changed.set()

    def _view(self, child: Child) -> DeviceView:
        seen, evidence = self._devices.last_seen(child.id), self._devices.evidence(child.id)
        record = self._records.get(child.id)
        view = device_view(
            child,
            record,
            evidence,
            self._trust_of(child.id, evidence),
            self._clock.to_wall(seen) if seen else 0,
            self._clock.to_wall,
        )
        if record is None or record.moves == NO_MOVES:
            return view
        moving = self._moving.get(child.id)
        again = self._clock.to_wall(moving.until) if moving and moving.until else 0
        return replace(view, move=move_facts(record, moving.reason if moving else NONE, again))

    def _trust_of(self, device: DeviceId, evidence: Evidence) -> Trust:
        """Return how well a child is identified: by policy, once for each change of either."""
        if self._version != self._admission.version:
            self._version = self._admission.version
            self._trust.clear()
        if not evidence.views:  # no rule matches what is not seen
            self._trust[device] = _NOT_SEEN
            return evidence.trust
        known = self._trust.get(device)
        if known is None or known[0] != evidence:
            known = self._trust[device] = evidence, self._admission.judge(device, evidence).trust
        return known[1]


def device_view(
    child: Child,
    record: Record | None,
    evidence: Evidence,
    trust: Trust,
    last_seen: int,
    to_wall: Callable[[float], int],
) -> DeviceView:
    """Return all that is known of a child.

    trust: how well its identity is proven, lists of operators included.
    last_seen: microseconds since the epoch, 0 for never.
    to_wall: turns seconds of the event loop's clock into microseconds since the epoch.
    """
    facts: Mapping[str, str] = {k: v for view in reversed(evidence.views) for k, v in view.items()}
    cloud = record.cloud if record else None
    return DeviceView(
        id=child.id,
        name=_name(child, record, evidence),
        state=child.state.shown,
        substate=lc.substate(child.state, child.reason),
        reason=child.reason.code,
        explanation=child.reason.text,
        remedy=child.reason.remedy,
        protocol=facts.get("source", ""),
        model=_first(facts, MODEL_KEYS),
        vendor=_first(facts, VENDOR_KEYS),
        addresses=evidence.addresses,
        admission=record.admission.value if record else "none",
        trust=trust.word,
        rule=record.rule if record else "",
        provider=cloud.provider if cloud else "",
        cloud_id=str(cloud) if cloud else "",
        secret_state=_secret_state(child, record),
        identity=identity(evidence.claims or (record.claims if record else frozenset())),
        attempts=record.attempt if record else 0,
        first_seen=child.first_seen,
        last_seen=last_seen,
        state_changed=child.changed,
        registered=record.registered_at if record else 0,
        activated=record.activated_at if record else 0,
        next_attempt=to_wall(child.until) if child.until else 0,
        history=child.history,
        conflict=evidence.conflict,
        rivals=evidence.rivals,
        proof=proof_facts(record.pin if record else None, evidence.proof),
        move=NO_FACTS,
        sightings=evidence.views,
    )


def move_facts(record: Record, why: Reason, until: int) -> Facts:
    """Return where a child moves, and where it is dormant; without what there is not.

    why: a move that was not refused does not go on.
    until: when it does by itself, microseconds since the epoch.
    """
    moves, facts = record.moves, dict[str, "str | int | Sequence[str]"]()
    if (move := moves.under_way) is not None:
        why = move.refused if move.refused.code else why
        facts |= {
            "To": move.to.provider, "ToCloudId": str(Record.name_at(move.to)),
            "Step": move.step.value, "AskedTimestamp": move.asked_at, "Reason": why.code,
            "Explanation": why.text, "Remedy": why.remedy, "NextAttemptTimestamp": until,
        }  # fmt: skip
    kept = (one for one in moves.dormant if one.may_be_known)
    facts["Dormant"] = [f"{one.provider} {one.product}/{one.name}" for one in kept]
    facts["MovedTimestamp"] = moves.moved_at
    return {name: fact for name, fact in facts.items() if fact}


def proof_facts(pin: Pin | None, proof: Proof | None) -> Facts:
    """Return what a device has proven, and what is pinned to it; without what there is not."""
    if pin is None and proof is None:
        return NO_FACTS
    facts: dict[str, str | int] = {}
    if pin is not None:
        facts |= {
            "Name": pin.name, "Identity": pin.identity, "Signer": pin.signer,
            "SerialNumber": pin.serial, "PinnedKey": pin.key, "PinnedTimestamp": pin.at,
            "RefusedKey": pin.refused,
        }  # fmt: skip
    if proof is not None:
        facts |= {
            "Name": proof.name, "Address": proof.address, "Timestamp": proof.at,
            "Reason": proof.reason.code, "Explanation": proof.reason.text,
        }  # fmt: skip
    if proof is not None and proof.key:
        facts |= {
            "Key": proof.key, "Identity": proof.identity, "Signer": proof.signer,
            "SerialNumber": proof.serial,
        }  # fmt: skip
    return {name: fact for name, fact in facts.items() if fact}


def identity(claims: frozenset[Claim]) -> str:
    """Return the strongest claim as "kind value"; "" where there is none."""
    known = [one for one in claims if strength(one)]
    best = min(known, key=lambda one: (-strength(one), one), default=None)
    return f"{best.kind} {best.value}" if best is not None else ""


def _name(child: Child, record: Record | None, evidence: Evidence) -> str:
    """Return the name on record, which stays: any device can announce another for its serial."""
    return child.label or (record.label if record else "") or evidence.label or str(child.id)


def _secret_state(child: Child, record: Record | None) -> str:
    if child.reason.code == SECRET_LOST.code:
        return "lost"
    return "stored" if record and record.stored else "none"


def _first(facts: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((facts[key] for key in keys if key in facts), "")
