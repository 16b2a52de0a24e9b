"""A suggested rule does what it is for: read from a file, it decides on its device."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.engine import PolicyContext, decide
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.admission.policy.suggestion import (
    CannotSuggest,
    CloudChoice,
    RulePurpose,
    RuleSuggestion,
    suggest,
)
from gatewayd.admission.rules import read_rules
from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust, claim
from gatewayd.settings.files import Problems

ID = DeviceId("child-1")
CLOUD = CloudChoice("alibaba", "a1Xy9Zk3Q7f")
METER = {
    "source": "mdns/lan0", "interface": "lan0", "service": "_meter._tcp", "instance": "Meter 7",
    "txt.serial": "TH20-0001A7", "txt.model": "TH20", "mac": "50:26:ef:00:00:01",
}  # fmt: skip
SERIAL = Claim("serial", "_meter._tcp", "th20-0001a7")
MAC = Claim("mac", "l2", "5026ef000001")


def seen(
    view: dict[str, str], *claims: Claim, trust: Trust = Trust.CLAIMED, conflict: str = ""
) -> Evidence:
    return Evidence((view,), frozenset(claims), trust, conflict=conflict)


def judged(suggestion: RuleSuggestion, evidence: Evidence) -> Decision:
    """How the rule decides that stands in the text, read as gatewayd reads it."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "50-suggested.toml"
        file.write_text(suggestion.text(), encoding="utf-8")
        if suggestion.table.list:
            (Path(directory) / suggestion.table.list).write_text(suggestion.listed + "\n")
        problems = Problems()
        rules = read_rules([file], problems).rules
        assert problems.found == [], suggestion.text()
    return decide(evidence, rules, ID, PolicyContext())


@pytest.mark.parametrize(("view", "claims", "trust", "parts"), [
    (METER, (SERIAL, MAC), Trust.CLAIMED,
     ('serial = "txt.serial"', 'list = "like-meter-tcp-th20.list"')),
    (METER, (SERIAL, MAC), Trust.CORROBORATED, ('require = { trust = "corroborated" }',)),
    (METER, (SERIAL,), Trust.AUTHENTICATED, ('require = { trust = "authenticated" }',)),
    (METER, (MAC,), Trust.CLAIMED, ('extract = { mac = "mac" }',)),
    ({"service": "_shelly._tcp", "instance": "shellyplus1-A8032ABE54DC", "txt.gen": "2"},
     (Claim("mac", "_shelly._tcp", "a8032abe54dc"),), Trust.CLAIMED, ("instance ~ ",)),
    ({"service": "_x._tcp", "txt.zzz": "0042-77", "txt.md": "A [b] *"},
     (Claim("serial", "_x._tcp", "0042-77"),), Trust.CLAIMED, ('"txt.zzz"', "[[]", "[*]")),
    ({"vendor": "Hikvision", "txt.serial": "a b/c"}, (Claim("serial", "x", "a b/c"),),
     Trust.CLAIMED, ("{serial|hash12}", 'vendor = "Hikvision"')),
    ({"source": "ethernet-ip/lan0", "model": "1756-ENBT/A", "serial": "00524d8e"},
     (Claim("serial", "enip.1", "00524d8e"),), Trust.CLAIMED, ('serial = "serial"', "1756-ENBT/A")),
    ({"source": "knx/lan0", "knx.mac": "0022d1040037", "knx.name": "Hall"},
     (Claim("mac", "knx", "0022d1040037"),), Trust.CORROBORATED,
     ('match = { source = "knx" }', 'mac = "knx.mac"')),
    ({"source": "coap/lan0", "coap.ep": "meter-7", "serial": "meter-7"},
     (Claim("serial", "coap.ep", "meter-7"),), Trust.CLAIMED, ('source = "coap"',)),
])  # fmt: skip
def test_the_rule_that_would_admit_a_device(
    view: dict[str, str], claims: tuple[Claim, ...], trust: Trust, parts: tuple[str, ...]
) -> None:
    evidence = seen(view, *claims, trust=trust)
    made = suggest(evidence, ID, RulePurpose.ADMIT, [], CLOUD)
    for part in parts:
        assert part in made.text()
    decision = judged(made, evidence)
    assert decision.action is Action.REGISTER
    assert decision.cloud is not None
    assert (decision.cloud.provider, decision.cloud.product) == ("alibaba", "a1Xy9Zk3Q7f")


def test_its_like_are_admitted_when_they_are_listed_and_no_other() -> None:
    made = suggest(seen(METER, SERIAL), ID, RulePurpose.ADMIT, [], CLOUD)
    sibling = METER | {"txt.serial": "TH20-0002B8"}
    stranger = METER | {"txt.model": "TH99"}
    assert judged(made, seen(sibling)).action is Action.ASK  # not in the list
    assert judged(made, seen(stranger)).reason.code == "no-rule"


@pytest.mark.parametrize(("view", "purpose", "match"), [
    (METER, RulePurpose.IGNORE_SERVICE, '{ service = "_meter._tcp" }'),
    (METER | {"vendor": "Acme"}, RulePurpose.IGNORE_VENDOR, '{ vendor = "Acme" }'),
    (METER, RulePurpose.IGNORE_VENDOR, '{ oui = "50:26:ef" }'),
])  # fmt: skip
def test_the_rule_that_ignores_a_device(
    view: dict[str, str], purpose: RulePurpose, match: str
) -> None:
    made = suggest(seen(view), ID, purpose, [], CloudChoice("", ""))
    assert f"match = {match}" in made.text()
    assert judged(made, seen(view)).action is Action.IGNORE


def test_the_rule_that_decides_now_is_named_and_no_name_is_used_twice() -> None:
    evidence = seen(METER, SERIAL)
    first = suggest(evidence, ID, RulePurpose.IGNORE_SERVICE, [], CLOUD)
    with TemporaryDirectory() as directory:
        file = Path(directory) / "rules.toml"
        file.write_text(first.text())
        rules = read_rules([file], Problems()).rules
    second = suggest(evidence, ID, RulePurpose.IGNORE_SERVICE, rules, CLOUD)
    assert (first.table.name, second.table.name) == ("ignore-meter-tcp", "ignore-meter-tcp-2")
    assert first.before == ""
    assert second.before == first.table.name
    assert f"Rule {first.table.name} decides on this device now" in second.text()


@pytest.mark.parametrize(("evidence", "purpose"), [
    (Evidence((), frozenset(), Trust.CLAIMED), RulePurpose.ADMIT),
    (seen({"service": "_x._tcp"}), RulePurpose.ADMIT),
    (seen({"service": "_x._tcp", "txt.n": "s"}, Claim("name", "x", "s")), RulePurpose.ADMIT),
    (seen({"txt.serial": "77123"}, Claim("serial", "x", "77123")), RulePurpose.ADMIT),
    (seen({"mac": "50:26:ef:00:00:01"}), RulePurpose.IGNORE_SERVICE),
    (seen({"service": "_x._tcp"}), RulePurpose.IGNORE_VENDOR),
])  # fmt: skip
def test_where_no_rule_can_be_made_the_reason_says_what_to_do(
    evidence: Evidence, purpose: RulePurpose
) -> None:
    with pytest.raises(CannotSuggest, match=": "):
        suggest(evidence, ID, purpose, [], CLOUD)


def test_a_conflict_does_not_hide_the_rule_and_the_rule_does_not_settle_it() -> None:
    evidence = seen(METER, SERIAL, conflict="two devices")
    made = suggest(evidence, ID, RulePurpose.ADMIT, [], CLOUD)
    assert judged(made, evidence).reason.code == "identity-conflict"


NOT_SHOWN = ["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"]
PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=NOT_SHOWN),  # type: ignore[arg-type]  # literals
    min_size=1, max_size=40,
)  # fmt: skip
KEYS = st.sampled_from(
    ["service", "instance", "model", "vendor", "txt.serial", "txt.id", 'txt.ü"]']
)


@given(
    view=st.dictionaries(KEYS, PRINTABLE, max_size=6),
    value=PRINTABLE,
    trust=st.sampled_from(Trust),
    purpose=st.sampled_from(RulePurpose),
)
def test_whatever_a_device_shows_the_text_is_a_rule_that_decides_on_it(
    view: dict[str, str], value: str, trust: Trust, purpose: RulePurpose
) -> None:
    view |= {"txt.serial": value}
    serial = claim("serial", "x", value)
    evidence = Evidence((view,), frozenset([serial] if serial else ()), trust)
    try:
        made = suggest(evidence, ID, purpose, [], CLOUD)
    except CannotSuggest:
        return
    expected = Action.REGISTER if purpose is RulePurpose.ADMIT else Action.IGNORE
    assert judged(made, evidence).action is expected
