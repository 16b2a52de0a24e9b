"""An open join window turns a rule's question into a yes, inside its scope, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.engine import PolicyContext, WindowScope, decide
from gatewayd.admission.policy.rules import (
    BY_PROOF,
    NEEDS_CLOUD,
    Action,
    Decision,
    Rule,
    RuleLimits,
    RuleRequirements,
    RuleTable,
    make_rule,
)
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.device.record import CloudName

ME, OTHER = DeviceId("child-me"), DeviceId("child-other")
LAMP = {"source": "mdns/lan0", "interface": "lan0", "service": "_lamp._tcp", "txt.sn": "L-1"}
NAME = CloudName("alibaba", "a1", "lamp-L-1")
LIMIT = 3


def a_rule(name: str = "lamps", **keys: Any) -> Rule:
    base: dict[str, Any] = {
        "match": {"service": "_lamp._tcp"}, "action": Action.ASK,
        "extract": {"serial": "txt.sn ~ [A-Z0-9-]{1,9}"}, "device_name": "lamp-{serial}",
        "provider": "alibaba", "product": "a1", "require": RuleRequirements("corroborated"),
        "limits": RuleLimits(LIMIT), "window": True,
    }  # fmt: skip
    faults: list[str] = []
    made = make_rule(
        RuleTable(name=name, **(base | keys)), frozenset(), lambda _, t: faults.append(t)
    )
    assert made is not None, faults
    return made


def judged(
    window: WindowScope | None,
    *views: Mapping[str, str],
    rules: tuple[Rule, ...] = (),
    trust: Trust = Trust.CORROBORATED,
    conflict: str = "",
    owner: DeviceId | None = None,
    admitted: int = 0,
) -> Decision:
    return decide(
        Evidence(views=views or (LAMP,), claims=frozenset(), trust=trust, conflict=conflict),
        rules or (a_rule(),),
        ME,
        PolicyContext({NAME: owner} if owner else {}, {"lamps": admitted}, window),
    )


def test_an_open_window_admits_what_would_be_asked() -> None:
    assert judged(None).reason.code == "approval-required"
    decision = judged(WindowScope())
    assert (decision.action, decision.reason.code) == (Action.REGISTER, "admitted-by-window")
    assert decision.by_window
    assert decision.cloud == NAME


@pytest.mark.parametrize(
    ("window", "inside"),
    [
        (WindowScope(interface="lan0"), True),
        (WindowScope(interface="LAN0"), True),
        (WindowScope(interface="lan1"), False),
        (WindowScope(interface="lan"), False),
        (WindowScope(protocol="mdns"), True),
        (WindowScope(protocol="static"), False),
        (WindowScope(rule="lamps"), True),
        (WindowScope(rule="lamp*"), False),
        (WindowScope(provider="alibaba"), True),
        (WindowScope(provider="huawei"), False),
        (WindowScope(interface="lan0", protocol="mdns", rule="lamps", provider="alibaba"), True),
        (WindowScope(interface="lan0", protocol="mdns", rule="lamps", provider="huawei"), False),
    ],
)
def test_a_scope_must_hold_as_a_whole(window: WindowScope, inside: bool) -> None:
    decision = judged(window)
    assert decision.by_window == inside
    assert decision.action is (Action.REGISTER if inside else Action.ASK)
    assert ("outside its scope" in decision.trace[-1]) != inside


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"conflict": "two"}, "identity-conflict"),
        ({"owner": OTHER}, "name-conflict"),
        ({"views": {"txt.sn": "a/b"}}, "name-unusable"),
        ({"views": {"service": "_tv._tcp"}}, "no-rule"),
        ({"trust": Trust.CLAIMED}, "approval-required"),
        ({"admitted": LIMIT}, "approval-required"),
        ({"rules": (a_rule(window=False),)}, "approval-required"),
        ({"rules": (a_rule(window=False, action=Action.REJECT),)}, "rejected-by-rule"),
        ({"rules": (a_rule(window=False, action=Action.IGNORE),)}, "ignored-by-rule"),
        (
            {"rules": (a_rule(window=False, action=Action.REGISTER),), "trust": Trust.CLAIMED},
            "trust-too-low",
        ),
    ],
)
def test_a_window_settles_nothing_but_a_question(facts: dict[str, Any], code: str) -> None:
    view = LAMP | facts.pop("views", {})
    decision = judged(WindowScope(), view, **facts)
    assert decision.reason.code == code
    assert decision.action is not Action.REGISTER
    assert not decision.by_window


def test_the_trace_says_what_the_window_lacks() -> None:
    assert "window = true" in judged(WindowScope(), rules=(a_rule(window=False),)).trace[-1]
    assert "its limit" in judged(WindowScope(), admitted=LIMIT).trace[-1]
    assert "this one is claimed" in judged(WindowScope(), trust=Trust.CLAIMED).trace[-1]


def test_what_is_proven_outside_the_scope_does_not_count_inside() -> None:
    proven = LAMP | {"interface": "lan1", "trust": "corroborated"}
    merely_heard = LAMP | {"trust": "claimed"}
    views = (proven, merely_heard)
    assert judged(WindowScope(interface="lan1"), *views).by_window
    assert not judged(WindowScope(interface="lan0"), *views).by_window
    assert not judged(WindowScope(interface="lan0"), *reversed(views)).by_window


def test_another_name_inside_the_scope_does_not_count() -> None:
    views = (LAMP | {"interface": "lan1"}, LAMP | {"txt.sn": "L-2"})
    assert judged(None, *views).cloud == NAME
    assert not judged(WindowScope(interface="lan0"), *views).by_window


def test_the_trust_is_that_of_the_view_inside() -> None:
    views = (LAMP | {"interface": "lan1", "trust": "claimed"}, LAMP | {"trust": "corroborated"})
    assert judged(None, *views).trust is Trust.CLAIMED
    decision = judged(WindowScope(interface="lan0"), *views)
    assert (decision.by_window, decision.trust) == (True, Trust.CORROBORATED)


VIEWS = st.lists(
    st.fixed_dictionaries(
        {"service": st.sampled_from(["_lamp._tcp", "_tv._tcp"])},
        optional={
            "txt.sn": st.sampled_from(["L-1", "L-2", "a/b", ""]),
            "interface": st.sampled_from(["lan0", "lan1"]),
            "source": st.sampled_from(["mdns/lan0", "static"]),
            "trust": st.sampled_from([one.word for one in Trust]),
        },
    ),
    max_size=3,
)
WINDOWS = st.builds(
    WindowScope,
    interface=st.sampled_from(["", "lan0", "lan1"]),
    protocol=st.sampled_from(["", "mdns", "static"]),
    rule=st.sampled_from(["", "lamps", "rest"]),
    provider=st.sampled_from(["", "alibaba", "huawei"]),
)
ACTIONS = st.sampled_from(Action)


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    made = []
    for name, service in (("lamps", "_lamp*"), ("rest", "*")):
        action = draw(ACTIONS)
        trusts = [
            one for one in Trust
            if (action is Action.ASK or one is not Trust.CLAIMED)
            and (action in NEEDS_CLOUD or one not in BY_PROOF)
        ]  # fmt: skip
        trust = draw(st.sampled_from(trusts))
        made.append(
            a_rule(
                name, action=action, match={"service": service},
                window=action is Action.ASK and draw(st.booleans()),
                require=RuleRequirements(trust.word), proof="axis" if trust in BY_PROOF else "",
                provider=draw(st.sampled_from(["alibaba", "huawei"])),
            )
        )  # fmt: skip
    return tuple(made)


@given(
    views=VIEWS, rules=rules(), window=WINDOWS, trust=st.sampled_from(Trust),
    conflict=st.sampled_from(["", "two"]), owner=st.sampled_from([None, ME, OTHER]),
    admitted=st.integers(0, LIMIT),
)  # fmt: skip
def test_an_open_window_changes_nothing_but_a_question_that_it_may_settle(
    views: list[dict[str, str]], rules: tuple[Rule, ...], window: WindowScope, **facts: Any
) -> None:
    evidence = views or [{}]
    closed = judged(None, *evidence, rules=rules, **facts)
    opened = judged(window, *evidence, rules=rules, **facts)
    assert not closed.by_window
    assert closed.reason.code != "admitted-by-window"
    if not opened.by_window:
        assert replace(opened, trace=closed.trace) == closed
        return
    assert (closed.action, closed.reason.code) == (Action.ASK, "approval-required")
    assert (opened.action, opened.cloud, opened.rule) == (
        Action.REGISTER, closed.cloud, closed.rule,
    )  # fmt: skip
    one = next(r for r in rules if r.name == opened.rule)
    assert one.window
    assert not facts["conflict"]
    assert facts["owner"] is not OTHER
    assert one.trust <= opened.trust <= facts["trust"]
    assert one.name != "lamps" or facts["admitted"] < LIMIT
    assert any(window.covers(one, view) for view in views)


@given(views=VIEWS, rules=rules(), window=WINDOWS, trust=st.sampled_from(Trust))
def test_without_a_rule_that_says_so_no_window_admits_anything(
    views: list[dict[str, str]], rules: tuple[Rule, ...], window: WindowScope, trust: Trust
) -> None:
    shut = tuple(replace(one, window=False) for one in rules)
    opened = judged(window, *(views or [{}]), rules=shut, trust=trust)
    closed = judged(None, *(views or [{}]), rules=shut, trust=trust)
    assert replace(opened, trace=closed.trace) == closed


@given(views=VIEWS, window=WINDOWS, narrower=WINDOWS)
def test_a_narrower_scope_admits_no_more(
    views: list[dict[str, str]], window: WindowScope, narrower: WindowScope
) -> None:
    both = WindowScope(
        window.interface or narrower.interface, window.protocol or narrower.protocol,
        window.rule or narrower.rule, window.provider or narrower.provider,
    )  # fmt: skip
    if judged(both, *(views or [{}])).by_window:
        assert judged(window, *(views or [{}])).by_window
