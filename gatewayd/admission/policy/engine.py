"""Applies the rules: in order, the first that matches wins, and the default is no.

What policy needs to know besides the device itself.

The join window, as far as policy sees it: what it covers while it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from gatewayd.admission.policy.patterns import RuleError, normalised
from gatewayd.admission.policy.rules import NEEDS_CLOUD, Action, Decision, Rule
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName


@dataclass(frozen=True, slots=True)
class WindowScope:
    """What an open join window covers; "" is no limit.  Where none is open there is no Window.

    interface: where the device was seen.  protocol: how it was found, as "mdns".
    rule: the name of the rule that matches.  provider: the cloud that the rule names.
    """

    interface: str = ""
    protocol: str = ""
    rule: str = ""
    provider: str = ""

    def covers(self, rule: Rule, view: Mapping[str, str]) -> bool:
        """Whether what the rule matches in this view lies inside."""
        return (
            self.rule in ("", rule.name)
            and self.provider in ("", rule.provider)
            and _fits(self.interface, "interface", view)
            and _fits(self.protocol, "source", view)
        )


def _fits(wanted: str, key: str, view: Mapping[str, str]) -> bool:
    return not wanted or normalised(key, view) == wanted.lower()


View: TypeAlias = Mapping[str, str]
Owner: TypeAlias = Callable[[CloudName], DeviceId | None]
Verdict: TypeAlias = tuple[Action, Reason]

BEFORE_RESOLVING = frozenset({"source", "service", "instance", "interface"})
"""The keys that are known of a name on the LAN before anything is asked about it."""

NO_RULE = Reason(
    "no-rule",
    "No rule matches this device.",
    "Write a rule that matches it, then call Reload.",
)
CONFLICT = Reason(
    "identity-conflict",
    "Two devices on the LAN claim to be this one.",
    "Find out which of them is genuine, then approve or reject it.",
)
APPROVAL_REQUIRED = "approval-required"
"""The code of a rule's own question, where nothing stands against the device."""

_TAKEN = "Another child has the name that the rule gives this device."
_RENAME = "Let the rule's device_name hold more of the identity, or forget the other child."


@dataclass(frozen=True, slots=True)
class _Named:
    """What a rule makes of one view: a cloud name, or why there is none; and what is proven."""

    cloud: CloudName | None
    fault: str
    trust: Trust
    view: View


def decide(
    evidence: Evidence,
    rules: Sequence[Rule],
    *,
    device: DeviceId,
    taken: Owner,
    admitted: Mapping[str, int],
    window: WindowScope | None = None,
) -> Decision:
    """Return the verdict on one device.  Never raises, whatever the evidence holds.

    taken: returns the child that has a cloud name.  admitted: how many children each rule, by
    name, has let in.  window: what the join window covers, None while it is closed; all it can
    change is a rule's question into a yes.
    """
    trace: list[str] = []
    for rule in rules:
        progress = [_progress(rule, view) for view in evidence.views]
        if failed := _failed(rule, progress):
            trace.append(f"{rule.name}: {failed} does not match")
            continue
        trace.append(f"{rule.name}: matches")
        shown = _names(rule, evidence, progress)
        named = next((one for one in shown if one.cloud is not None), shown[0])
        why = _against_name(rule, named, device, taken, admitted)
        action, reason = _judge(rule, evidence, named, why)
        asked = Decision(action, rule.name, reason, named.cloud, tuple(trace), named.trust)
        if window is None or reason.code != APPROVAL_REQUIRED:
            return asked
        inside = [n for n in shown if n.cloud == named.cloud and window.covers(rule, n.view)]
        return _through(asked, rule, inside, admitted)
    reason = CONFLICT if evidence.conflict else NO_RULE
    return Decision(Action.ASK, "", reason, None, tuple(trace), evidence.trust)


def interest(attributes: View, rules: Sequence[Rule]) -> Literal["wanted", "stranger", "ignored"]:
    """Tell what could still become of a name of which only BEFORE_RESOLVING is known.

    "wanted": a rule could register it or ask.  "ignored": a rule says so, whatever else it holds.
    "stranger": neither.  A key that is absent counts as not known.
    """
    for rule in rules:
        known = [p for p in rule.predicates if _known(p.reads, attributes)]
        if not all(predicate.holds(attributes) for predicate in known):
            continue
        if rule.action in NEEDS_CLOUD:
            return "wanted"
        if len(known) == len(rule.predicates):
            return "ignored" if rule.action is Action.IGNORE else "stranger"
    return "stranger"


def _known(key: str, attributes: View) -> bool:
    return key in BEFORE_RESOLVING and normalised(key, attributes) is not None


def _failed(rule: Rule, progress: Sequence[int]) -> str:
    """Name the predicate at which the rule fails, in the view that gets furthest; "" if none."""
    if not progress:
        return "nothing"
    furthest = max(progress)
    return "" if furthest == len(rule.predicates) else rule.predicates[furthest].key


def _progress(rule: Rule, view: View) -> int:
    """Count the predicates that hold, up to the first that does not."""
    for number, predicate in enumerate(rule.predicates):
        if not predicate.holds(view):
            return number
    return len(rule.predicates)


def _names(rule: Rule, evidence: Evidence, progress: Sequence[int]) -> Sequence[_Named]:
    """Name a device from each of the matching views; never empty.  progress: of each view."""
    reached = zip(evidence.views, progress, strict=True)
    return [_name(rule, view, evidence) for view, n in reached if n == len(rule.predicates)]


def _name(rule: Rule, view: View, evidence: Evidence) -> _Named:
    if rule.template is None:
        return _Named(None, "", evidence.trust, view)
    identity = rule.identity(view)
    try:
        name = rule.template.fill(identity)
    except RuleError as unfit:
        return _Named(None, str(unfit), evidence.trust, view)
    fields = {identity[field] for field in rule.template.fields}
    trust = _proven(rule, name, fields, _trust(view, evidence))
    return _Named(CloudName(rule.provider, rule.product, name, rule.route), "", trust, view)


def _trust(view: View, evidence: Evidence) -> Trust:
    """Return what the view that gives the name proves: a better one vouches for itself alone."""
    own = Trust[view["trust"].upper()] if "trust" in view else evidence.trust
    return min(own, evidence.trust)


def _proven(rule: Rule, name: str, fields: set[str], trust: Trust) -> Trust:
    """Raise trust where the list holds the whole name, or each field that it is made of.

    One listed field is not enough: whoever knows it could vary the others.
    """
    return max(trust, Trust.LISTED) if name in rule.listed or fields <= rule.listed else trust


def _judge(rule: Rule, evidence: Evidence, named: _Named, why: Reason | None) -> Verdict:
    """Start from no: anything that stands against registering is a reason to hold.

    why: what stands against the name itself.
    """
    if rule.action not in NEEDS_CLOUD:
        word = "rejected" if rule.action is Action.REJECT else "ignored"
        return rule.action, Reason(f"{word}-by-rule", f"Rule {rule.name} says so.")
    if evidence.conflict:
        return Action.ASK, CONFLICT
    if why is not None:
        return Action.ASK, why
    if rule.action is Action.ASK:
        text = f"Rule {rule.name} leaves it to the operator."
        return Action.ASK, Reason(APPROVAL_REQUIRED, text, "Approve or reject it.")
    if named.trust < rule.trust:
        return Action.ASK, _unproven(rule, named.trust)
    return Action.REGISTER, Reason("admitted-by-rule", f"Rule {rule.name} admits it.")


def _against_name(
    rule: Rule, named: _Named, device: DeviceId, taken: Owner, admitted: Mapping[str, int]
) -> Reason | None:
    if named.cloud is None:
        remedy = f"Correct 'extract' or 'device_name' of rule {rule.name}, then call Reload."
        return Reason("name-unusable", named.fault, remedy)
    owner = taken(named.cloud)
    if owner not in (None, device):
        return Reason("name-conflict", _TAKEN, _RENAME)
    if rule.action is Action.REGISTER and owner is None and _full(rule, admitted):
        text = f"Rule {rule.name} has admitted {rule.devices} children, its limit."
        return Reason("limit-reached", text, "Raise limits.devices, or approve it.")
    return None


def _through(
    asked: Decision, rule: Rule, inside: Sequence[_Named], admitted: Mapping[str, int]
) -> Decision:
    """Return the verdict on what a rule asks about, where the join window is open.

    inside: the name as it is shown inside the window's scope.
    """
    trust = max((one.trust for one in inside), default=Trust.CLAIMED)
    if barred := _barred(rule, bool(inside), trust, admitted):
        told = f"{rule.name}: the join window is open: {barred}"
        return replace(asked, trace=(*asked.trace, told))
    text = f"The open join window admits what rule {rule.name} asks about."
    reason = Reason("admitted-by-window", text)
    return replace(asked, action=Action.REGISTER, reason=reason, trust=trust, by_window=True)


def _barred(rule: Rule, inside: bool, trust: Trust, admitted: Mapping[str, int]) -> str:
    """Tell what keeps a device from coming in by the window; "" if nothing does."""
    if not rule.window:
        return "the rule does not say window = true"
    if not inside:
        return "this is outside its scope"
    if _full(rule, admitted):
        return f"the rule has admitted {rule.devices} children, its limit"
    return _unproven(rule, trust).text if trust < rule.trust else ""


def _full(rule: Rule, admitted: Mapping[str, int]) -> bool:
    return admitted.get(rule.name, 0) >= rule.devices


_PROOFS: Mapping[Trust, str] = {
    Trust.CLAIMED: "Approve it.",
    Trust.CORROBORATED: "Wait until the kernel has seen its MAC, or approve it.",
    Trust.LISTED: "Write its identity into the rule's list, or approve it.",
    Trust.AUTHENTICATED: "Let it prove a key, or approve it.",
}


def _unproven(rule: Rule, trust: Trust) -> Reason:
    text = f"Rule {rule.name} wants an identity that is {rule.trust.word}; this is {trust.word}."
    return Reason("proof-missing", text, _PROOFS[rule.trust])


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What policy needs to know of the children that are already in, and of the join window.

    window: what it covers; None while it is closed.
    """

    names: Mapping[CloudName, DeviceId]
    by_rule: Mapping[str, int]
    window: WindowScope | None = None
