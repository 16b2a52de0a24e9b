"""The evidence that sightings make together, and when they cannot be of one device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.comparison import OwnClaims, are_apart, same_facts
from gatewayd.discovery.device_table import MAX_ADDRESSES, join_evidence, with_facts
from gatewayd.discovery.discoverer import Sighting

MAC = Claim("mac", "l2", "001122334455")
OTHER_MAC = Claim("mac", "l2", "001122334466")
BASE = Sighting("mdns", "a", 0, 60, "lan0", ("10.0.0.1",), None, frozenset(), {"k": "v"}, "lamp")


def test_trust_is_lowered_by_a_conflict() -> None:
    proven = replace(BASE, trust=Trust.AUTHENTICATED)
    assert join_evidence((), [proven], "").trust is Trust.AUTHENTICATED
    assert join_evidence((), [proven], "two-claimants").trust is Trust.CLAIMED


def test_a_serial_counts_only_if_it_was_accepted() -> None:
    serial, name = Claim("serial", "pm", "a1"), Claim("name", "mdns", "lamp")
    claimed = replace(BASE, claims=frozenset({serial, name, MAC}))
    assert join_evidence([], [claimed], "").claims == {name, MAC}
    assert join_evidence([serial], [claimed], "").claims == {serial, name, MAC}


def test_addresses_are_bounded() -> None:
    many = replace(BASE, addresses=tuple(f"10.0.0.{n}" for n in range(100)))
    assert join_evidence((), [many], "").addresses == many.addresses[:MAX_ADDRESSES]


def test_all_views_have_the_model_and_vendor_of_the_most_trusted_one_that_has_any() -> None:
    sightings = [
        replace(BASE, key="b", trust=Trust.LISTED, attributes={"service": "_http._tcp"}),
        replace(BASE, attributes=with_facts({"txt.md": "Bulb", "txt.vendor": "ACME"}, ())),
        replace(BASE, key="c", attributes=with_facts({"txt.model": "Other"}, ())),
    ]
    views = join_evidence((), sightings, "").views
    assert [(one["model"], one["vendor"]) for one in views] == [("Bulb", "ACME")] * 3
    assert {one["trust"] for one in views} == {"listed", "claimed"}


@pytest.mark.parametrize(
    ("attributes", "addresses", "more"),
    [
        ({"a": "b"}, ("10.0.0.1",), {}),
        ({"model": "", "txt.app": "P"}, ("10.0.0.1", "fe80::1"),
         {"model": "P", "addresses": "10.0.0.1 fe80::1"}),
        ({"model": "M", "txt.model": "T", "vendor": "V"}, (), {}),
    ],
)  # fmt: skip
def test_facts_of_a_sighting(
    attributes: dict[str, str], addresses: tuple[str, ...], more: dict[str, str]
) -> None:
    assert with_facts(attributes, addresses) == attributes | more


def test_when_it_was_seen_is_no_fact() -> None:
    assert same_facts(BASE, replace(BASE, at=9.0, valid_for=90.0))
    assert not same_facts(BASE, replace(BASE, attributes={}))
    assert not same_facts(BASE, replace(BASE, trust=Trust.LISTED))
    assert not same_facts(BASE, replace(BASE, addresses=()))
    assert not same_facts(BASE, replace(BASE, is_behind=True))


@pytest.mark.parametrize(
    ("facts", "apart"),
    [
        ({}, False),
        ({"addresses": ("10.0.0.2",)}, True),
        ({"addresses": ("10.0.0.1", "10.0.0.2")}, False),
        ({"addresses": ("fe80::1",)}, False),
        ({"addresses": ()}, False),
        ({"addresses": ("10.0.0.2",), "interface": "lan1"}, False),
        ({"addresses": ("10.0.0.2",), "interface": ""}, True),
        ({"addresses": ("10.0.0.2",), "claims": frozenset({MAC})}, False),
        ({"claims": frozenset({OTHER_MAC})}, True),
        ({"addresses": ("10.0.0.2",), "is_behind": True}, False),
    ],
)
def test_are_apart(facts: dict[str, object], apart: bool) -> None:
    one = replace(BASE, claims=frozenset({MAC}))
    other = replace(BASE, **facts)  # type: ignore[arg-type]  # facts are fields by name
    assert are_apart(one, other) is apart
    assert are_apart(other, one) is apart


def test_a_device_with_two_macs_of_its_own_is_not_apart_from_itself() -> None:
    one, other = (replace(BASE, claims=frozenset({mac})) for mac in (MAC, OTHER_MAC))
    assert are_apart(one, other, OwnClaims({MAC}))
    assert not are_apart(one, other, OwnClaims({MAC, OTHER_MAC}))
