"""What the rules want of a name is the same, by the rules and by their data."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.engine import BEFORE_RESOLVING
from gatewayd.admission.policy.rules import Action, Rule, RuleTable, make_rule
from gatewayd.admission.rules import RuleBook
from gatewayd.discovery.discoverer import Interest
from gatewayd.discovery.name_rules import NAME_KEYS, judge_name


def rule(action: Action, match: Mapping[str, str | tuple[str, ...]]) -> Rule:
    table = RuleTable(name="r", match=match, action=action)
    if action in (Action.REGISTER, Action.ASK):
        table = RuleTable(
            name="r", match=match, action=action, extract={"serial": "txt.sn ~ [0-9]{1,8}"},
            device_name="pm-{serial}", provider="alibaba", product="a1",
        )  # fmt: skip
    faults: list[str] = []
    made = make_rule(table, frozenset(), lambda _, text: faults.append(text))
    assert made is not None, faults
    return made


VALUES = ("a", "B", "ab", "mdns", "mdns/lan0", "a.b")
GLOBS = ("a", "*", "A*", "?b", "[ab]", "mdns", "x*")
matches = st.dictionaries(
    st.sampled_from(["service", "instance", "interface", "source", "txt.model", "subnet"]),
    st.one_of(st.sampled_from(GLOBS), st.lists(st.sampled_from(GLOBS), min_size=1).map(tuple)),
    min_size=1,
    max_size=3,
).map(lambda match: match | ({"subnet": "10.0.0.0/8"} if "subnet" in match else {}))


@given(
    st.lists(st.builds(rule, st.sampled_from(Action), matches), max_size=5),
    st.dictionaries(st.sampled_from(sorted(NAME_KEYS)), st.sampled_from(VALUES)),
)
def test_names_are_judged_alike(rules: list[Rule], attributes: dict[str, str]) -> None:
    book = RuleBook(tuple(rules))
    assert judge_name(attributes, book.name_rules()) is book.interest(attributes)


def test_what_is_known_of_a_name_is_said_once() -> None:
    assert NAME_KEYS == BEFORE_RESOLVING


def test_other_rules_give_other_data() -> None:
    book = RuleBook(())
    assert book.name_rules() == ()
    assert judge_name({"service": "a"}, book.name_rules()) is Interest.STRANGER
    book.replace((rule(Action.ASK, {"service": "a"}),))
    assert book.name_rules() is book.name_rules()
    assert judge_name({"service": "A"}, book.name_rules()) is Interest.WANTED


@pytest.mark.parametrize("action", [Action.IGNORE, Action.REJECT])
def test_a_rule_with_other_conditions_does_not_end_it(action: Action) -> None:
    book = RuleBook(
        (rule(action, {"service": "a", "txt.model": "*"}), rule(Action.ASK, {"service": "a"}))
    )
    assert judge_name({"service": "a"}, book.name_rules()) is Interest.WANTED
