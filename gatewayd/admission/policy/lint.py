"""Checks of a set of rules for what is valid, and probably a mistake."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.admission.policy.naming import TemplateField
from gatewayd.admission.policy.patterns import Effort, TooComplex
from gatewayd.admission.policy.rules import NEEDS_CLOUD, Action, Rule
from gatewayd.device.identity import Trust

MAX_STEPS = 3_000_000
"""What the search for rules that are never used may cost, for all rules together: some seconds."""


NO_HOLDER = (
    "gives its children to holders, and by this route they have no session of their own: choose a "
    "route of directly connected devices, or leave out 'session'"
)


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A probable mistake: the number of the rule from 0, the key inside it, and a sentence.

    serious: the rule cannot work as written.
    """

    rule: int
    key: str
    text: str
    serious: bool = False


def check_rules(
    rules: Sequence[Rule],
    clouds: Mapping[str, Collection[str] | None] | None = None,
    hands_over: Callable[[str, str], bool] = lambda _cloud, _route: True,
) -> Iterator[LintFinding]:
    """Yield the findings, in the order of the rules.

    clouds: the products of each configured cloud, None for one that does not list them.  Without
    clouds, providers and products are not checked.
    hands_over: whether children of a cloud, by a route, can have holders.
    """
    effort = Effort(MAX_STEPS)
    for number, rule in enumerate(rules):
        if effort.left:
            yield from _shadow(rules[:number], rule, number, effort)
        if rule.action in NEEDS_CLOUD:
            yield from _weak(rule, number)
            if clouds is not None:
                yield from _cloud(rule, number, clouds)
            if rule.held and not hands_over(rule.provider, rule.route):
                yield LintFinding(number, "session", NO_HOLDER, serious=True)


def covers(earlier: Rule, later: Rule, effort: Effort) -> bool:
    """Whether the earlier rule matches every view that the later one matches.

    Raises TooComplex.
    """
    effort.spend(1)
    return all(any(ours.covers(p, effort) for p in later.predicates) for ours in earlier.predicates)


def _shadow(
    earlier: Sequence[Rule], rule: Rule, number: int, effort: Effort
) -> Iterator[LintFinding]:
    """Yield whether a rule is never used, or that the search for that was given up."""
    try:
        over = next((other for other in earlier if covers(other, rule, effort)), None)
    except TooComplex:
        text = "and those after it were not compared with earlier ones: write fewer wildcards"
        yield LintFinding(number, "match", text)
        return
    if over is None:
        return
    if over.action is rule.action:
        text = f"is never used: rule {over.name}, before it, matches the same devices"
    else:
        text = (
            f"contradicts rule {over.name} ({over.action}), before it, which matches the same "
            f"devices: move it up, or remove it"
        )
    yield LintFinding(number, "match", text, serious=True)


def _weak(rule: Rule, number: int) -> Iterator[LintFinding]:
    when = " while a join window is open" if rule.window else ""
    registers = rule.action is Action.REGISTER or rule.window
    if registers and rule.trust < Trust.LISTED:
        text = f"registers devices whose identity any host on the LAN can imitate{when}"
        yield LintFinding(number, "require", text)
    if registers and rule.trust is Trust.LISTED and not rule.listed and not rule.proof:
        text = "requires listed devices and lists none: only authenticated ones register"
        yield LintFinding(number, "list", text + when)
    slots = (
        [part for part in rule.template.parts if isinstance(part, TemplateField)]
        if rule.template
        else []
    )
    if slots and all("last4" in slot.filters for slot in slots):
        yield LintFinding(
            number, "device_name", "is made of four characters: two devices may have the same"
        )


def _cloud(
    rule: Rule, number: int, clouds: Mapping[str, Collection[str] | None]
) -> Iterator[LintFinding]:
    if rule.provider not in clouds:
        known = ", ".join(sorted(clouds)) or "none"
        text = f"names the provider {rule.provider}, which is not a configured cloud: known are "
        yield LintFinding(number, "provider", text + known, serious=True)
        return
    products = clouds[rule.provider]
    if products is not None and rule.product not in products:
        text = f"names {rule.product}, which is not a configured product of cloud {rule.provider}"
        yield LintFinding(number, "product", text, serious=True)
