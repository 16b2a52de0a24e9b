"""A view that proves more vouches for itself alone, not for what another one says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.admission.policy.engine import PolicyContext, decide
from gatewayd.admission.policy.rules import Action, Rule, RuleTable, make_rule
from gatewayd.device.identity import DeviceId, Evidence, Trust

TABLE = RuleTable(
    name="sensors",
    match={"source": "mdns"},
    extract={"serial": "txt.serial ~ ([A-Z0-9-]{4,20})"},
    device_name="{serial}",
    action=Action.REGISTER,
    provider="alibaba",
    product="a1",
)


def _rule(table: RuleTable = TABLE, *listed: str) -> Rule:
    made = make_rule(
        table, frozenset(listed), lambda _, text: (_ for _ in ()).throw(AssertionError(text))
    )
    assert made is not None
    return made


def test_the_trust_of_another_view_is_not_borrowed() -> None:
    forged = {"source": "mdns", "txt.serial": "TH20-0001", "trust": "claimed"}
    proven = {"source": "static", "name": "door", "trust": "listed"}
    evidence = Evidence((proven, forged), frozenset(), Trust.LISTED)
    decision = decide(evidence, (_rule(),), DeviceId("c"), PolicyContext())
    assert decision.action is Action.ASK
    assert decision.trust is Trust.CLAIMED


@pytest.mark.parametrize(
    ("listed", "action"),
    [
        (("TH20-0001",), Action.ASK),
        (("acme", "TH20-0001"), Action.REGISTER),
        (("acme-TH20-0001",), Action.REGISTER),
    ],
)
def test_one_listed_field_does_not_vouch_for_a_name_of_two(
    listed: tuple[str, ...], action: Action
) -> None:
    """One listed serial with an invented vendor each time would register many names."""
    extract = {**TABLE.extract, "vendor": "txt.vendor"}
    table = replace(TABLE, extract=extract, device_name="{vendor}-{serial}")
    view = {"source": "mdns", "txt.serial": "TH20-0001", "txt.vendor": "acme"}
    decision = decide(
        Evidence((view,), frozenset(), Trust.CLAIMED), (_rule(table, *listed),),
        DeviceId("c"), PolicyContext(),
    )  # fmt: skip
    assert decision.action is action
