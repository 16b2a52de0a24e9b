"""The makers of children."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from gatewayd.device import identity
from gatewayd.simulator.lan.child import clone, fleet, next_address


def test_the_same_seed_makes_the_same_fleet() -> None:
    assert fleet(50, seed=7) == fleet(50, seed=7)
    assert fleet(50, seed=7) != fleet(50, seed=8)


def test_every_child_is_one_of_its_kind() -> None:
    children = fleet(2000, seed=1)
    for trait in ("instance", "serial", "mac", "host", "address"):
        assert len({getattr(child, trait) for child in children}) == 2000


def test_children_are_plausible() -> None:
    for child in fleet(200, seed=1):
        assert re.fullmatch(r"TH20-[0-9A-F]{6}", child.serial)
        assert not identity.is_local_mac(identity.mac(child.mac))
        assert child.address.startswith("127.1.")
        assert f"serial={child.serial}" in child.text


@pytest.mark.parametrize("n", [-1, 7])
def test_a_network_holds_so_many_and_no_more(n: int) -> None:
    assert [c.address for c in fleet(6, 1, network="10.0.0.0/29")][-1] == "10.0.0.6"
    with pytest.raises(ValueError, match="no room"):
        fleet(n, 1, network="10.0.0.0/29")


def test_a_clone_shares_the_serial_and_nothing_that_must_differ() -> None:
    one = fleet(1, seed=1)[0]
    two = clone(one, next_address([one]), random.Random(1))  # play
    assert two.serial == one.serial
    for trait in ("instance", "mac", "host", "address"):
        assert getattr(two, trait) != getattr(one, trait)


@pytest.mark.parametrize(
    "change", [{"instance": ""}, {"instance": "é" * 32}, {"serial": "x" * 255}]
)
def test_what_dns_cannot_carry_is_no_child(change: dict[str, str]) -> None:
    one = fleet(1, seed=1)[0]
    with pytest.raises(ValueError, match="bytes"):
        replace(one, instance=change.get("instance", "a"), serial=change.get("serial", "b"))
