"""What a rule extracts identifies the device, whatever it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewayd.admission.policy.engine import identity_claims
from gatewayd.admission.policy.rules import Action, Rule, RuleTable, make_rule
from gatewayd.device.identity import KERNEL, Claim
from gatewayd.discovery.resolver import IDENTITY_CONFLICT, Resolved, Resolver

SHELLY = {
    "source": "mdns",
    "service": "_shelly._tcp",
    "instance": "shellyplus1pm-a8032abe54dc",
    "txt.gen": "2",
}
RENAMED = SHELLY | {"instance": "Pump 3", "txt.id": "shellyplus1pm-a8032abe54dc"}
DIGITS = "[a-z0-9]{1,20}-([0-9a-f]{12})"


def a_rule(name: str = "shellies", **keys: Any) -> Rule:
    table = {
        "match": {"service": "_shelly._tcp"},
        "action": Action.REGISTER,
        "extract": {"serial": f"txt.id|instance ~ {DIGITS}"},
        "device_name": "s-{serial}",
        "provider": "alibaba",
        "product": "a1",
    }
    faults: list[str] = []
    made = make_rule(
        RuleTable(name=name, **(table | keys)), frozenset(), lambda _, text: faults.append(text)
    )
    assert made is not None, faults
    return made


def see(resolver: Resolver, key: str, view: Mapping[str, str], *rules: Rule) -> Resolved:
    return resolver.resolve(("mdns", key), identity_claims(view, rules))


def test_a_device_that_is_renamed_stays_itself() -> None:
    resolver, rule = Resolver(), a_rule()
    first = see(resolver, "_shelly._tcp|shellyplus1pm-a8032abe54dc", SHELLY, rule)
    assert see(resolver, "_shelly._tcp|pump 3", RENAMED, rule) == Resolved(first.device)


def test_two_devices_of_a_rule_are_two_and_one_that_shows_both_is_in_conflict() -> None:
    resolver, rule = Resolver(), a_rule()
    other = SHELLY | {"instance": "shellyplus1pm-a8032abe54dd"}
    one, two = see(resolver, "1", SHELLY, rule).device, see(resolver, "2", other, rule).device
    assert one != two
    resolver.add_known(one, resolver.claims(one))
    resolver.add_known(two, resolver.claims(two))
    both = identity_claims(SHELLY, [rule]) | identity_claims(other, [rule])
    assert resolver.resolve(("mdns", "3"), both).device not in (one, two)
    # two values of one field say nothing; one of each of two devices is a dispute
    serial = identity_claims(SHELLY, [rule])
    uuid = a_rule(extract={"uuid": f"instance ~ {DIGITS}"}, device_name="s-{uuid}")
    resolver.add_known(two, [*resolver.claims(two), *identity_claims(other, [uuid])])
    disputed = resolver.resolve(("mdns", "4"), serial | identity_claims(other, [uuid]))
    assert (disputed.conflict, disputed.rivals) == (IDENTITY_CONFLICT, (two,))


def test_a_rule_of_another_name_or_another_order_changes_nothing() -> None:
    before = identity_claims(SHELLY, [a_rule()])
    stranger = a_rule("others", match={"service": "_http._tcp"})
    assert before == identity_claims(SHELLY, [stranger, a_rule("renamed"), a_rule()])


def test_a_rule_that_extracts_another_value_contradicts_nothing() -> None:
    resolver, kernel = Resolver(), Claim("mac", KERNEL, "a8032abe54dc")
    first = resolver.resolve(("mdns", "1"), {kernel, *identity_claims(SHELLY, [a_rule()])})
    resolver.add_known(first.device, resolver.claims(first.device))
    short = a_rule(extract={"serial": "instance ~ [a-z0-9]{1,20}-[0-9a-f]{6}([0-9a-f]{6})"})
    again = resolver.resolve(("mdns", "1"), {kernel, *identity_claims(SHELLY, [short])})
    assert again == Resolved(first.device)
    assert len(resolver.claims(first.device)) == 3


def test_only_identity_counts_and_no_mac_of_the_kernel() -> None:
    view = SHELLY | {"mac": "a8032abe54dc", "txt.model": "SNSW-001"}
    rule = a_rule(extract={"mac": "mac", "model": "txt.model"}, device_name="s-{mac}")
    assert identity_claims(view, [rule]) == frozenset()
    rule = a_rule(
        extract={"mac": f"instance ~ {DIGITS}", "model": "txt.model"}, device_name="s-{mac}"
    )
    assert {(one.kind, one.value) for one in identity_claims(view, [rule])} == {
        ("mac", "a8032abe54dc")
    }


def test_what_a_rule_extracts_counts_in_a_conflict() -> None:
    resolver, rule = Resolver(), a_rule(extract={"serial": "txt.sn", "mac": "txt.hw"})
    view = SHELLY | {"txt.sn": "0815", "txt.hw": "a8032abe54dc"}
    one = see(resolver, "1", view, rule)
    resolver.add_known(one.device, resolver.claims(one.device))
    two = see(resolver, "2", view | {"txt.hw": "a8032abe54dd"}, rule)
    assert (two.conflict, two.rivals) == (IDENTITY_CONFLICT, (one.device,))
    assert see(resolver, "renamed", view, rule) == Resolved(one.device)


def test_all_macs_of_a_list_are_the_devices() -> None:
    rule = a_rule(extract={"mac": "txt.macs"}, device_name="s-{mac}")
    view = SHELLY | {"txt.macs": "a8032abe54dc, 00:11:22:33:44:77; 00:12:4b:00:14:b5:5d:f2"}
    made = identity_claims(view, [rule])
    assert {one.value for one in made} == {"a8032abe54dc", "001122334477", "00124b0014b55df2"}


def test_what_matches_no_rule_or_one_without_a_cloud_claims_nothing() -> None:
    assert identity_claims(SHELLY, []) == frozenset()
    ignoring = RuleTable(name="x", match={"service": "_shelly._tcp"}, action=Action.IGNORE)
    made = make_rule(ignoring, frozenset(), lambda _keys, _text: None)
    assert made is not None
    assert identity_claims(SHELLY, [made, a_rule()]) == frozenset()
