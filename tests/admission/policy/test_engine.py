"""The first rule that matches decides, and the default is no; whatever is claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.engine import PolicyContext, decide, interest, is_listed
from gatewayd.admission.policy.rules import (
    Action,
    Decision,
    Rule,
    RuleLimits,
    RuleRequirements,
    RuleTable,
    make_rule,
)
from gatewayd.device.identity import NAME_CONTESTED, DeviceId, Evidence, Trust
from gatewayd.device.record import CloudName

ME, OTHER = DeviceId("child-me"), DeviceId("child-other")
METER = {"source": "mdns", "service": "_meter._tcp", "txt.sn": "AB-0042", "interface": "lan0"}


def a_rule(
    name: str = "meters", trust: str = "", listed: tuple[str, ...] = (), **keys: Any
) -> Rule:
    """A rule that registers meters, but for what is said otherwise."""
    action = keys.pop("action", Action.REGISTER)
    table = RuleTable(
        name=name,
        match=keys.pop("match", {"service": "_meter._tcp"}),
        action=action,
        extract={"serial": "txt.sn ~ [A-Za-z0-9/-]{1,20}"},
        device_name="pm-{serial}",
        provider="alibaba",
        product="a1",
        require=RuleRequirements(trust),
        limits=keys.pop("limits", RuleLimits()),
    )
    faults: list[str] = []
    made = make_rule(table, frozenset(listed), lambda _, text: faults.append(text))
    assert made is not None, faults
    return made


def seen(*views: Mapping[str, str], trust: Trust = Trust.CLAIMED, conflict: str = "") -> Evidence:
    return Evidence(views=views, claims=frozenset(), trust=trust, conflict=conflict)


def judged(
    evidence: Evidence,
    *rules: Rule,
    names: Mapping[CloudName, DeviceId] | None = None,
    admitted: Mapping[str, int] | None = None,
) -> Decision:
    return decide(evidence, rules, ME, PolicyContext(names or {}, admitted or {}))


def test_a_listed_meter_is_registered() -> None:
    decision = judged(seen(METER), a_rule(listed=("AB-0042",)))
    assert decision.action is Action.REGISTER
    assert decision.cloud == CloudName("alibaba", "a1", "pm-AB-0042")
    assert decision.trust is Trust.LISTED
    assert decision.rule == "meters"
    assert decision.trace == ("meters: matches",)


def test_the_default_is_to_hold() -> None:
    decision = judged(seen(METER))
    assert (decision.action, decision.reason.code) == (Action.ASK, "no-rule")
    assert decision.cloud is None


def test_nothing_seen_matches_nothing() -> None:
    decision = judged(seen(), a_rule(trust="corroborated"))
    assert (decision.reason.code, decision.trace) == (
        "no-rule",
        ("meters: the device does not match",),
    )


@pytest.mark.parametrize(
    ("wanted", "shown", "action"),
    [
        ("", Trust.CLAIMED, Action.ASK),
        ("", Trust.CORROBORATED, Action.ASK),
        ("", Trust.LISTED, Action.REGISTER),
        ("", Trust.AUTHENTICATED, Action.REGISTER),
        ("corroborated", Trust.CLAIMED, Action.ASK),
        ("corroborated", Trust.CORROBORATED, Action.REGISTER),
        ("authenticated", Trust.LISTED, Action.ASK),
        ("authenticated", Trust.AUTHENTICATED, Action.REGISTER),
    ],
)
def test_what_is_not_proven_is_held(wanted: str, shown: Trust, action: Action) -> None:
    decision = judged(seen(METER, trust=shown), a_rule(trust=wanted))
    assert decision.action is action
    if action is Action.ASK:
        assert decision.reason.code == "trust-too-low"
        assert decision.trust is shown
        assert decision.cloud is not None, "an operator may still approve it"


def test_a_list_says_nothing_of_others() -> None:
    for other in ("AB-0043", "ab-0042", "AB-004"):
        decision = judged(seen(METER), a_rule(listed=(other,)))
        assert (decision.action, decision.trust) == (Action.ASK, Trust.CLAIMED)


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"conflict": "two"}, "identity-conflict"),
        ({"sn": "a/b"}, "name-unusable"),
        ({"sn": ""}, "name-unusable"),
        ({"owner": OTHER}, "name-conflict"),
        ({"admitted": 2}, "limit-reached"),
        ({"action": Action.ASK}, "approval-required"),
        ({"action": Action.ASK, "sn": "a/b"}, "name-unusable"),
        ({"owner": ME, "admitted": 2}, "admitted-by-rule"),
        ({"action": Action.REJECT, "conflict": "two"}, "rejected-by-rule"),
        ({"action": Action.IGNORE}, "ignored-by-rule"),
    ],
)
def test_each_reason(facts: dict[str, Any], code: str) -> None:
    evidence = seen(
        METER | {"txt.sn": facts.get("sn", "AB-0042")},
        trust=Trust.LISTED, conflict=facts.get("conflict", ""),
    )  # fmt: skip
    cloud = CloudName("alibaba", "a1", "pm-AB-0042")
    decision = judged(
        evidence,
        a_rule(action=facts.get("action", Action.REGISTER), limits=RuleLimits(2)),
        names={cloud: facts["owner"]} if "owner" in facts else {},
        admitted={"meters": facts.get("admitted", 0)},
    )
    assert decision.reason.code == code
    assert decision.reason.text.endswith(".")


def test_a_serial_that_several_devices_show_makes_no_name() -> None:
    rule = a_rule(listed=("AB-0042",))
    evidence = replace(seen(METER | {"txt.sn": "AB-0042"}), common=frozenset({"ab-0042"}))
    reason = judged(evidence, rule).reason
    assert reason.code == "name-unusable"
    assert reason.text == "Several devices show its serial, so it identifies none."
    assert judged(replace(evidence, common=frozenset({"x"})), rule).action is Action.REGISTER


def test_a_name_that_two_devices_have_keeps_neither_out() -> None:
    evidence = seen(METER | {"txt.sn": "AB-0042"}, conflict=NAME_CONTESTED)
    assert judged(evidence, a_rule(listed=("AB-0042",))).action is Action.REGISTER
    assert judged(evidence).reason.code == "no-rule"


def test_a_conflict_without_a_rule_is_reported() -> None:
    assert judged(seen(METER, conflict="two")).reason.code == "identity-conflict"


def test_the_first_rule_that_matches_wins_over_all_views() -> None:
    phone = {"source": "mdns", "service": "_companion-link._tcp"}
    deny = a_rule("phones", match={"service": "_companion*"}, action=Action.REJECT)
    meters = a_rule(trust="corroborated")
    both = seen(METER, phone, trust=Trust.LISTED)
    assert judged(both, deny, meters).rule == "phones"
    assert judged(both, meters, deny).rule == "meters"


def test_predicates_of_one_rule_must_hold_in_one_view() -> None:
    both = a_rule(match={"service": "_meter._tcp", "interface": "lan1"})
    decision = judged(seen(METER, {"interface": "lan1"}, trust=Trust.LISTED), both)
    assert decision.rule == ""
    assert decision.trace == ("meters: interface does not match",)


def test_a_view_without_identity_does_not_hide_one_with_it() -> None:
    bare = {"service": "_meter._tcp"}
    assert judged(seen(bare, METER, trust=Trust.LISTED), a_rule()).action is Action.REGISTER


HOSTILE = st.text(max_size=300) | st.sampled_from(["*", "\x1b[2J", "a" * 300, "\ud800", "{serial}"])
KEYS = st.sampled_from(["service", "txt.sn", "mac", "address", "source", "port", "x", ""])
VIEWS = st.lists(st.dictionaries(KEYS, HOSTILE | st.just("_meter._tcp"), max_size=6), max_size=3)
RULES = (
    a_rule("nets", match={"subnet": "10.0.0.0/8", "oui": "00:17:88"}, action=Action.IGNORE),
    a_rule("ports", match={"port": "[0-9]*", "mac": "*"}, action=Action.REJECT),
    a_rule("meters", trust="corroborated", listed=("known",)),
    a_rule("rest", match={"service": "*"}, action=Action.ASK),
)


@given(views=VIEWS, trust=st.sampled_from(Trust), conflict=HOSTILE, used=st.integers(0, 300))
def test_every_evidence_gets_a_verdict(
    views: list[dict[str, str]], trust: Trust, conflict: str, used: int
) -> None:
    decision = judged(
        seen(*views, trust=trust, conflict=conflict), *RULES, admitted={"meters": used}
    )
    text = f"{decision.reason} {' '.join(decision.trace)}"
    assert text.isascii()
    assert text.isprintable()
    for value in (value for view in views for value in view.values()):
        assert len(value) < 20 or value not in text
    if decision.action is Action.REGISTER:
        assert decision.rule == "meters"
        assert decision.trust >= Trust.CORROBORATED
        assert not conflict


@given(views=VIEWS)
def test_no_rule_admits_nothing(views: list[dict[str, str]]) -> None:
    assert judged(seen(*views, trust=Trust.AUTHENTICATED)).action is Action.ASK


@given(views=VIEWS, trust=st.sampled_from(Trust))
def test_what_comes_after_the_first_match_changes_nothing(
    views: list[dict[str, str]], trust: Trust
) -> None:
    evidence = seen(*views, trust=trust)
    decision = judged(evidence, *RULES)
    if decision.rule:
        upto = [one.name for one in RULES].index(decision.rule) + 1
        assert judged(evidence, *RULES[:upto]) == decision
        assert not judged(evidence, *RULES[: upto - 1]).rule


@given(serial=st.text(max_size=30))
def test_a_name_is_what_was_extracted(serial: str) -> None:
    decision = judged(seen(METER | {"txt.sn": serial}, trust=Trust.LISTED), a_rule())
    assert decision.cloud is None or decision.cloud.device == f"pm-{serial}"
    assert (decision.cloud is None) == (decision.reason.code == "name-unusable")


PHONES = a_rule("phones", match={"service": "_phone._tcp"}, action=Action.IGNORE)
SOME_PHONES = a_rule("some", match={"service": "_tv._tcp", "model": "x"}, action=Action.IGNORE)
KEEP_OUT = a_rule("out", match={"interface": "wan0"}, action=Action.REJECT)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"service": "_meter._tcp"}, "wanted"),
        ({"service": "_METER._tcp", "interface": "lan0"}, "wanted"),
        ({"service": "_meter._tcp", "interface": "wan0"}, "stranger"),
        ({"service": "_phone._tcp", "interface": "lan0"}, "ignored"),
        ({"service": "_tv._tcp", "interface": "lan0"}, "stranger"),
        ({"service": "_printer._tcp"}, "stranger"),
        ({"source": "mdns/eth0"}, "wanted"),
    ],
)
def test_interest_is_what_could_still_become_of_a_name(
    attributes: dict[str, str], word: str
) -> None:
    assert interest(attributes, (KEEP_OUT, PHONES, SOME_PHONES, a_rule())) == word


@given(view=st.dictionaries(KEYS, HOSTILE | st.just("_meter._tcp"), max_size=6))
def test_interest_never_hides_what_a_rule_would_take(view: dict[str, str]) -> None:
    known = {k: v for k, v in view.items() if k in ("source", "service", "instance", "interface")}
    decision = judged(seen(view), *RULES)
    if decision.rule and decision.action is Action.ASK:
        assert interest(known, RULES) == "wanted"


@pytest.mark.parametrize(
    ("listed", "view", "expected"),
    [
        (("AB-0042",), METER, True),
        (("AB-0043",), METER, False),
        ((), METER, False),
        (("AB-0042",), METER | {"service": "_other._tcp"}, False),
        (("AB-0042",), {"service": "_meter._tcp"}, False),
    ],
)
def test_a_listed_identity_is_known_by_all_fields_of_its_name(
    listed: tuple[str, ...], view: dict[str, str], expected: bool
) -> None:
    assert is_listed(view, (a_rule(listed=listed),)) is expected


def test_what_an_earlier_rule_keeps_out_is_not_listed() -> None:
    view, listing = METER | {"interface": "wan0"}, a_rule(listed=("AB-0042",))
    assert is_listed(view, (listing, KEEP_OUT))
    assert not is_listed(view, (KEEP_OUT, listing))
