"""What is odd in a set of rules is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gatewayd.admission.policy import lint
from gatewayd.admission.policy.lint import check_rules
from gatewayd.admission.policy.patterns import Effort
from gatewayd.admission.policy.rules import (
    MAX_RULES,
    Action,
    Rule,
    RuleRequirements,
    RuleTable,
    make_rule,
)


def a_rule(name: str, match: dict[str, Any], action: Action = Action.ASK, **keys: Any) -> Rule:
    listed = frozenset(keys.pop("listed", ()))
    base: dict[str, Any] = {
        "extract": {"mac": "mac"}, "device_name": "c-{mac}", "provider": "huawei", "product": "p",
    }  # fmt: skip
    faults: list[str] = []
    table = RuleTable(name=name, match=match, action=action, **(base | keys))
    made = make_rule(table, listed, lambda _, text: faults.append(text))
    assert made is not None, faults
    return made


def found(*rules: Rule, clouds: Any = None) -> list[tuple[int, str, bool]]:
    return [(one.rule, one.key, one.serious) for one in check_rules(rules, clouds)]


@pytest.mark.parametrize(
    ("early", "late", "shadowed"),
    [
        ({"service": "_a*"}, {"service": "_a._tcp"}, True),
        ({"service": "_a*"}, {"service": "_a._tcp", "model": "x"}, True),
        ({"service": "_a*", "model": "x"}, {"service": "_a._tcp"}, False),
        ({"service": "_a._tcp"}, {"service": "_a*"}, False),
        ({"service": ("_a*", "_b*")}, {"service": ("_b1", "_a1")}, True),
        ({"service": ("_a*", "_b*")}, {"service": ("_b1", "_c1")}, False),
        ({"mac": "*"}, {"oui": "00:17:88"}, True),
        ({"subnet": "10.0.0.0/8"}, {"subnet": "10.1.0.0/16", "service": "x"}, True),
    ],
)
def test_a_rule_that_is_never_used_is_found(
    early: dict[str, Any], late: dict[str, Any], shadowed: bool
) -> None:
    assert found(a_rule("a", early), a_rule("b", late)) == ([(1, "match", True)] * shadowed)


def test_a_contradiction_names_both() -> None:
    rules = (a_rule("all", {"service": "*"}, Action.IGNORE), a_rule("some", {"service": "_a"}))
    (one,) = check_rules(rules)
    assert "contradicts rule all (ignore)" in one.text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"require": RuleRequirements("corroborated")}, [(0, "require", False)]),
        ({"require": RuleRequirements("authenticated")}, []),
        ({"listed": {"x"}}, []),
        ({}, [(0, "list", False)]),
        ({"listed": {"x"}, "device_name": "c-{mac|last4}"}, [(0, "device_name", False)]),
    ],
)
def test_weak_rules_are_found(keys: dict[str, Any], expected: list[Any]) -> None:
    assert found(a_rule("a", {"service": "x"}, Action.REGISTER, **keys)) == expected


@pytest.mark.parametrize(
    ("trust", "listed", "key"),
    [
        ("claimed", set(), "require"),
        ("corroborated", set(), "require"),
        ("", set(), "list"),
        ("", {"x"}, ""),
        ("authenticated", set(), ""),
    ],
)
def test_what_a_join_window_would_admit_is_found(trust: str, listed: set[str], key: str) -> None:
    one = a_rule("a", {"service": "x"}, require=RuleRequirements(trust), listed=listed, window=True)
    keys = [(finding.key, finding.serious) for finding in check_rules([one])]
    assert keys == ([(key, False)] if key else [])
    assert all(
        finding.text.endswith("while a join window is open") for finding in check_rules([one])
    )
    assert not list(check_rules([replace(one, window=False)]))


@pytest.mark.parametrize(
    ("clouds", "expected"),
    [
        (None, []),
        ({}, [(0, "provider", True)]),
        ({"alibaba": {"p"}}, [(0, "provider", True)]),
        ({"huawei": {"q"}}, [(0, "product", True)]),
        ({"huawei": {"p"}}, []),
        ({"huawei": None}, []),
    ],
)
def test_clouds_and_products_must_be_configured(clouds: Any, expected: list[Any]) -> None:
    assert found(a_rule("a", {"service": "x"}), clouds=clouds) == expected


def test_a_rule_that_keeps_out_needs_no_cloud() -> None:
    rules = [a_rule("a", {"service": "x"}, Action.REJECT, provider="", product="")]
    assert not list(check_rules(rules, {}))


def test_intricate_rules_are_compared_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty such rules took 38 s."""
    spent: list[int] = []
    real = Effort.spend

    def spend(self: Effort, steps: int) -> None:
        spent.append(steps)
        real(self, steps)

    monkeypatch.setattr(Effort, "spend", spend)
    monkeypatch.setattr(lint, "MAX_STEPS", 30_000)
    globs = ["?a[b-z]*" * 10 + f"{number}*a?b*" for number in range(60)]
    rules = [a_rule(f"r{number}", {"service": glob}) for number, glob in enumerate(globs)]
    last = list(check_rules(rules))[-1]
    assert (last.key, last.serious) == ("match", False)
    assert "not compared" in last.text
    assert sum(spent[:-1]) <= 30_000


def test_as_many_plain_rules_as_may_be_are_all_compared() -> None:
    rules = [a_rule(f"r{number}", {"service": f"_s{number}._tcp"}) for number in range(MAX_RULES)]
    assert not found(*rules)
