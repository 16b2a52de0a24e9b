"""The evidence that sightings make together, and when they cannot be of one device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.comparison import are_apart, same_facts
from gatewayd.discovery.device_table import MAX_ADDRESSES, join_evidence
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


def test_when_it_was_seen_is_no_fact() -> None:
    assert same_facts(BASE, replace(BASE, at=9.0, valid_for=90.0))
    assert not same_facts(BASE, replace(BASE, attributes={}))
    assert not same_facts(BASE, replace(BASE, trust=Trust.LISTED))
    assert not same_facts(BASE, replace(BASE, addresses=()))


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
    ],
)
def test_are_apart(facts: dict[str, object], apart: bool) -> None:
    one = replace(BASE, claims=frozenset({MAC}))
    other = replace(BASE, **facts)  # type: ignore[arg-type]  # facts are fields by name
    assert are_apart(one, other, ()) is apart
    assert are_apart(other, one, ()) is apart


def test_a_device_with_two_macs_of_its_own_is_not_apart_from_itself() -> None:
    one, other = (replace(BASE, claims=frozenset({mac})) for mac in (MAC, OTHER_MAC))
    assert are_apart(one, other, {MAC})
    assert not are_apart(one, other, {MAC, OTHER_MAC})
