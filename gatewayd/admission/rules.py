"""The rules of an installation: rule files with their lists of identities, and the rules in force.

policy/rules.py says what a rule may hold; here are the files, and the place of each rule in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from gatewayd.admission.policy.commands import allows
from gatewayd.admission.policy.engine import (
    PolicyContext,
    decide,
    identity_claims,
    interest,
    is_listed,
)
from gatewayd.admission.policy.lint import check_rules
from gatewayd.admission.policy.patterns import FREE_WORDS, Glob
from gatewayd.admission.policy.rules import (
    MAX_RULES,
    NEEDS_CLOUD,
    Action,
    Decision,
    Rule,
    RuleMessages,
    RuleTable,
    listed_values,
    make_rule,
    never_listed,
)
from gatewayd.admission.policy.suggestion import (
    CloudChoice,
    RulePurpose,
    RuleSuggestion,
    suggest,
)
from gatewayd.device.command import ChildCommand
from gatewayd.device.identity import Claim, DeviceId, Evidence, uuid_text
from gatewayd.discovery.discoverer import Interest
from gatewayd.discovery.name_rules import NAME_KEYS, NameRule
from gatewayd.settings.build import SettingsBuilder, dotted
from gatewayd.settings.files import (
    Document,
    KeyPath,
    Problems,
    drop_ins,
    passed_over,
    read,
    read_text,
    shown,
)

MAX_USELESS = 20
"""Entries of one list that are named in warnings."""


@dataclass(slots=True)
class RuleSet:
    """Rules in the order of evaluation, and the place of each in its file.

    lists: the files of identities that they name.
    """

    rules: list[Rule] = field(default_factory=list)
    places: list[tuple[Document, KeyPath]] = field(default_factory=list)
    lists: set[Path] = field(default_factory=set)

    def place(self, number: int, *keys: str) -> tuple[Path, int]:
        """Return file and line of a rule, or of a key inside it."""
        document, at = self.places[number]
        return document.where((*at, *keys))

    def check(
        self,
        problems: Problems,
        clouds: Mapping[str, Collection[str] | None] | None = None,
        hands_over: Callable[[str, str], bool] = lambda _cloud, _route: True,
    ) -> None:
        """Note the findings of policy/lint.py, which describes `clouds` and `hands_over`."""
        for found in check_rules(self.rules, clouds, hands_over):
            text = f"rule {self.rules[found.rule].name} {found.text}"
            problems.add(self.place(found.rule, found.key), text, fatal=found.serious)


def read_installed(directories: Sequence[Path], problems: Problems) -> RuleSet:
    """Read the rules of several rules.d directories, and warn of files that are passed over."""
    found = read_rules(drop_ins(directories, problems), problems)
    passed_over(directories, found.lists, problems)
    return found


def read_rules(files: Iterable[Path], problems: Problems) -> RuleSet:
    """Read the rules of these files, in this order, without those that have a problem."""
    found = RuleSet()
    first: dict[str, tuple[Path, int]] = {}
    for document in filter(None, (read(path, problems) for path in files)):
        for number, raw in enumerate(_tables(document, problems)):
            at: KeyPath = ("rule", number)
            made = _rule(document, raw, at, problems, found.lists)
            if made is None:
                continue
            if made.name in first:
                path, line = first[made.name]
                text = f"duplicate name {made.name}, also at {path}:{line}: rename one of them"
                problems.add(document.where((*at, "name")), text)
            first.setdefault(made.name, document.where(at))
            found.rules.append(made)
            found.places.append((document, at))
            if len(found.rules) == MAX_RULES + 1:
                problems.add(document.where(at), f"more than {MAX_RULES} rules: write fewer globs")
    return found


def _tables(document: Document, problems: Problems) -> list[object]:
    SettingsBuilder(document, problems).refuse_unknown(document.table, {"rule"}, ())
    tables = document.table.get("rule", [])
    if isinstance(tables, list):
        return tables
    problems.add(document.where(("rule",)), "'rule' must be an array of tables: write [[rule]]")
    return []


def _rule(
    document: Document, raw: object, at: KeyPath, problems: Problems, lists: set[Path]
) -> Rule | None:
    """Make a rule; None if it has problems.  lists: gets the file that it names."""
    table = SettingsBuilder(document, problems).build(RuleTable, _flat(raw), at)
    if table is None:
        return None
    listed: Mapping[int, str] | None = {}
    if table.list:
        lists.add(path := document.path.parent / table.list)
        listed = _listed(path, document.where((*at, "list")), problems)

    def report(keys: tuple[str, ...], text: str) -> None:
        what = f"rule {shown(table.name)}" + (f": {dotted(keys)}" if keys else "")
        problems.add(document.where((*at, *keys)), f"{what}: {text}")

    values = frozenset[str]().union(*map(listed_values, (listed or {}).values()))
    made = make_rule(table, values, report)
    if made is not None and listed:
        _warn_of_useless(path, listed, made, problems)
    return None if listed is None else made


def _flat(raw: object) -> object:
    """Turn match.txt.model, which is a nested table in TOML, into the key "txt.model"."""
    match = raw.get("match") if isinstance(raw, dict) else None
    if not (isinstance(raw, dict) and isinstance(match, dict)):
        return raw
    flat: dict[str, object] = {}
    for word, value in match.items():
        if word in FREE_WORDS and isinstance(value, dict):
            flat |= _joined(word, value)
        else:
            flat[word] = value
    return {**raw, "match": flat}


def _joined(before: str, nested: Mapping[str, object]) -> dict[str, object]:
    """Return the values of nested tables by keys with dots."""
    found: dict[str, object] = {}
    for key, value in nested.items():
        name = f"{before}.{key}"
        found |= _joined(name, value) if isinstance(value, dict) else {name: value}
    return found


def _listed(path: Path, named: tuple[Path, int], problems: Problems) -> Mapping[int, str] | None:
    """Read a list of identities, one on each line; `#` begins a comment.  By number of the line.

    named: where a rule names it.  Returns None if it cannot be read.
    """
    text = read_text(path, problems)
    if text is None:
        problems.add(named, "the list cannot be used: see the previous problem")
        return None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    listed = {number: entry for number, entry in enumerate(lines, 1) if entry}
    if not listed:
        problems.add((path, 0), "lists nothing: write one identity on each line", fatal=False)
    return listed


def _warn_of_useless(path: Path, listed: Mapping[int, str], rule: Rule, problems: Problems) -> None:
    """Warn of entries that no device of a rule can have."""
    useless = [(line, why) for line, entry in listed.items() if (why := never_listed(entry, rule))]
    for line, why in useless[:MAX_USELESS]:
        problems.add((path, line), f"matches no device of rule {rule.name}: {why}", fatal=False)
    if more := useless[MAX_USELESS:]:
        text = f"{len(more)} more entries match no device of rule {rule.name}"
        problems.add((path, more[0][0]), text, fatal=False)


class RuleBook:
    """The rules in force, and how often each has decided a device."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules, self.version = rules, 0
        self._hits: Counter[str] = Counter()
        self._named: tuple[tuple[Rule, ...], tuple[NameRule, ...]] = (), ()
        self._values: tuple[tuple[Rule, ...], frozenset[str]] = (), frozenset()

    def replace(self, rules: tuple[Rule, ...]) -> None:
        """Put other rules in force, and count from zero."""
        self.rules = rules
        self.version += 1
        self._hits.clear()

    def judge(self, device: DeviceId, evidence: Evidence, context: PolicyContext) -> Decision:
        """Return the decision of the rules on a device."""
        return decide(evidence, self.rules, device, context)

    def allows(self, rule: str, command: ChildCommand | None) -> bool:
        """Whether a rule allows a command to its children; one that is no longer there does not.

        command: None to ask whether it allows any.
        """
        named = (one.commands for one in self.rules if one.name == rule)
        return any(allows(one, command) if command else bool(one) for one in named)

    def messages(self, rule: str) -> RuleMessages:
        """Return how a rule treats messages; as by default, if it is no longer there."""
        return next((one.messages for one in self.rules if one.name == rule), RuleMessages())

    def hands_over(self, rule: str) -> bool:
        """Whether a rule's children have holders; those of one that is no longer there do not."""
        return any(one.held for one in self.rules if one.name == rule)

    def proof_of(self, rule: str) -> str:
        """Return the proof that a rule names; "" for none, or if the rule is no longer there."""
        return next((one.proof for one in self.rules if one.name == rule), "")

    def count(self, rule: str) -> None:
        """Count a decision that takes effect.  rule: its name; "" counts none."""
        if rule:
            self._hits[rule] += 1

    def suggest(
        self, device: DeviceId, evidence: Evidence, purpose: RulePurpose, cloud: CloudChoice
    ) -> RuleSuggestion:
        """Return a rule that would admit a device, or ignore it.  Raises CannotSuggest."""
        return suggest(evidence, device, purpose, self.rules, cloud)

    @property
    def of_window(self) -> tuple[str, ...]:
        """The rules by which an open join window admits devices."""
        return tuple(rule.name for rule in self.rules if rule.window)

    def identity_claims(self, attributes: Mapping[str, str]) -> frozenset[Claim]:
        """Return what the rules take for the identity of a device with these attributes."""
        return identity_claims(attributes, self.rules)

    def lists(self, one: Claim) -> bool:
        """Whether a rule lists the value of a claim."""
        if self._values[0] is not self.rules:
            listed = chain.from_iterable(rule.listed for rule in self.rules)
            values = frozenset(form for text in listed for form in (text.lower(), uuid_text(text)))
            self._values = self.rules, values
        return one.value in self._values[1]

    def interest(self, attributes: Mapping[str, str]) -> Interest:
        """Return the interest in a device, or in a name that is not resolved yet."""
        if is_listed(attributes, self.rules):
            return Interest.LISTED
        return Interest(interest(attributes, self.rules))

    def name_rules(self) -> tuple[NameRule, ...]:
        """Return what decides about the interest in names, as data."""
        if self._named[0] is not self.rules:
            self._named = self.rules, tuple(map(_name_rule, self.rules))
        return self._named[1]

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and counted decisions of each rule, in order."""
        return tuple((r.name, r.action.value, r.provider, self._hits[r.name]) for r in self.rules)


def _name_rule(rule: Rule) -> NameRule:
    """Return a rule as far as it is about names."""
    about = [one for one in rule.predicates if one.reads in NAME_KEYS]
    globs = tuple(
        (one.reads, tuple(p.text for p in one.patterns if isinstance(p, Glob))) for one in about
    )
    if rule.action in NEEDS_CLOUD:
        interest = Interest.WANTED
    else:
        interest = Interest.IGNORED if rule.action is Action.IGNORE else Interest.STRANGER
    return NameRule(globs, len(about) == len(rule.predicates), interest)
