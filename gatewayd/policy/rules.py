"""The grammar of rules: what a [[rule]] table may hold, and the rule that is made of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.device.identity import Trust, mac
from gatewayd.policy.admission import Action
from gatewayd.policy.extraction import Extraction, extraction
from gatewayd.policy.naming import Template, template
from gatewayd.policy.pattern import Predicate, Unfit, predicate
from gatewayd.settings import REQUIRED, setting

MAX_RULES = 1000
NEEDS_CLOUD = (Action.REGISTER, Action.ASK)
_WORDS = tuple(trust.word for trust in Trust)

Report: TypeAlias = Callable[[tuple[str, ...], str], None]
"""Takes the keys of what is wrong inside a rule, and a sentence."""


@dataclass(frozen=True, slots=True)
class Require:
    """[rule.require]"""

    trust: str = setting(
        "", "how well the identity must be proven to register; none given: listed",
        choices=("", *_WORDS),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """[rule.limits]"""

    devices: int = setting(256, "children that the rule may admit", low=1, high=100_000)


@dataclass(frozen=True, slots=True)
class RuleTable:
    """[[rule]]"""

    name: str = setting(REQUIRED, "what the rule is called; no two share a name")
    match: Mapping[str, str | tuple[str, ...]] = setting(
        REQUIRED, "globs that must all match; a list means any of them"
    )
    action: Action = setting(REQUIRED, "what to do with a device that matches")
    extract: Mapping[str, str] = setting({}, "fields of identity: key, key|key or key ~ regex")
    route: str = setting("", "one of the provider's ways to register; its default where empty")
    device_name: str = setting("", "the child's name at the cloud, as meter-{serial|lower}")
    provider: str = setting("", "the cloud, by the name of its table")
    product: str = setting("", "the product there")
    require: Require = setting(Require(), "what must hold to register without asking")
    list: str = setting("", "a file of identities, one a line, relative to the rule's own file")
    limits: Limits = setting(Limits(), "how much the rule may admit")
    window: bool = setting(
        False, "with action ask: an open join window admits what `require` and `limits` allow"
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be evaluated.

    template, provider, product: for register and ask; None or "" otherwise.
    listed: identities as `as_listed` returns them.  devices: how many it may admit.
    window: whether a join window can admit what the rule would ask about.
    """

    name: str
    predicates: tuple[Predicate, ...]
    extractions: tuple[Extraction, ...]
    template: Template | None
    action: Action
    provider: str
    product: str
    trust: Trust
    listed: frozenset[str]
    devices: int
    route: str = ""
    window: bool = False

    def identity(self, view: Mapping[str, str]) -> Mapping[str, str]:
        """Return the fields of identity that a view shows."""
        found = ((one.field, one.of(view)) for one in self.extractions)
        return {field: value for field, value in found if value}


def rule(table: RuleTable, listed: frozenset[str], report: Report) -> Rule | None:
    """Make a rule; None if something in it is wrong, all of which is reported."""
    wrong: list[str] = []

    def note(at: tuple[str, ...], text: str) -> None:
        wrong.append(text)
        report(at, text)

    _check_words(table, note)
    _check_window(table, note)
    trust = _trust(table, note)
    predicates = _predicates(table, note)
    extractions = _extractions(table, note)
    named = _template(table, extractions, note)
    if wrong:
        return None
    return Rule(
        table.name, predicates, extractions, named, table.action, table.provider, table.product,
        trust, listed, table.limits.devices, table.route, table.window,
    )  # fmt: skip


def as_listed(text: str) -> frozenset[str]:
    """Return the values of a field that one line of a list stands for: itself, and as a MAC.

    Nothing else is alike: a child's name may differ in case alone, and each would be listed.
    """
    return frozenset({text.strip(), mac(text.strip())} - {""})


def _check_words(table: RuleTable, report: Report) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", table.name):
        report(("name",), "is at most 64 letters, digits and _ . -")
    words = {"provider": table.provider, "product": table.product, "route": table.route}
    for key, value in words.items():
        if not re.fullmatch(r"[A-Za-z0-9_.:@-]{0,128}", value):
            report((key,), "holds only letters, digits and _ . : @ -")
        if table.action in NEEDS_CLOUD and not value and key != "route":
            report((), f"action {table.action} needs '{key}': add it")


def _check_window(table: RuleTable, report: Report) -> None:
    if table.window and table.action is not Action.ASK:
        text = f"is for action ask: a rule that says {table.action} needs no join window"
        report(("window",), text)


def _trust(table: RuleTable, report: Report) -> Trust:
    if not table.require.trust:
        return Trust.LISTED
    trust = Trust[table.require.trust.upper()]
    if table.action is Action.REGISTER and trust is Trust.HEARD:
        report(
            ("require", "trust"),
            "anybody on the LAN could register devices: ask for more than heard, or use ask",
        )
    return trust


def _predicates(table: RuleTable, report: Report) -> tuple[Predicate, ...]:
    if not table.match:
        report(("match",), "an empty match would take every device: name at least one key")
    made = []
    for key, value in table.match.items():
        try:
            made.append(predicate(key, (value,) if isinstance(value, str) else value))
        except Unfit as fault:
            report(("match", key), str(fault))
    return tuple(made)


def _extractions(table: RuleTable, report: Report) -> tuple[Extraction, ...]:
    made = []
    for field, text in table.extract.items():
        try:
            made.append(extraction(field, text))
        except Unfit as fault:
            report(("extract", field), str(fault))
    return tuple(made)


def _template(
    table: RuleTable, extractions: tuple[Extraction, ...], report: Report
) -> Template | None:
    if table.action not in NEEDS_CLOUD:
        return None
    if not table.device_name:
        report((), f"action {table.action} needs 'device_name': add it")
        return None
    try:
        return template(table.device_name, [one.field for one in extractions])
    except Unfit as fault:
        if len(extractions) == len(table.extract):  # else the missing field was reported already
            report(("device_name",), str(fault))
        return None
