"""A view that proves more vouches for itself alone, not for what another one says."""

from __future__ import annotations

from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.policy.admission import Action
from gatewayd.policy.judge import decide
from gatewayd.policy.rules import Rule, RuleTable, rule

TABLE = RuleTable(
    name="sensors",
    match={"source": "mdns"},
    extract={"serial": "txt.serial ~ ([A-Z0-9-]{4,20})"},
    device_name="{serial}",
    action=Action.REGISTER,
    provider="alibaba",
    product="a1",
)


def _rule() -> Rule:
    made = rule(TABLE, frozenset(), lambda _, text: (_ for _ in ()).throw(AssertionError(text)))
    assert made is not None
    return made


def test_the_trust_of_another_view_is_not_borrowed() -> None:
    forged = {"source": "mdns", "txt.serial": "TH20-0001", "trust": "heard"}
    proven = {"source": "static", "name": "door", "trust": "listed"}
    evidence = Evidence((proven, forged), frozenset(), Trust.LISTED)
    decision = decide(evidence, (_rule(),), device=DeviceId("c"), taken=lambda _: None, admitted={})
    assert decision.action is Action.ASK
    assert decision.trust is Trust.HEARD
