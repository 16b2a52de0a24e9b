"""What is shown of a child: its state, its record and its evidence in one frozen view."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import Claim, Evidence, Trust, strength
from gatewayd.device.record import Record
from gatewayd.device.recovery import SECRET_LOST
from gatewayd.device.views import DeviceView
from gatewayd.manager.manager import Child

_MODEL_KEYS = ("model", "txt.model", "txt.md", "txt.app")
_VENDOR_KEYS = ("vendor", "txt.vendor", "txt.manufacturer")


def device_view(
    child: Child,
    record: Record | None,
    evidence: Evidence,
    proof: Trust,
    last_seen: int,
    to_wall: Callable[[float], int],
) -> DeviceView:
    """Join what is known of a child.

    proof: how well its identity is proven, lists of operators included.
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
        model=_first(facts, _MODEL_KEYS),
        vendor=_first(facts, _VENDOR_KEYS),
        addresses=evidence.addresses,
        admission=record.admission.value if record else "none",
        proof=proof.word,
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
    )


def identity(claims: frozenset[Claim]) -> str:
    """Return the strongest claim as "kind value"; "" where there is none."""
    ranked = sorted((c for c in claims if strength(c)), key=lambda c: (-strength(c), c))
    return f"{ranked[0].kind} {ranked[0].value}" if ranked else ""


def _name(child: Child, record: Record | None, evidence: Evidence) -> str:
    """Return the name on record, which stays; anybody can announce another for the same serial."""
    return child.label or (record.label if record else "") or evidence.label or str(child.id)


def _secret_state(child: Child, record: Record | None) -> str:
    if child.reason is SECRET_LOST:
        return "lost"
    return "stored" if record and record.stored else "none"


def _first(facts: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((facts[key] for key in keys if key in facts), "")
