"""Each recipe matches what such devices announce, names them, and knows them again."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gatewayd.admission.policy.engine import PolicyContext, decide, identity_claims
from gatewayd.admission.policy.rules import Action
from gatewayd.admission.rules import RuleSet, read_rules
from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.mdns.records import InstanceName, ServiceInfo, sighting
from gatewayd.discovery.resolver import Resolved, Resolver
from gatewayd.settings.files import Problems
from tests.recipes.announced import RECIPES, other_name
from tools.recipes import PAGE, Recipe, files, page

EACH = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
HOME, MOVED = "10.77.1.7", "10.77.1.107"


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    """All recipes in one set of rules."""
    problems = Problems()
    found = read_rules(files(), problems)
    found.check(problems)
    assert [str(one) for one in problems.found] == []
    return found


def seen(recipe: Recipe, instance: str, address: str) -> Sighting:
    """Return the sighting of a device."""
    strings = [one.encode() for one in recipe.text]
    text = b"".join(bytes([len(one)]) + one for one in strings)
    info = ServiceInfo(f"{recipe.host}.", recipe.port, (address,), text, 0.0, 4500.0)
    return sighting(InstanceName(recipe.service, instance), info, "mdns/lan0", "lan0")


def claims(one: Sighting, rules: RuleSet) -> frozenset[Claim]:
    """Return what identifies a device: what it says itself, and what its rule extracts."""
    return one.claims | identity_claims(one.attributes, rules.rules)


def resolve(resolver: Resolver, one: Sighting, rules: RuleSet) -> Resolved:
    return resolver.resolve(one.origin, claims(one, rules))


def test_there_are_rules_for_forty_kinds_of_devices() -> None:
    assert len(RECIPES) >= 40
    assert len({recipe.kind for recipe in RECIPES}) == len(RECIPES)


def test_the_page_shows_them() -> None:
    assert PAGE.read_text() == page(), "run python -m tools.recipes > docs/recipes.md"


@EACH
def test_a_device_is_matched_and_named(recipe: Recipe, rules: RuleSet) -> None:
    one = seen(recipe, recipe.instance, HOME)
    evidence = Evidence((one.attributes,), claims(one, rules), Trust.CLAIMED)
    decision = decide(evidence, tuple(rules.rules), DeviceId("child-1"), PolicyContext())
    assert (decision.rule, decision.action) == (recipe.name, Action.ASK)
    assert decision.cloud is not None, decision.reason
    assert decision.cloud.device == recipe.becomes
    assert 4 <= len(recipe.becomes) <= 32, "what a cloud accepts as a name"


@EACH
def test_a_device_is_known_by_another_name_and_address(recipe: Recipe, rules: RuleSet) -> None:
    resolver = Resolver()
    first = resolve(resolver, seen(recipe, recipe.instance, HOME), rules)
    assert other_name(recipe) != recipe.instance
    again = resolve(resolver, seen(recipe, other_name(recipe), MOVED), rules)
    assert again == first
    assert not again.conflict


@EACH
def test_a_child_is_known_after_a_restart(recipe: Recipe, rules: RuleSet) -> None:
    before = Resolver()
    child = resolve(before, seen(recipe, recipe.instance, HOME), rules).device
    after = Resolver()
    after.add_known(child, before.claims(child))
    assert resolve(after, seen(recipe, other_name(recipe), MOVED), rules) == Resolved(child)


def marked(identity: str) -> re.Pattern[str]:
    """Return what finds an identity, as a MAC, an EUI-64 or a UUID is written."""
    digits = [one for one in identity if one.isalnum()]
    return re.compile(r"(?:[:-]|fffe)?".join(digits), re.IGNORECASE)


def sibling(recipe: Recipe, rules: RuleSet) -> Recipe:
    """Return the recipe for another device of the kind: all that identifies it ends otherwise."""
    (rule,) = [one for one in rules.rules if one.name == recipe.name]
    shown = seen(recipe, recipe.instance, HOME)
    identities = {rule.extractions[0].of(shown.attributes), *(one.value for one in shown.claims)}
    found = [marked(one) for one in identities]

    def changed(text: str) -> str:
        for one in found:
            text = one.sub(lambda it: it[0][:-1] + ("7" if it[0][-1] != "7" else "3"), text)
        return text

    made = replace(
        recipe,
        instance=changed(recipe.instance),
        host=changed(recipe.host),
        text=tuple(map(changed, recipe.text)),
    )
    assert made != recipe
    return made


@EACH
def test_two_devices_of_a_kind_are_two(recipe: Recipe, rules: RuleSet) -> None:
    resolver, other = Resolver(), sibling(recipe, rules)
    one = resolve(resolver, seen(recipe, recipe.instance, HOME), rules)
    two = resolve(resolver, seen(other, f"{other.instance} (3)", MOVED), rules)
    assert one.device != two.device
    assert not one.conflict
    assert not two.conflict
    shown = seen(other, other.instance, MOVED)
    evidence = Evidence((shown.attributes,), claims(shown, rules), Trust.CLAIMED)
    decision = decide(evidence, tuple(rules.rules), DeviceId("child-2"), PolicyContext())
    assert decision.cloud is not None
    assert decision.cloud.device != recipe.becomes


def test_no_two_kinds_are_one_device(rules: RuleSet) -> None:
    resolver = Resolver()
    found = [resolve(resolver, seen(one, one.instance, HOME), rules) for one in RECIPES]
    assert len({one.device for one in found}) == len(RECIPES)
    assert not any(one.conflict for one in found)


def test_a_printer_is_one_device_under_all_its_services(rules: RuleSet) -> None:
    (printer,) = [one for one in RECIPES if one.name == "printer"]
    resolver = Resolver()
    found = set()
    for service in ("_ipp._tcp", "_ipps._tcp", "_uscan._tcp", "_uscans._tcp"):
        one = seen(printer, f"{printer.instance} {service}", HOME)
        shown = Sighting(
            one.source, f"{service}|{one.key}", one.at, one.valid_for, one.interface, one.addresses,
            one.port, one.claims, {**one.attributes, "service": service}, one.label,
        )  # fmt: skip
        found.add(resolve(resolver, shown, rules).device)
    assert len(found) == 1
