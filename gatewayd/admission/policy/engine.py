"""The policy engine: rules are evaluated in order, the first that matches decides.

The default is to ask an operator.  An open join window changes one thing only: a device that a rule
would ask about may be registered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, TypeAlias

from gatewayd.admission.policy.patterns import (
    PROOF_KEYS,
    PROVEN_IDENTITY,
    RuleError,
    normalised,
)
from gatewayd.admission.policy.rules import BY_PROOF, NEEDS_CLOUD, Action, Decision, Rule
from gatewayd.device.identity import (
    PROOF_OF_ANOTHER,
    UNDISPUTED,
    Claim,
    DeviceId,
    Evidence,
    Trust,
)
from gatewayd.device.proof import Proof
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName


@dataclass(frozen=True, slots=True)
class WindowScope:
    """The scope of an open join window; "" is no limit.

    interface: where the device was seen.  protocol: how it was found, as "mdns".
    rule: the name of the rule that matches.  provider: the cloud that the rule names.
    """

    interface: str = ""
    protocol: str = ""
    rule: str = ""
    provider: str = ""

    def covers(self, rule: Rule, view: Mapping[str, str]) -> bool:
        """Whether a device that the rule matches in this view is in the scope."""
        return (
            self.rule in ("", rule.name)
            and self.provider in ("", rule.provider)
            and _fits(self.interface, "interface", view)
            and _fits(self.protocol, "source", view)
        )


def _fits(wanted: str, key: str, view: Mapping[str, str]) -> bool:
    return not wanted or normalised(key, view) == wanted.lower()


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """The inputs of policy besides the device itself.

    names: the child that has each cloud name.  by_rule: how many children each rule, by its name,
    has admitted.  window: what the open join window covers; None while it is closed.
    """

    names: Mapping[CloudName, DeviceId] = field(default_factory=dict)
    by_rule: Mapping[str, int] = field(default_factory=dict)
    window: WindowScope | None = None


View: TypeAlias = Mapping[str, str]

BEFORE_RESOLVING = frozenset({"source", "service", "instance", "interface"})
"""The keys that are known of a name on the LAN before it is resolved."""

NO_RULE = Reason(
    "no-rule",
    "No rule matches this device.",
    "To admit it and its like, run gatewayctl rules suggest CHILD --write "
    "/etc/gatewayd/rules.d/40-site.toml; to admit it alone, run gatewayctl approve CHILD.",
)
CONFLICT = Reason(
    "identity-conflict",
    "Two devices on the LAN claim to be this one.",
    "Run gatewayctl explain CHILD, which says how to merge or split them; or, if one is not "
    "genuine, reject that, and approve the other.",
)
OF_ANOTHER = Reason(
    PROOF_OF_ANOTHER,
    "It has proven the key or the certificate of another child.",
    "Run gatewayctl explain CHILD, which names that; find out which device answers at its "
    "address, then run gatewayctl reject CHILD for the one that is not genuine.",
)
PROOF_PENDING = Reason(
    "proof-pending",
    "It has not proven its key yet.",
    "If it stays so, the table of its proof is newer than this run of gatewayd: run systemctl "
    "restart gatewayd.",
)
OTHER_IDENTITY = Reason(
    "proof-of-other-identity",
    "Its certificate is of another identity than the one that it announces.",
    "Find out which device answers at its address; or correct extract and device_name of its "
    "rule, then run gatewayctl reload.",
)
NOT_PINNED = Reason(
    "key-not-pinned",
    "Its key is not known from an earlier approval.",
    "Compare the key that gatewayctl explain CHILD prints with that of the device, then run "
    "gatewayctl approve CHILD, which pins it.",
)
ADMITTED_BY_RULE = "admitted-by-rule"
"""The code where a rule alone has admitted a device: no person, no window."""

NAME_UNUSABLE = "name-unusable"
"""The code where a rule can give a device no name."""

APPROVAL_REQUIRED = "approval-required"
"""The code where a rule asks an operator, and nothing else prevents the registration."""

_DECIDE = "Run gatewayctl approve CHILD, or gatewayctl reject CHILD."
_TAKEN = "Another child has the name that the rule gives to this device."
_RENAME = (
    "Use more of the identity in the rule's device_name, then run gatewayctl reload; or forget the "
    "other child."
)


@dataclass(frozen=True, slots=True)
class _Named:
    """The result of a rule for one view: a cloud name, or why there is none; and its trust."""

    cloud: CloudName | None
    fault: str
    trust: Trust
    view: View


def decide(
    evidence: Evidence,
    rules: Sequence[Rule],
    device: DeviceId,
    context: PolicyContext,
) -> Decision:
    """Return the decision on one device.  Never raises, whatever the evidence holds."""
    trace: list[str] = []
    for rule in rules:
        progress = [_progress(rule, view) for view in evidence.views]
        if failed := _failed(rule, progress):
            trace.append(f"{rule.name}: {failed} does not match")
            continue
        trace.append(f"{rule.name}: matches")
        names = _names(rule, evidence, progress)
        named = next((one for one in names if one.cloud is not None), names[0])
        why = _check_name(rule, named, device, context)
        action, reason = _judge(rule, evidence, named, why)
        proof = rule.proof if rule.action in NEEDS_CLOUD else ""
        facts = tuple(trace), named.trust
        asked = Decision(action, rule.name, reason, named.cloud, *facts, proof=proof)
        if context.window is None or reason.code != APPROVAL_REQUIRED:
            return asked
        inside = [
            n for n in names if n.cloud == named.cloud and context.window.covers(rule, n.view)
        ]
        return _admit_by_window(asked, rule, inside, context)
    reason = NO_RULE if evidence.conflict in UNDISPUTED else _conflict(evidence)
    return Decision(Action.ASK, "", reason, None, tuple(trace), evidence.trust)


def interest(attributes: View, rules: Sequence[Rule]) -> Literal["wanted", "stranger", "ignored"]:
    """Return the interest in a name of which only the keys of BEFORE_RESOLVING are known.

    "wanted": a rule could register it or ask.  "ignored": a rule ignores it, whatever the other
    keys hold.  "stranger": neither.  An absent key counts as not known.
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


def is_listed(view: View, rules: Sequence[Rule]) -> bool:
    """Whether the rule that decides about a device lists the identity that it claims."""
    rule = next((one for one in rules if _progress(one, view) == len(one.predicates)), None)
    if rule is None or rule.template is None or not rule.listed:
        return False
    identity = identity_of(rule, view)
    return all(identity.get(field) in rule.listed for field in rule.template.fields)


def _known(key: str, attributes: View) -> bool:
    return key in BEFORE_RESOLVING and normalised(key, attributes) is not None


def _failed(rule: Rule, progress: Sequence[int]) -> str:
    """Return the key at which the rule fails, in the view that gets furthest; "" if none."""
    if not progress:
        return "the device"
    furthest = max(progress)
    return "" if furthest == len(rule.predicates) else rule.predicates[furthest].key


def _progress(rule: Rule, view: View) -> int:
    """Return how many predicates hold, up to the first that does not."""
    for number, predicate in enumerate(rule.predicates):
        if not predicate.holds(view):
            return number
    return len(rule.predicates)


def _names(rule: Rule, evidence: Evidence, progress: Sequence[int]) -> Sequence[_Named]:
    """Return the name by each matching view; never empty.  progress: of each view."""
    reached = zip(evidence.views, progress, strict=True)
    return [_name(rule, view, evidence) for view, n in reached if n == len(rule.predicates)]


def _conflict(evidence: Evidence) -> Reason:
    return OF_ANOTHER if evidence.conflict == PROOF_OF_ANOTHER else CONFLICT


def _proof(rule: Rule, evidence: Evidence) -> Proof | None:
    """Return the outcome of the proof that a rule names, if it was made."""
    made = evidence.proof
    return made if made is not None and rule.proof and made.name == rule.proof else None


def _with_proof(view: View, proof: Proof | None) -> View:
    """Return a view with the keys of PROOF_KEYS, which nothing but a proof can set."""
    if proof is None and PROOF_KEYS.isdisjoint(view):
        return view
    own = {key: value for key, value in view.items() if key not in PROOF_KEYS}
    return {**own, PROVEN_IDENTITY: proof.identity} if proof and proof.identity else own


def _name(rule: Rule, seen: View, evidence: Evidence) -> _Named:
    if rule.template is None:
        return _Named(None, "", evidence.trust, seen)
    proof = _proof(rule, evidence)
    view = _with_proof(seen, proof)
    identity = identity_of(rule, view, evidence.common)
    try:
        name = rule.template.fill(identity)
    except RuleError as unfit:
        shown = identity_of(rule, view)
        lost = sorted(f for f in rule.template.fields if f in shown and f not in identity)
        why = f"Several devices show its {lost[0]}, so it identifies none." if lost else str(unfit)
        return _Named(None, why, evidence.trust, view)
    fields = {identity[field] for field in rule.template.fields}
    trust = _listed(rule, name, fields, _trust(view, evidence))
    if proof is not None and evidence.conflict in UNDISPUTED:
        said = fields | {identity[field] for field in ("serial",) if field in identity}
        trust = max(trust, _by_proof(proof, said))
    return _Named(CloudName(rule.provider, rule.product, name, rule.route), "", trust, view)


def _trust(view: View, evidence: Evidence) -> Trust:
    """Return the trust of the view that gives the name: a better view counts for itself only."""
    own = Trust[view["trust"].upper()] if "trust" in view else evidence.trust
    return min(own, evidence.trust)


def _by_proof(proof: Proof, said: Collection[str]) -> Trust:
    """Return the trust that a proof gives.  said: what the device says of its identity."""
    if proof.covers(said):
        return Trust.PROVEN
    return Trust.PINNED if proof.pinned and not proof.identity else Trust.CLAIMED


def _listed(rule: Rule, name: str, fields: set[str], trust: Trust) -> Trust:
    """Raise trust where the list holds the whole name, or each field that it is made of.

    One listed field is not enough: an attacker who knows it could vary the others.
    """
    return max(trust, Trust.LISTED) if name in rule.listed or fields <= rule.listed else trust


def _judge(
    rule: Rule, evidence: Evidence, named: _Named, why: Reason | None
) -> tuple[Action, Reason]:
    """Return action and reason of a rule that matches: each objection is a reason to ask.

    why: the objection to the name itself.
    """
    if rule.action not in NEEDS_CLOUD:
        word = "rejected" if rule.action is Action.REJECT else "ignored"
        return rule.action, Reason(f"{word}-by-rule", f"Rule {rule.name} has action {rule.action}.")
    if evidence.conflict not in UNDISPUTED:
        return Action.ASK, _conflict(evidence)
    proof = _proof(rule, evidence)
    if why is not None:
        if why.code == NAME_UNUSABLE and rule.trust in BY_PROOF:
            unproven = _unproven_key(rule, proof)
            why = why if unproven.code == OTHER_IDENTITY.code else unproven
        return Action.ASK, why
    if rule.action is Action.ASK:
        text = f"Rule {rule.name} leaves the decision to the operator."
        return Action.ASK, Reason(APPROVAL_REQUIRED, text, _DECIDE)
    if named.trust < rule.trust:
        return Action.ASK, _unproven(rule, named.trust, proof)
    return Action.REGISTER, Reason(ADMITTED_BY_RULE, f"Rule {rule.name} admits it.")


def _check_name(
    rule: Rule, named: _Named, device: DeviceId, context: PolicyContext
) -> Reason | None:
    """Return why this name cannot be given to the device; None if it can."""
    if named.cloud is None:
        remedy = f"Correct extract or device_name of rule {rule.name}, then run gatewayctl reload."
        return Reason(NAME_UNUSABLE, named.fault, remedy)
    owner = context.names.get(named.cloud)
    if owner not in (None, device):
        return Reason("name-conflict", _TAKEN, _RENAME)
    if rule.action is Action.REGISTER and owner is None and _full(rule, context):
        text = f"Rule {rule.name} has admitted {rule.devices} children, its limit."
        return Reason("limit-reached", text, _RAISE_LIMIT)
    return None


def _admit_by_window(
    asked: Decision, rule: Rule, inside: Sequence[_Named], context: PolicyContext
) -> Decision:
    """Return the decision on a device that a rule asks about, while the join window is open.

    inside: the name by each view inside the window's scope.
    """
    trust = max((one.trust for one in inside), default=Trust.CLAIMED)
    if why := _outside_window(rule, trust, context, inside=bool(inside)):
        line = f"{rule.name}: not admitted by the open join window: {why}"
        return replace(asked, trace=(*asked.trace, line))
    text = f"The open join window admits it, by rule {rule.name}."
    reason = Reason("admitted-by-window", text)
    return replace(asked, action=Action.REGISTER, reason=reason, trust=trust, by_window=True)


def _outside_window(rule: Rule, trust: Trust, context: PolicyContext, *, inside: bool) -> str:
    """Return why the open join window does not admit a device; "" if it does."""
    if not rule.window:
        return "the rule does not have window = true"
    if not inside:
        return "the device is outside its scope"
    if _full(rule, context):
        return f"the rule has admitted {rule.devices} children, its limit"
    return _unproven(rule, trust, None).text if trust < rule.trust else ""


def _full(rule: Rule, context: PolicyContext) -> bool:
    return context.by_rule.get(rule.name, 0) >= rule.devices


_RAISE_LIMIT = "Raise limits.devices and run gatewayctl reload, or run gatewayctl approve CHILD."
_RAISE_TRUST: Mapping[Trust, str] = {
    Trust.CLAIMED: "Run gatewayctl approve CHILD.",
    Trust.CORROBORATED: "Wait until the kernel has seen its MAC, or run gatewayctl approve CHILD.",
    Trust.LISTED: (
        "Add its identity to the rule's list and run gatewayctl reload, or run gatewayctl approve "
        "CHILD."
    ),
    Trust.AUTHENTICATED: (
        "Have it log in at gatewayd's own broker, or run gatewayctl approve CHILD."
    ),
}


def _unproven(rule: Rule, trust: Trust, proof: Proof | None) -> Reason:
    """Return why an identity is not proven as well as a rule requires."""
    if rule.trust in BY_PROOF:
        return _unproven_key(rule, proof)
    text = f"Rule {rule.name} requires a {rule.trust.word} identity; this one is {trust.word}."
    return Reason("trust-too-low", text, _RAISE_TRUST[rule.trust])


def _unproven_key(rule: Rule, proof: Proof | None) -> Reason:
    if proof is None:
        return PROOF_PENDING
    if proof.reason.code:
        return proof.reason
    return NOT_PINNED if rule.trust is Trust.PINNED else OTHER_IDENTITY


def identity_of(
    rule: Rule, view: Mapping[str, str], common: Collection[str] = ()
) -> Mapping[str, str]:
    """Return the fields of identity that a rule extracts from a view.

    common: values that identify no device.
    """
    found = ((one.field, one.of(view, common)) for one in rule.extractions)
    return {field: value for field, value in found if value}


def identity_claims(view: View, rules: Sequence[Rule]) -> frozenset[Claim]:
    """Return what the first rule that matches a view takes for the device's identity.

    The namespace is the product and how the field is extracted, so that it outlives the name of the
    rule, and a rule that extracts another value contradicts nothing that is on record.  The MAC
    that the kernel saw is left out: it is a claim of its own, which no announcement can write.
    """
    rule = next((one for one in rules if _progress(one, view) == len(one.predicates)), None)
    if rule is None or rule.template is None:
        return frozenset()
    announced = {key: value for key, value in view.items() if key != "mac"}
    found = (one.claims(rule.product, announced) for one in rule.extractions)
    return frozenset(chain.from_iterable(found))
